"""Lays an AOI (a GeoJSON polygon in WGS84) over a pixel grid.

A pixel belongs to the AOI when any part of it does: who ordered an area gets all of it, and an AOI smaller than a
pixel gets that pixel. An AOI edge is a straight line in longitude and latitude, as RFC 7946 has it, so it is cut into
short pieces before it is bent into the raster's reference system.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio.features
import shapely
from affine import Affine
from rasterio.windows import Window
from shapely.geometry import MultiPolygon, Polygon, box, shape
from shapely.geometry.base import BaseGeometry
from shapely.validation import make_valid

from geopera_server.raster.errors import InvalidAoi
from geopera_server.raster.georef import Floats, Grid, polygons_in

# 0.01° is about 1.1 km; a chord of that length is within centimetres of the true line in any usual projection.
PIECE_DEGREES = 0.01
MAX_PIECES = 20_000

# Reprojection noise on an edge that coincides with a pixel border must not pull in the next row of pixels.
BORDER_TOLERANCE_PX = 1e-3


def aoi_in_pixels(aoi: dict[str, Any], grid: Grid) -> BaseGeometry:
    """The part of the AOI over the grid, in columns and rows; empty when they do not meet.

    Raises InvalidAoi for anything but a polygon, and where the AOI has no place in the grid's reference system.
    """
    near = _near(aoi_polygons(aoi), grid)
    if near.is_empty:
        return near
    fine = shapely.segmentize(near, max(PIECE_DEGREES, near.length / MAX_PIECES))
    placed = shapely.transform(fine, grid.pixels_of_lonlat)
    if not np.isfinite(shapely.get_coordinates(placed)).all():
        raise InvalidAoi("The AOI has no place in the raster's reference system; draw it within the scene's footprint.")
    return _with_area(_valid(placed).intersection(box(0, 0, grid.width, grid.height)))


def window_around(placed: BaseGeometry, grid: Grid) -> Window:
    """The smallest window of whole pixels, at least one, that holds the placed AOI."""
    left, top, right, bottom = placed.bounds
    column, width = _span(left, right, grid.width)
    row, height = _span(top, bottom, grid.height)
    return Window(column, row, width, height)


def pixels_inside(placed: BaseGeometry, window: Window) -> npt.NDArray[np.bool_]:
    """True for each pixel of the window that the placed AOI touches, (row, column)."""
    height, width = int(window.height), int(window.width)
    if placed.is_empty:
        return np.zeros((height, width), dtype=np.bool_)
    burnt = rasterio.features.rasterize(
        [(placed, 1)],
        out_shape=(height, width),
        transform=Affine.translation(window.col_off, window.row_off),
        all_touched=True,
        dtype="uint8",
    )
    return np.asarray(burnt, dtype=np.bool_)


def covers(placed: BaseGeometry, window: Window) -> bool:
    """Whether no pixel of the window has a part outside the placed AOI."""
    left, top = window.col_off, window.row_off
    inner = box(left, top, left + window.width, top + window.height).buffer(-BORDER_TOLERANCE_PX)
    return bool(placed.covers(inner))


def _span(low: float, high: float, size: int) -> tuple[int, int]:
    first = min(max(math.floor(low + BORDER_TOLERANCE_PX), 0), size - 1)
    last = min(max(math.ceil(high - BORDER_TOLERANCE_PX), first + 1), size)
    return first, last - first


def aoi_polygons(aoi: dict[str, Any]) -> MultiPolygon:
    """The AOI's polygons in longitude and latitude, valid and in one piece over the antimeridian; raises InvalidAoi."""
    try:
        with np.errstate(invalid="ignore"):
            geometry = shapely.force_2d(shape(aoi))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, shapely.errors.ShapelyError) as error:
        raise InvalidAoi("The AOI is not GeoJSON; send a Polygon or a MultiPolygon in longitude and latitude.") from error
    polygons = polygons_in(geometry)
    if not polygons:
        raise InvalidAoi("The AOI has no area; send a Polygon or a MultiPolygon in longitude and latitude.")
    if not np.isfinite(shapely.get_coordinates(geometry)).all():
        raise InvalidAoi("The AOI has coordinates that are no numbers.")
    joined = MultiPolygon([_joined_at_antimeridian(polygon) for polygon in polygons])
    return MultiPolygon(polygons_in(_valid(joined)))


def _joined_at_antimeridian(polygon: Polygon) -> Polygon:
    """Takes an edge of more than half the globe as one that crosses the antimeridian the short way.

    A full turn, as in the box of the whole world, is left as it is.
    """
    shell = _unwrapped(shapely.get_coordinates(polygon.exterior))
    holes = [_unwrapped(shapely.get_coordinates(ring)) for ring in polygon.interiors]
    middle = float(shell[:, 0].mean())
    for hole in holes:
        hole[:, 0] += 360.0 * round((middle - float(hole[:, 0].mean())) / 360.0)
    return Polygon(shell, holes)


def _unwrapped(ring: Floats) -> Floats:
    steps = np.diff(ring[:, 0])
    turns = np.where((np.abs(steps) > 180.0) & (np.abs(steps) < 360.0), -np.sign(steps) * 360.0, 0.0)
    joined = ring.copy()
    joined[1:, 0] += np.cumsum(turns)
    return joined


def _near(polygons: MultiPolygon, grid: Grid) -> BaseGeometry:
    """The AOI cut down to the surroundings of the grid, with longitudes counted as the grid's are.

    Far coordinates are cut away before reprojection, because most projections are only sound near their raster.
    """
    west, south, east, north = grid.outline.bounds
    margin = max((east - west) / 20, (north - south) / 20, PIECE_DEGREES)
    # Never more than one turn: around a pole, what lies there twice would cancel itself out.
    beside = min(margin, max(0.0, (360.0 - (east - west)) / 2))
    surroundings = box(west - beside, max(south - margin, -90.0), east + beside, min(north + margin, 90.0))
    turns = (-720.0, -360.0, 0.0, 360.0, 720.0)
    moved = [shapely.affinity.translate(polygons, xoff=turn).intersection(surroundings) for turn in turns]
    return _with_area(shapely.union_all([part for part in moved if not part.is_empty]))


def _valid(geometry: BaseGeometry) -> BaseGeometry:
    return geometry if geometry.is_valid else make_valid(geometry)


def _with_area(geometry: BaseGeometry) -> BaseGeometry:
    return MultiPolygon([polygon for polygon in polygons_in(geometry) if polygon.area > 0])
