"""What sensors measure, and what the ground looks like to them.

The reflectances are typical ones, rounded, of what spectral libraries tell apart. Only their shapes over the wavelengths matter
here, not their height.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Nanometres; each surface has one reflectance at each.
_WAVELENGTHS = (443, 490, 560, 610, 665, 705, 740, 783, 842, 865, 945, 1610, 2190)
_SURFACES = (
    (0.020, 0.025, 0.06, 0.05, 0.03, 0.10, 0.28, 0.38, 0.42, 0.44, 0.44, 0.20, 0.09),  # forest
    (0.03, 0.04, 0.08, 0.07, 0.05, 0.12, 0.25, 0.30, 0.33, 0.34, 0.34, 0.24, 0.14),  # grass and crops
    (0.06, 0.08, 0.12, 0.15, 0.17, 0.21, 0.24, 0.26, 0.29, 0.30, 0.31, 0.36, 0.27),  # dry vegetation
    (0.06, 0.08, 0.11, 0.14, 0.16, 0.18, 0.20, 0.21, 0.23, 0.24, 0.25, 0.33, 0.30),  # soil
    (0.13, 0.17, 0.24, 0.30, 0.34, 0.37, 0.375, 0.38, 0.39, 0.385, 0.39, 0.48, 0.45),  # sand
    (0.05, 0.045, 0.035, 0.025, 0.015, 0.012, 0.008, 0.008, 0.006, 0.005, 0.005, 0.003, 0.002),  # clear water
    (0.06, 0.07, 0.09, 0.085, 0.07, 0.06, 0.035, 0.035, 0.025, 0.02, 0.01, 0.005, 0.003),  # turbid water
    (0.95, 0.95, 0.93, 0.92, 0.90, 0.88, 0.87, 0.86, 0.83, 0.81, 0.75, 0.10, 0.08),  # snow
    (0.62, 0.62, 0.62, 0.62, 0.62, 0.63, 0.64, 0.65, 0.66, 0.66, 0.60, 0.48, 0.35),  # clouds
    (0.10, 0.12, 0.14, 0.155, 0.165, 0.175, 0.18, 0.185, 0.20, 0.205, 0.21, 0.24, 0.22),  # sealed ground
)

# Centres of the bands of Sentinel-2 (ESA), Landsat 8 and 9 (USGS) and PlanetScope (Planet), in nanometres; those that sensors
# share differ by less than what tells neighbours apart.
CENTRES = {
    "coastal": 443, "blue": 490, "green_i": 531, "green": 560, "yellow": 610, "red": 665, "rededge1": 705, "rededge2": 740,
    "rededge3": 783, "nir": 842, "nir08": 865, "nir09": 945, "swir16": 1610, "swir22": 2190,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layout:
    """One order in which bands are stored; the less common it is, the better it has to fit by this factor."""

    names: tuple[str, ...]
    handicap: float = 1.0


_VISIBLE = ("blue", "green", "red")
_RED_EDGE = ("rededge1", "rededge2", "rededge3")
_SENTINEL_2 = ("coastal", *_VISIBLE, *_RED_EDGE, "nir", "nir08", "nir09", "swir16", "swir22")
_UNCOMMON = 1.25
_FALSE_COLOUR = 4.0

_COMMON = (
    _VISIBLE,  # also those of a camera
    (*_VISIBLE, "nir"),  # Sentinel-2 at 10 m, PlanetScope
    (*_VISIBLE, "rededge1", "nir"),  # RapidEye
    (*_VISIBLE, "nir", "rededge1"),  # cameras of drones
    (*_VISIBLE, "nir", "swir16", "swir22"),  # Landsat 4 to 9 without the coastal band
    ("coastal", *_VISIBLE, "nir", "swir16", "swir22"),  # Landsat 8 and 9
    ("coastal", "blue", "green_i", "green", "yellow", "red", "rededge1", "nir"),  # PlanetScope, SuperDove
    (*_VISIBLE, *_RED_EDGE, "nir", "nir08", "swir16", "swir22"),  # Sentinel-2 at 20 m with its nir
    (*_VISIBLE, "nir", *_RED_EDGE, "nir08", "swir16", "swir22"),
    (*_VISIBLE, *_RED_EDGE, "nir08", "swir16", "swir22"),  # Sentinel-2 at 20 m
    _SENTINEL_2,
    (*(name for name in _SENTINEL_2 if name != "nir08"), "nir08"),  # files in the order of their names
)


def layouts_of(count: int) -> list[Layout]:
    """Returns the orders of so many bands that are tried: those of sensors, also with red first, and all orders of few."""
    found: dict[tuple[str, ...], float] = {}
    for names in (names for names in _COMMON if len(names) == count):
        for order in (names, _red_first(names)):
            found.setdefault(order, 1.0)
    if count == 3:
        found[("nir", "red", "green")] = _FALSE_COLOUR
    if count in {1, 2, 4}:
        for order in _orders(count):
            found.setdefault(order, _UNCOMMON if count == 4 else 1.0)
    return [Layout(names, handicap) for names, handicap in found.items()]


def _red_first(names: tuple[str, ...]) -> tuple[str, ...]:
    swapped = {"red": "blue", "blue": "red"}
    return tuple(swapped.get(name, name) for name in names)


def _orders(count: int) -> list[tuple[str, ...]]:
    return list(permutations((*_VISIBLE, "nir"), count))


def spectra(names: tuple[str, ...]) -> Floats:
    """Returns the reflectance of each surface in bands of these names, (surface, band)."""
    centres = [CENTRES[name] for name in names]
    return np.array([np.interp(centres, _WAVELENGTHS, surface) for surface in _SURFACES])
