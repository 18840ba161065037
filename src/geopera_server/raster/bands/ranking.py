"""Ranks the orders in which bands may be stored by how well the pixels fit what sensors see.

A pixel fits an order of bands as far as it is a mixture of two kinds of ground, in whatever brightness: numbers need no scale.
Pixels that are grey in all bands tell nothing, and weigh as little.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from geopera_server.raster.bands.signatures import Floats, Layout, layouts_of, spectra

FEWEST_PIXELS, MOST_PIXELS = 16, 2_000
NO_FIT = 0.15
"""The mean distance of pixels from the nearest mixture, as a share of their brightness, beyond which nothing is named."""

MOST_CLASSES = 16
_CERTAIN_MARGIN = 1.1
_CERTAIN_DISTANCE = 0.005
# Reflectance is number x 0.0000275 - 0.2 in Landsat's Collection 2, (number - 1000) / 10000 in Sentinel-2's baseline 04.00.
_LANDSAT_ZERO, _LANDSAT_DARKEST = 0.2 / 0.0000275, 6_000
_SENTINEL_ZERO, _SENTINEL_DARKEST = 1_000, (950, 1_600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Pixels of a raster, (band, pixel), as they are stored and valid in all bands; `alpha` is the alpha band, from 0."""

    values: Floats
    dtype: str
    alpha: int | None = None
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()


def suggested(sample: Sample) -> list[str | None]:
    """Returns a name for each band: None for one that holds no reflectance, and where nothing is likely.

    Of fewer than three bands only what is certain is named.
    """
    names: list[str | None] = [None] * len(sample.values)
    spectral = _spectral(sample)
    if sample.values.shape[1] < FEWEST_PIXELS or not spectral:
        return names
    ranked = sorted(
        (layout.handicap * distance(pixels, layout), layout.names)
        for layout in layouts_of(len(spectral))
        for pixels in _readings(sample, spectral)
    )
    if not ranked or ranked[0][0] > NO_FIT:
        return names
    found: tuple[str | None, ...] = ranked[0][1]
    if len(spectral) < 3:
        limit = ranked[0][0] * _CERTAIN_MARGIN + _CERTAIN_DISTANCE
        likely = [order for fit, order in ranked if fit <= limit]
        found = tuple(name if all(order[place] == name for order in likely) else None for place, name in enumerate(found))
    for band, name in zip(spectral, found, strict=True):
        names[band] = name
    return names


def distance(pixels: Floats, layout: Layout) -> float:
    """Returns how far pixels (pixel, band) are from mixtures of two kinds of ground, as a share of their brightness."""
    ground = spectra(layout.names)
    squares = (pixels * pixels).sum(axis=1)
    products, inner = pixels @ ground.T, ground @ ground.T
    # Of a mixture that is best with less than nothing of one kind, the other kind alone is the best there is.
    left = squares - (np.maximum(products, 0) ** 2 / np.diag(inner)).max(axis=1)
    for one, other in combinations(range(len(ground)), 2):
        area = inner[one, one] * inner[other, other] - inner[one, other] ** 2
        if area < 1e-9:
            continue
        some = (inner[other, other] * products[:, one] - inner[one, other] * products[:, other]) / area
        rest = (inner[one, one] * products[:, other] - inner[one, other] * products[:, one]) / area
        mixed = squares - some * products[:, one] - rest * products[:, other]
        left = np.where((some >= 0) & (rest >= 0), np.minimum(left, mixed), left)
    shares = np.sqrt(np.maximum(left, 0) / np.maximum(squares, 1e-12))
    weights = _contrast(pixels) ** 2
    total = float(weights.sum())
    return float((shares * weights).sum() / total) if total > 0 else 1.0


def _contrast(pixels: Floats) -> Floats:
    brightest = pixels.max(axis=1)
    contrast: Floats = np.where(brightest > 0, 1 - pixels.min(axis=1) / np.maximum(brightest, 1e-12), 0)
    return contrast


def _spectral(sample: Sample) -> list[int]:
    """Returns the bands that can hold reflectance: no alpha band, no classes, nothing constant."""
    return [
        band
        for band, values in enumerate(sample.values)
        if band != sample.alpha and len(np.unique(values)) > MOST_CLASSES and float(np.median(values)) >= 0
    ]


def _readings(sample: Sample, bands: list[int]) -> list[Floats]:
    """Returns the pixels (pixel, band) as reflectance up to a factor, in each way that their numbers can be read."""
    stored = sample.values[bands, :: max(1, sample.values.shape[1] // MOST_PIXELS)].T
    if any(offset != 0 for offset in sample.offsets):
        scales, offsets = np.array(sample.scales)[bands], np.array(sample.offsets)[bands]
        return [np.maximum(stored * scales + offsets, 0)]
    if sample.dtype == "uint16":
        darkest = float(np.percentile(stored.min(axis=1), 1))
        if darkest >= _LANDSAT_DARKEST:
            return [np.maximum(stored - _LANDSAT_ZERO, 0)]
        if _SENTINEL_DARKEST[0] <= darkest <= _SENTINEL_DARKEST[1]:
            return [np.maximum(stored, 0), np.maximum(stored - _SENTINEL_ZERO, 0)]
    return [np.maximum(stored, 0)]
