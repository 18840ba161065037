"""Figures over the valid pixels of a raster, or of what lies in an AOI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geopera_server.raster.errors import NoValidPixels
from geopera_server.raster.figures import Histogram, RasterStats
from geopera_server.raster.formula import Formula
from geopera_server.raster.readers import POOL, Target
from geopera_server.raster.tiles.choosing import bands_of
from geopera_server.raster.tiles.overviewing import bands_in_view, view_of
from geopera_server.raster.tiles.rendering import Rendering

HISTOGRAM_BINS = 32


@dataclass(frozen=True, kw_only=True)
class BandStats:
    """The figures of one band, or of a formula, which has no band number; `sampled` when not every pixel was read."""

    band: int | None
    name: str
    statistics: RasterStats
    sampled: bool


def statistics(
    target: Target,
    *,
    bands: Sequence[int] | None = None,
    formula: Formula | None = None,
    geometry: dict[str, Any] | None = None,
    percentiles: Sequence[float] = (2, 98),
    max_px: int = 2048,
    nodata: float | None = None,
) -> list[BandStats]:
    """Figures of the bands (default all but alpha) or of a formula, of all pixels that the geometry touches.

    Read at the finest overview with at most `max_px` pixels on the longer side. Raises NoValidPixels when no band has a
    valid pixel (a band without one beside others is left out), SourceError, InvalidAoi, TooLarge or Unrenderable.
    """
    with POOL.lent(target) as reader:
        facts = reader.facts
        numbers = tuple(bands) if bands is not None else facts.data_bands
        for number in numbers:
            bands_of(facts, Rendering(bands=(number,)))
        if formula is not None:
            bands_of(facts, Rendering(formula=formula))
        view = view_of(reader, geometry, max_px)
        found: list[BandStats] = []
        for place, (values, pixels) in enumerate(bands_in_view(reader, view, numbers, formula, nodata)):
            if values.size:
                band = numbers[place] if formula is None else None
                name = facts.band_names[band - 1] if band is not None else formula.text if formula else ""
                stats = stats_of(values, pixels, percentiles)
                found.append(BandStats(band=band, name=name, statistics=stats, sampled=view.level.x > 1))
    if not found:
        raise NoValidPixels(target.href)
    return found


def stats_of(values: npt.NDArray[Any], pixels: int, percentiles: Sequence[float] = (2, 98)) -> RasterStats:
    """The figures of valid values (one dimension, not empty) out of so many pixels."""
    wide = values.astype(np.float64)
    asked = np.percentile(wide, [2, 98, 50, *percentiles])
    counts, edges = np.histogram(wide, bins=HISTOGRAM_BINS)
    return RasterStats(
        min=float(wide.min()),
        max=float(wide.max()),
        mean=float(wide.mean()),
        median=float(asked[2]),
        std=float(wide.std()),
        sum=float(wide.sum()),
        p2=float(asked[0]),
        p98=float(asked[1]),
        percentiles={f"{percent:g}": float(value) for percent, value in zip(percentiles, asked[3:], strict=True)},
        valid_pixels=int(wide.size),
        nodata_pixels=int(pixels - wide.size),
        valid_percent=100.0 * wide.size / pixels,
        histogram=Histogram(counts=[int(count) for count in counts], edges=[float(edge) for edge in edges]),
    )
