"""Reads the bands that a picture is made of, and says which of their pixels are valid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from geopera_server.raster.readers import Reader
from geopera_server.raster.tiles.levels import Level, Part
from geopera_server.raster.tiles.sampling import Bools, Pixels


@dataclass(frozen=True)
class Values:
    """Bands (band, row, column) and where they are valid (row, column); None means everywhere."""

    pixels: Pixels
    valid: Bools | None


def read_values(
    reader: Reader, level: Level, part: Part, bands: tuple[int, ...], *, nodata: float | None = None, all_bands: bool = False
) -> Values:
    """The bands of a part of a level; complex ones as magnitudes.

    `nodata` takes the place of the file's own. A pixel is valid when one of its bands is; with `all_bands`, when all are,
    as arithmetic between them needs.
    """
    facts = reader.facts
    wanted = bands if facts.alpha is None or facts.alpha in bands else (*bands, facts.alpha)
    read = reader.read(wanted, level, part)
    pixels = read[: len(bands)]
    if pixels.dtype.kind == "c":
        pixels = np.abs(pixels)
    valid = _present(pixels, facts.nodata if nodata is None else nodata, all_bands=all_bands)
    if len(wanted) > len(bands):
        valid = _both(valid, read[-1] > 0)
    if facts.masked:
        valid = _both(valid, reader.read_mask(level, part))
    return Values(pixels, None if valid is None or valid.all() else valid)


def _present(pixels: Pixels, nodata: float | None, *, all_bands: bool) -> Bools | None:
    """Where a pixel is a finite number and not the nodata value; None where nothing can be invalid."""
    joined = np.logical_and if all_bands else np.logical_or
    if pixels.dtype.kind == "f":
        present = np.isfinite(pixels)
        if nodata is not None and np.isfinite(nodata):
            present &= pixels != pixels.dtype.type(nodata)
    elif nodata is None or not np.isfinite(nodata) or not _holds(pixels.dtype, nodata):
        return None
    else:
        present = pixels != pixels.dtype.type(nodata)
    whole: Bools = joined.reduce(present, axis=0) if len(present) > 1 else present[0]
    return whole


def _holds(dtype: np.dtype[Any], nodata: float) -> bool:
    limits = np.iinfo(dtype)
    return nodata == int(nodata) and limits.min <= nodata <= limits.max


def _both(one: Bools | None, other: Bools) -> Bools:
    return other if one is None else one & other
