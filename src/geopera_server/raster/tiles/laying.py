"""Gives the values of a raster at the pixels of a tile, for what is made of several rasters."""

from __future__ import annotations

import numpy as np

from geopera_server.raster.readers import Reader
from geopera_server.raster.tiles.mercator import Tile
from geopera_server.raster.tiles.placing import blocks_of, placed
from geopera_server.raster.tiles.sampling import nearest
from geopera_server.raster.tiles.values import Values, read_values


def values_on_tile(
    reader: Reader, wanted: Tile, bands: tuple[int, ...], *, nodata: float | None = None, all_bands: bool = False
) -> Values | None:
    """The nearest values of the bands at each pixel of the tile; None where the raster does not meet it.

    A pixel is valid when one of its bands is, or with `all_bands` when all are; the others are 0.
    """
    pixels = np.zeros((len(bands), wanted.size, wanted.size), dtype=_dtype(reader))
    valid = np.zeros((wanted.size, wanted.size), dtype=np.bool_)
    for block in blocks_of(reader.facts, wanted):
        found = placed(reader.facts, wanted, block)
        if found is None:
            continue
        values = read_values(reader, found.level, found.part, bands, nodata=nodata, all_bands=all_bands)
        across = slice(block.column, block.column + block.width)
        for strip in found.strips():
            sampled = nearest(values.pixels, strip)
            rows = slice(block.row + strip.top, block.row + strip.top + sampled.shape[-2])
            pixels[:, rows, across] = sampled
            seen = np.True_ if values.valid is None else nearest(values.valid, strip)
            valid[rows, across] = seen if strip.inside is None else seen & strip.inside
    return Values(pixels, valid) if valid.any() else None


def _dtype(reader: Reader) -> np.dtype[np.generic]:
    dtype = np.dtype(reader.facts.dtype)
    return np.dtype(np.float32) if dtype.kind == "c" else dtype
