"""What the bands of a raster show, learnt from their names, the file's key and the sensor. Pure.

A role is what a band shows, in the words that STAC calls common names; red edges and the polarisations of radar are told apart.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_SHIFTED_SINCE = 4.0
SHIFTED_BY = (
    "s2:processing_baseline", "sentinel:processing_baseline", "earthsearch:boa_offset_applied", "sentinel:boa_offset_applied",
)  # fmt: skip
ROLES = (
    "coastal", "blue", "green", "yellow", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "nir09", "cirrus",
    "swir16", "swir22", "pan", "lwir11", "lwir12", "vv", "vh", "hh", "hv", "elevation",
)  # fmt: skip

_OTHER_SPELLINGS = {
    "coastal_blue": "coastal", "coastalblue": "coastal", "aerosol": "coastal", "ultrablue": "coastal", "b": "blue",
    "g": "green", "r": "red", "n": "nir", "rededge": "rededge1", "red_edge": "rededge1", "rededge071": "rededge1",
    "rededge075": "rededge2",
    "rededge078": "rededge3", "red_edge_1": "rededge1", "red_edge_2": "rededge2", "red_edge_3": "rededge3", "re1": "rededge1",
    "re2": "rededge2", "re3": "rededge3", "near_infrared": "nir", "nir1": "nir", "nir2": "nir08", "narrow_nir": "nir08",
    "nir_narrow": "nir08", "water_vapour": "nir09", "swir1": "swir16", "swir2": "swir22", "swir_1": "swir16",
    "swir_2": "swir22", "panchromatic": "pan", "thermal": "lwir11", "lwir": "lwir11", "tir": "lwir11", "tir1": "lwir11",
    "tir2": "lwir12", "dem": "elevation", "dsm": "elevation", "dtm": "elevation", "height": "elevation", "depth": "elevation",
    "bathymetry": "elevation",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """How one kind of sensor names or orders its bands, and how its numbers become reflectance: number x scale + offset."""

    title: str
    platforms: str
    by_name: Mapping[str, str]
    names: str | None = None
    in_order: Sequence[tuple[str | None, ...]] = ()
    scale: float | None = None
    offset: float = 0.0


_OLI = {
    "1": "coastal", "2": "blue", "3": "green", "4": "red", "5": "nir", "6": "swir16", "7": "swir22", "8": "pan", "9": "cirrus",
    "10": "lwir11", "11": "lwir12",
}  # fmt: skip
_TM = {"1": "blue", "2": "green", "3": "red", "4": "nir", "5": "swir16", "6": "lwir11", "7": "swir22", "8": "pan"}
_MSI = {
    "01": "coastal", "02": "blue", "03": "green", "04": "red", "05": "rededge1", "06": "rededge2", "07": "rededge3",
    "08": "nir", "8A": "nir08", "09": "nir09", "10": "cirrus", "11": "swir16", "12": "swir22",
}  # fmt: skip
_BGRN, _RGBN = ("blue", "green", "red", "nir"), ("red", "green", "blue", "nir")

# Names and orders from the product guides of ESA, USGS, Planet, Airbus, Maxar and USDA. A name with a platform's title in
# front of it counts where the platform is told; of the rest only those that nobody else uses.
SENTINEL_2 = Sensor(
    title="Sentinel-2",
    platforms=r"sentinel-?2",
    names=r"B(0[1-9]|8A|1[0-2])",
    by_name=_MSI,
    in_order=(
        tuple(_MSI.values()),
        tuple(role for name, role in _MSI.items() if name != "10"),
    ),
    scale=0.0001,
)
SENSORS = (
    SENTINEL_2,
    Sensor(
        title="Landsat 8 and 9",
        platforms=r"landsat-?[89]",
        names=r"(?:SR_|ST_)B(\d{1,2})",
        by_name=_OLI,
        scale=0.0000275,
        offset=-0.2,
    ),
    Sensor(title="Landsat 4, 5 and 7", platforms=r"landsat-?[457]", names=None, by_name=_TM, scale=0.0000275, offset=-0.2),
    Sensor(
        title="PlanetScope",
        platforms=r"planetscope|superdove",
        by_name={},
        in_order=(_BGRN, ("coastal", "blue", None, "green", "yellow", "red", "rededge1", "nir")),
        scale=0.0001,
    ),
    Sensor(title="SkySat", platforms=r"skysat", by_name={}, in_order=(_BGRN,), scale=0.0001),
    Sensor(
        title="WorldView",
        platforms=r"worldview-?[23]|wv-?[23]",
        by_name={},
        in_order=(("coastal", "blue", "green", "yellow", "red", "rededge1", "nir", "nir08"), _BGRN),
    ),
    Sensor(title="Pléiades and SPOT", platforms=r"phr|pl[eé]iades|pneo|spot-?[67]", by_name={}, in_order=(_RGBN,)),
    Sensor(title="NAIP", platforms=r"naip", by_name={}, in_order=(_RGBN,)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bands:
    """The bands of one asset: how many, by which names formulas may call them, and which band shows what."""

    count: int
    names: tuple[str, ...] = ()
    roles: Mapping[str, int]
    sensor: Sensor | None = None

    @property
    def numbers(self) -> dict[str, int]:
        """Returns every name that a formula may use with its 1-based band: b1 to bN, then names, then roles."""
        known = {f"b{number}": number for number in range(1, self.count + 1)}
        for number, name in enumerate(self.names, start=1):
            known.setdefault(name, number)
        for number, name in enumerate(self.names, start=1):
            known.setdefault(name.lower(), number)
        for role, number in self.roles.items():
            known.setdefault(role, number)
        return known


def role_of(word: str) -> str | None:
    """Returns the role that a word stands for, as `SWIR-1` for swir16; None for words that are no role."""
    plain = re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")
    return plain if plain in ROLES else _OTHER_SPELLINGS.get(plain)


def sentinel_2_offset(properties: Mapping[str, Any]) -> float:
    """Returns what is added to scaled numbers: since baseline 04.00 Sentinel-2 stores 1,000 more, unless its host took it off.

    Source: Sentinel-2 Products Specification Document, BOA_ADD_OFFSET.
    """
    if properties.get("earthsearch:boa_offset_applied", properties.get("sentinel:boa_offset_applied")) is True:
        return 0.0
    told = str(properties.get("s2:processing_baseline") or properties.get("sentinel:processing_baseline") or "")
    return -0.1 if re.fullmatch(r"\d{1,2}(\.\d+)?", told) and float(told) >= _SHIFTED_SINCE else 0.0


def bands_of(asset: Mapping[str, Any], properties: Mapping[str, Any] | None = None) -> Bands:
    """Returns what is known of the bands of an asset whose item has these STAC properties."""
    count = int(asset["band_count"] or len(asset["band_names"]) or 1)
    names = tuple(asset["band_names"])
    told = tuple(name for name in names if not re.fullmatch(r"b\d+", name))
    sensor = _sensor_of(platform_of(properties or {}), told or (asset["key"],))
    if sensor is SENTINEL_2:
        sensor = dataclasses.replace(sensor, offset=sentinel_2_offset(properties or {}))
    roles: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        role = _role_by(sensor, name)
        if role is not None:
            roles.setdefault(role, number)
    if count == 1 and not roles and (role := _role_by(sensor, asset["key"])) is not None:
        roles = {role: 1}
    if not told and not roles and sensor is not None:
        order = next((order for order in sensor.in_order if len(order) == count), ())
        roles = {role: number for number, role in enumerate(order, start=1) if role is not None}
    return Bands(count=count, names=names, roles=roles, sensor=sensor)


def platform_of(properties: Mapping[str, Any]) -> str:
    """Returns what STAC properties say of the platform, in lower case."""
    words = [properties.get(name) for name in ("platform", "constellation", "mission", "geopera:collection")]
    instruments = properties.get("instruments")
    words += instruments if isinstance(instruments, list) else []
    return " ".join(word.lower() for word in words if isinstance(word, str))


def _sensor_of(platform: str, names: Sequence[str]) -> Sensor | None:
    for sensor in SENSORS:
        if platform and re.search(sensor.platforms, platform):
            return sensor
    by_names = (sensor for sensor in SENSORS if sensor.names and any(re.fullmatch(sensor.names, name) for name in names))
    return next(by_names, None)


def _role_by(sensor: Sensor | None, name: str) -> str | None:
    if sensor is not None and sensor.by_name and not re.fullmatch(r"b\d+", name):
        number = re.fullmatch(r"(?:SR_|ST_)?B(\d{1,2}|8A)", name)
        if number is not None:
            return sensor.by_name.get(number[1])
    return role_of(name)
