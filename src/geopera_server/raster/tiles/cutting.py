"""Lays an AOI over a tile or over a part of a raster."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import numpy as np
import orjson
import shapely
from rasterio.features import rasterize
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from geopera_server.raster.aoi import aoi_in_pixels, aoi_polygons, pixels_inside
from geopera_server.raster.georef import Floats
from geopera_server.raster.tiles.facts import Facts
from geopera_server.raster.tiles.levels import Level, Part
from geopera_server.raster.tiles.mercator import EARTH_RADIUS_M, MAX_LATITUDE, Tile
from geopera_server.raster.tiles.sampling import Bools

# A straight line in degrees is curved in Mercator: by 2 cm over a hundredth of a degree.
PIECE_DEGREES = 0.01
MAX_PIECES = 20_000
_KEPT = 64

_lock = threading.Lock()
_kept: OrderedDict[bytes, BaseGeometry] = OrderedDict()


def key_of(aoi: dict[str, Any] | None) -> bytes | None:
    """A word for the AOI's content."""
    return None if aoi is None else orjson.dumps(aoi)


def inside_aoi(aoi: dict[str, Any], tile: Tile) -> Bools | None:
    """True for tile pixels whose centre lies in the AOI, (row, column); None when all do. Raises InvalidAoi."""
    whole = _in_mercator(aoi)
    east, north = tile.eastings(np.array([0.0, tile.size])), tile.northings(np.array([tile.size, 0.0]))
    square = box(east[0], north[0], east[1], north[1])
    if whole.covers(square):
        return None
    part = whole.intersection(square)
    if part.is_empty or part.area == 0:
        return np.zeros((tile.size, tile.size), dtype=np.bool_)
    burnt = rasterize([(part, 1)], out_shape=(tile.size, tile.size), transform=tile.transform, dtype="uint8")
    return np.asarray(burnt, dtype=np.bool_)


def part_around(aoi: dict[str, Any], facts: Facts, level: Level) -> tuple[Part, Bools] | None:
    """The part of a level that holds the AOI, and which of its pixels the AOI touches; None where they do not meet."""
    geometry = aoi_in_pixels(aoi, facts.grid)
    if geometry.is_empty:
        return None
    scaled = shapely.affinity.scale(geometry, 1 / level.x, 1 / level.y, origin=(0, 0))
    left, top, right, bottom = scaled.bounds
    column, row = min(int(left), level.width - 1), min(int(top), level.height - 1)
    wide, high = max(1, int(np.ceil(right)) - column), max(1, int(np.ceil(bottom)) - row)
    part = Part(column, row, min(wide, level.width - column), min(high, level.height - row))
    return part, pixels_inside(scaled, Level(level.width, level.height, 1, 1).window(part))


def _in_mercator(aoi: dict[str, Any]) -> BaseGeometry:
    key = orjson.dumps(aoi)
    with _lock:
        found = _kept.get(key)
        if found is not None:
            _kept.move_to_end(key)
            return found
    made = _projected(aoi)
    with _lock:
        _kept[key] = made
        while len(_kept) > _KEPT:
            _kept.popitem(last=False)
    return made


def _projected(aoi: dict[str, Any]) -> BaseGeometry:
    polygons = aoi_polygons(aoi)
    world = box(-180.0, -MAX_LATITUDE, 180.0, MAX_LATITUDE)
    turned = [shapely.affinity.translate(polygons, xoff=turn).intersection(world) for turn in (-360.0, 0.0, 360.0)]
    joined = shapely.union_all(turned)
    fine = shapely.segmentize(joined, max(PIECE_DEGREES, joined.length / MAX_PIECES))
    made: BaseGeometry = shapely.transform(fine, _mercator)
    shapely.prepare(made)
    return made


def _mercator(lonlat: Floats) -> Floats:
    longitudes, latitudes = np.radians(lonlat[:, 0]), np.radians(lonlat[:, 1])
    return EARTH_RADIUS_M * np.column_stack([longitudes, np.arcsinh(np.tan(latitudes))])
