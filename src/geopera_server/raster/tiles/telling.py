"""Says what a client of tiles has to know of a raster."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from geopera_server.raster.info import shown_nodata
from geopera_server.raster.layout import Colormap
from geopera_server.raster.readers import POOL, Target
from geopera_server.raster.tiles.facts import Facts
from geopera_server.raster.tiles.mercator import MAX_ZOOM, zoom_of_resolution

TILE_PX = 256


@dataclass(frozen=True, kw_only=True)
class TileInfo:
    """A raster as its tiles see it; `bounds_wgs84` has west greater than east across the antimeridian.

    From `minzoom` on the raster is larger than a tile; at `maxzoom` its pixels are no smaller than a tile's, give or take 7 %.
    """

    bounds_wgs84: tuple[float, float, float, float]
    minzoom: int
    maxzoom: int
    width: int
    height: int
    band_count: int
    band_names: tuple[str, ...]
    dtype: str
    nodata: float | str | None
    colorinterp: tuple[str, ...]
    colormap: Colormap | None
    categorical: bool
    overviews: int


def info(target: Target) -> TileInfo:
    """Reads the header of a raster; raises SourceError or TooLarge."""
    with POOL.lent(target) as reader:
        facts = reader.facts
    zoom = _own_zoom(facts)
    steps = math.log2(max(facts.width, facts.height) / TILE_PX)
    # Maps draw no finer than this: rounding down would keep up to half of the pixels from them.
    maxzoom = min(max(math.ceil(zoom - 0.1), 0), MAX_ZOOM)
    return TileInfo(
        bounds_wgs84=facts.bounds_wgs84,
        minzoom=min(max(math.floor(zoom - steps), 0), maxzoom),
        maxzoom=maxzoom,
        width=facts.width,
        height=facts.height,
        band_count=facts.band_count,
        band_names=facts.band_names,
        dtype=facts.dtype,
        nodata=shown_nodata(facts.nodata),
        colorinterp=facts.colorinterp,
        colormap=facts.palette,
        categorical=facts.categorical,
        overviews=sum(level.thinning == 1 for level in facts.levels) - 1,
    )


def _own_zoom(facts: Facts) -> float:
    """The zoom level, with fractions, at which the raster's middle pixel is as large as a tile's."""
    gsd = facts.grid.gsd_m()
    if gsd is None:
        return 0.0
    middle = facts.grid.lonlat_of_pixels(np.array([[facts.width / 2, facts.height / 2]]))[0][1]
    stretched = math.cos(math.radians(min(abs(float(middle)), 85.0)))
    return zoom_of_resolution(gsd / stretched)
