"""Takes pixels of a part of a raster at the places that a tile asks for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from geopera_server.raster.tiles.placing import Floats32, Strip

Bools = npt.NDArray[np.bool_]
Pixels = npt.NDArray[Any]


def nearest(values: Pixels, strip: Strip) -> Pixels:
    """The values (..., row, column) of the pixels that hold each place; any value where a place is outside the part."""
    height, width = values.shape[-2:]
    columns, rows = _cells(strip.x, width, strip), _cells(strip.y, height, strip)
    if columns.shape[0] == 1 and rows.shape[1] == 1:
        picked: Pixels = values.take(rows[:, 0], axis=-2).take(columns[0], axis=-1)
        return picked
    flat = values.reshape(*values.shape[:-2], -1)
    rows *= width
    return flat.take(rows + columns, axis=-1)


def bilinear(values: Pixels, valid: Bools | None, strip: Strip) -> Floats32:
    """The values (band, row, column) interpolated between the four nearest pixel centres, as float32.

    Invalid neighbours count nothing; where the pixel that holds the place is invalid itself, the value is any.
    """
    height, width = values.shape[-2:]
    left, right, across = _between(strip.x, width)
    top, bottom, down = _between(strip.y, height)
    flat = values.reshape(len(values), -1)
    known = None if valid is None else valid.ravel()
    shape = np.broadcast_shapes(left.shape, top.shape)
    total = np.zeros((len(values), *shape), dtype=np.float32)
    weights = np.zeros(shape, dtype=np.float32)
    for rows, share_y in ((top, 1 - down), (bottom, down)):
        for columns, share_x in ((left, 1 - across), (right, across)):
            index, weight = rows * width + columns, share_y * share_x
            if known is not None:
                present = known.take(index)
                weight = weight * present
                weights += weight
                total += np.where(present, flat.take(index, axis=1), np.float32(0)) * weight
            else:
                total += flat.take(index, axis=1) * weight
    if known is not None:
        np.divide(total, weights, out=total, where=weights > 0)
    return total


def _cells(places: Floats32, size: int, strip: Strip) -> npt.NDArray[np.intp]:
    if strip.inside is None:
        return places.astype(np.intp)
    with np.errstate(invalid="ignore"):
        cells = places.astype(np.intp)
    return np.clip(cells, 0, size - 1, out=cells)


def _between(places: Floats32, size: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats32]:
    """The two neighbours' indices and how far between their centres each place lies."""
    with np.errstate(invalid="ignore"):
        low = np.floor(places - np.float32(0.5))
        share = places - np.float32(0.5) - low
        first = low.astype(np.intp)
    share = np.nan_to_num(share)
    return np.clip(first, 0, size - 1), np.clip(first + 1, 0, size - 1), share
