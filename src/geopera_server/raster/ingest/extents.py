"""Where vectors and points lie, as boxes in WGS84."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyproj
import shapely
from pyproj.exceptions import CRSError, ProjError
from shapely.geometry import box, mapping

from geopera_server.raster.info import BBox
from geopera_server.raster.ingest.references import check_wkt
from geopera_server.raster.ingest.refusals import NoGeoreference

COORDINATE_DECIMALS = 8

# Some count longitudes from 0 to 360, or run on over the antimeridian; more than one turn away is another unit.
FARTHEST_LONGITUDE = 540.0


def wkt2_of(text: str, name: str) -> str:
    """A reference system as WKT2; raises OutsideReference or NoGeoreference."""
    check_wkt(name, text)
    try:
        return str(pyproj.CRS.from_user_input(text).to_wkt("WKT2_2019"))
    except CRSError as error:
        raise NoGeoreference(f"{name} has a reference system that cannot be understood; save it with another.") from error


def bbox_wgs84(wkt2: str | None, bounds: tuple[float, ...], name: str) -> BBox:
    """A box in a reference system as west, south, east, north; raises NoGeoreference when it has no place on Earth."""
    if wkt2 is None:
        raise NoGeoreference(f"{name} has no coordinate reference system; send it with one (a Shapefile with its .prj file).")
    try:
        crs = pyproj.CRS.from_wkt(wkt2)
        to_wgs84 = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        west, south, east, north = to_wgs84.transform_bounds(bounds[0], bounds[1], bounds[2], bounds[3], densify_pts=21)
        placed = crs.is_geographic or crs.is_projected
    except (CRSError, ProjError):
        placed = False
    if not placed or not _is_on_earth(west, south, east, north):
        raise NoGeoreference(f"{name} lies outside its reference system; check that its coordinates match it.")
    if max(-west, east) > 180.0:
        whole = east - west >= 360.0
        west, east = (-180.0, 180.0) if whole else ((each + 180.0) % 360.0 - 180.0 for each in (west, east))
    west, south, east, north = (round(float(each), COORDINATE_DECIMALS) for each in (west, south, east, north))
    return west, south, east, north


def _is_on_earth(west: float, south: float, east: float, north: float) -> bool:
    # Not a number compares false with all.
    return -90 <= south <= north <= 90 and max(abs(west), abs(east)) <= FARTHEST_LONGITUDE


def box_around(boxes: list[BBox]) -> BBox:
    """The box around boxes; once one of them crosses the antimeridian, all longitudes are counted from 0 to 360."""
    edges = np.array(boxes)
    crossing = bool((edges[:, 0] > edges[:, 2]).any())
    if crossing:
        edges[:, [0, 2]] %= 360.0
    west, south, east, north = (float(e) for e in (edges[:, 0].min(), edges[:, 1].min(), edges[:, 2].max(), edges[:, 3].max()))
    if crossing:
        west, east = (west + 180.0) % 360.0 - 180.0, (east + 180.0) % 360.0 - 180.0
    return west, south, east, north


def footprint_of(bounds: BBox) -> dict[str, Any]:
    """The box as a GeoJSON polygon, in two parts across the antimeridian."""
    west, south, east, north = bounds
    # A single point, or a line along a meridian, still has to be a polygon.
    if west == east:
        west, east = west - 1e-6, east + 1e-6
    if south == north:
        south, north = max(-90.0, south - 1e-6), min(90.0, north + 1e-6)
    pieces = [box(west, south, east, north)] if west < east else [box(west, south, 180, north), box(-180, south, east, north)]
    shape = pieces[0] if len(pieces) == 1 else shapely.MultiPolygon(pieces)
    return dict(mapping(shape))
