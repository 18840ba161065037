"""Takes pixels of a part of a raster at the places that a tile asks for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from geopera_server.raster.tiles.placing import Floats32, Placed

Bools = npt.NDArray[np.bool_]
Pixels = npt.NDArray[Any]


def nearest(values: Pixels, placed: Placed) -> Pixels:
    """The values (..., row, column) of the pixels that hold each place; any value where a place is outside the part."""
    columns, rows = _cells(placed.x, placed.part.width), _cells(placed.y, placed.part.height)
    if columns.shape[0] == 1 and rows.shape[1] == 1:
        picked: Pixels = values.take(rows[:, 0], axis=-2).take(columns[0], axis=-1)
        return picked
    flat = values.reshape(*values.shape[:-2], -1)
    return flat.take(rows * placed.part.width + columns, axis=-1)


def bilinear(values: Pixels, valid: Bools | None, placed: Placed) -> Floats32:
    """The values (band, row, column) interpolated between the four nearest pixel centres, as float32.

    Invalid neighbours count nothing; where the pixel that holds the place is invalid itself, the value is any.
    """
    height, width = placed.part.height, placed.part.width
    left, right, across = _between(placed.x, width)
    top, bottom, down = _between(placed.y, height)
    flat = np.ascontiguousarray(values, dtype=np.float32).reshape(len(values), -1)
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


def _cells(places: Floats32, size: int) -> npt.NDArray[np.intp]:
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
