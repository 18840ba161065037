"""Heights as colours: Mapbox Terrain-RGB, height = -10000 + 0.1 · (red · 65536 + green · 256 + blue) metres."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from geopera_server.raster.tiles.colouring import Packed
from geopera_server.raster.tiles.encoding import encoded_exactly
from geopera_server.raster.tiles.sampling import Bools, Pixels

BASE_M = -10_000.0
STEP_M = 0.1
_HIGHEST = 256**3 - 1


def in_terrain(heights: Pixels, valid: Bools | None, *, invert: bool = False) -> Packed:
    """Heights (row, column) in metres as colours; no-data is 0 m, and `invert` makes heights of depths."""
    metres = heights.astype(np.float64)
    if invert:
        metres = -metres
    if valid is not None:
        metres = np.where(valid, metres, 0.0)
    steps = np.clip(np.rint((metres - BASE_M) / STEP_M), 0, _HIGHEST).astype(np.uint32)
    picture = np.empty((*steps.shape, 4), dtype=np.uint8)
    picture[..., 0] = steps >> 16
    picture[..., 1] = steps >> 8 & 0xFF
    picture[..., 2] = steps & 0xFF
    picture[..., 3] = 255
    return picture.view(np.uint32)[..., 0]


@lru_cache(maxsize=4)
def sea_level(size: int) -> Packed:
    """A tile of 0 m, as every place without data is."""
    return in_terrain(np.zeros((size, size)), None)


@lru_cache(maxsize=4)
def sea_level_tile(size: int) -> bytes:
    return encoded_exactly(sea_level(size))
