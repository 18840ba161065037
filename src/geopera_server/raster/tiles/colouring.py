"""Turns values into colours: (row, column) of packed red, green, blue and alpha, four bytes each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from geopera_server.raster.tiles.sampling import Bools, Pixels
from geopera_server.raster.tiles.values import Values

Packed = npt.NDArray[np.uint32]
Table = npt.NDArray[np.uint8]
Range = tuple[float, float]

TRANSPARENT = np.uint32(0)


def in_grey_or_colour(values: Values, rescale: Sequence[Range] | None) -> Packed:
    """One band as grey, three as red, green and blue; without `rescale` the values are taken as bytes."""
    height, width = values.pixels.shape[1:]
    picture = np.empty((height, width, 4), dtype=np.uint8)
    for index, band in enumerate(values.pixels):
        stretched = band if rescale is None else as_bytes(band, rescale[min(index, len(rescale) - 1)])
        picture[..., index] = stretched if stretched.dtype == np.uint8 else np.clip(stretched, 0, 255)
    if len(values.pixels) == 1:
        picture[..., 1] = picture[..., 2] = picture[..., 0]
    picture[..., 3] = 255
    return _masked(picture.view(np.uint32)[..., 0], values.valid)


def in_colormap(values: Values, rescale: Range | None, table: Table) -> Packed:
    """One band through a table of 256 colours, (256, 4); without `rescale` the values are taken as bytes."""
    band = values.pixels[0]
    index = band if rescale is None else as_bytes(band, rescale)
    if index.dtype != np.uint8:
        index = np.clip(index, 0, 255).astype(np.uint8)
    packed = np.ascontiguousarray(table).view(np.uint32)[:, 0]
    return _masked(packed.take(index), values.valid)


def in_categories(values: Values, colours: Sequence[tuple[float, tuple[int, int, int, int]]]) -> Packed:
    """One band by the colours of its values; a value without a colour is transparent."""
    band = values.pixels[0]
    ordered = sorted(colours)
    keys = np.array([value for value, _ in ordered], dtype=np.float64)
    packed = np.array([colour for _, colour in ordered], dtype=np.uint8).view(np.uint32)[:, 0]
    place = np.minimum(np.searchsorted(keys, band), len(keys) - 1)
    known = keys[place] == band
    return _masked(np.where(known, packed[place], TRANSPARENT), values.valid)


def as_bytes(band: Pixels, rescale: Range) -> Pixels:
    """Stretches a range of values over 0 to 255, rounded; what lies outside takes the nearer end."""
    low, high = rescale
    if band.dtype.kind in "iu" and band.dtype.itemsize <= 2:
        unsigned = band.view(f"u{band.dtype.itemsize}")
        return _byte_table(band.dtype.str, low, high).take(unsigned)
    wide = band.astype(np.float64 if band.dtype.itemsize > 4 or band.dtype.kind in "iu" else np.float32)
    return _stretched(wide, low, high)


def _stretched(band: Pixels, low: float, high: float) -> Pixels:
    band -= band.dtype.type(low)
    band *= band.dtype.type(255.0 / (high - low))
    np.nan_to_num(band, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    band += band.dtype.type(0.5)
    return np.clip(band, 0, 255, out=band).astype(np.uint8)


@lru_cache(maxsize=256)
def _byte_table(dtype: str, low: float, high: float) -> Table:
    size = np.dtype(dtype).itemsize
    every = np.arange(256**size, dtype=f"u{size}").view(dtype)
    return _stretched(every.astype(np.float64), low, high)


def _masked(picture: Packed, valid: Bools | None) -> Packed:
    if valid is not None:
        picture = np.where(valid, picture, TRANSPARENT)
    return picture
