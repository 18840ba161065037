"""Geometry as everybody sends it and as the house keeps it: valid GeoJSON on WGS84, areas on the ellipsoid.

Areas are geodesic on WGS84 (Karney 2013, as pyproj's Geod computes them), in square kilometres with four decimals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import orjson
import shapely
from pyproj import Geod
from shapely.geometry import MultiPolygon, Polygon, box, mapping, shape
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient
from shapely.validation import explain_validity

from geopera_server.kernel.errors import InvalidInput, Malformed

MAX_VERTICES = 10_000
AREA_STEP = Decimal("0.0001")
_WGS84 = Geod(ellps="WGS84")
_POLYGONAL = frozenset({"Polygon", "MultiPolygon"})

Loc = Sequence[str | int]
Box = str
"""The text form of a PostgreSQL box: `(east,north),(west,south)`."""


def read_geometry(value: Any, *, loc: Loc, polygonal: bool = True) -> BaseGeometry:
    """Returns a GeoJSON geometry, Feature or one-feature collection as a valid shape with counter-clockwise outer rings.

    Raises InvalidInput (`invalid_geometry`) for what is empty, self-crossing, out of range, over 10,000 vertices or no
    polygon where one is needed.
    """
    found = _geometry_in(value, loc)
    try:
        geometry = shape(found)
    except (ValueError, shapely.errors.ShapelyError) as error:
        raise _invalid(f"This is no GeoJSON geometry: {str(error).rstrip('.')}.", loc) from error
    except (TypeError, AttributeError, KeyError, IndexError) as error:
        raise _invalid("This is no GeoJSON geometry: type and coordinates are missing or malformed.", loc) from error
    if geometry.is_empty:
        raise _invalid("The geometry is empty.", loc)
    if polygonal and geometry.geom_type not in _POLYGONAL:
        raise _invalid(f"A Polygon or MultiPolygon is needed here, not a {geometry.geom_type}.", loc)
    if shapely.get_num_coordinates(geometry) > MAX_VERTICES:
        raise _invalid(f"The geometry has more than {MAX_VERTICES:,} vertices. Simplify it.", loc)
    _check_range(geometry, loc)
    if not geometry.is_valid:
        raise _invalid(f"The geometry is not valid: {explain_validity(geometry)}.", loc)
    if geometry.geom_type in _POLYGONAL and geometry.area == 0:
        raise _invalid("The geometry has no area.", loc)
    return oriented(shapely.force_2d(geometry))


def _geometry_in(value: Any, loc: Loc) -> Any:
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise Malformed(f"The geometry is not JSON: {error}.", code="malformed_geometry_json") from error
    if not isinstance(value, Mapping):
        raise _invalid("A GeoJSON geometry is needed here.", loc)
    if value.get("type") == "FeatureCollection":
        features = value.get("features")
        if not isinstance(features, list) or len(features) != 1:
            raise _invalid("A feature collection must hold exactly one feature here.", loc)
        return _geometry_in(features[0], loc)
    if value.get("type") == "Feature":
        return _geometry_in(value.get("geometry"), loc)
    return value


def _check_range(geometry: BaseGeometry, loc: Loc) -> None:
    west, south, east, north = geometry.bounds
    if not all(math.isfinite(bound) for bound in (west, south, east, north)):
        raise _invalid("Coordinates must be finite numbers.", loc)
    if west < -180 or east > 180 or south < -90 or north > 90:
        raise _invalid("Coordinates are longitude -180 to 180 and latitude -90 to 90, in this order.", loc)


def _invalid(msg: str, loc: Loc) -> InvalidInput:
    return InvalidInput(msg, loc=loc, code="invalid_geometry")


def oriented(geometry: BaseGeometry) -> BaseGeometry:
    """Returns the geometry with outer rings counter-clockwise and holes clockwise, as RFC 7946 has it."""
    if isinstance(geometry, Polygon):
        return orient(geometry)
    if isinstance(geometry, MultiPolygon):
        return MultiPolygon([orient(part) for part in geometry.geoms])
    return geometry


def read_bbox(values: Sequence[float], *, loc: Loc) -> BaseGeometry:
    """Returns the area of a GeoJSON bbox of four or six numbers; west greater than east crosses the antimeridian.

    Raises InvalidInput (`invalid_geometry`).
    """
    if len(values) not in {4, 6} or not all(math.isfinite(value) for value in values):
        raise _invalid("A bbox has four finite numbers: west, south, east, north.", loc)
    half = len(values) // 2
    west, south, east, north = values[0], values[1], values[half], values[half + 1]
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise _invalid("A bbox is west, south, east, north within -180, -90, 180, 90, with south below north.", loc)
    if west <= east:
        return box(west, south, east, north)
    return MultiPolygon([box(west, south, 180, north), box(-180, south, east, north)])


def to_geojson(geometry: BaseGeometry) -> dict[str, Any]:
    """Returns plain GeoJSON with lists in place of tuples."""
    found: dict[str, Any] = orjson.loads(orjson.dumps(mapping(geometry)))
    return found


def polygonal(geometry: BaseGeometry) -> BaseGeometry:
    """Returns the part of a geometry that has area, as Polygon or MultiPolygon (empty when there is none)."""
    if geometry.geom_type in _POLYGONAL:
        return geometry
    parts = [part for part in getattr(geometry, "geoms", []) if part.geom_type in _POLYGONAL]
    return shapely.union_all(parts) if parts else Polygon()


def area_sqkm(geometry: BaseGeometry) -> Decimal:
    """Returns the geodesic area in km², rounded half up to four decimals."""
    square_metres, _ = _WGS84.geometry_area_perimeter(oriented(geometry))
    return (Decimal(abs(square_metres)) / 1_000_000).quantize(AREA_STEP, ROUND_HALF_UP)


def extents(geometry: BaseGeometry) -> tuple[Box, Box | None]:
    """Returns the bounding box, and a second one when the geometry lies on both sides of the antimeridian.

    A multipolygon that touches both -180 and 180 and leaves a wide gap between is one that was cut there (RFC 7946, 3.1.9).
    """
    west, south, east, north = geometry.bounds
    if isinstance(geometry, MultiPolygon) and west == -180 and east == 180:
        left = [part for part in geometry.geoms if part.bounds[2] < 0]
        right = [part for part in geometry.geoms if part.bounds[0] > 0]
        if left and right and len(left) + len(right) == len(geometry.geoms):
            return _box(MultiPolygon(right).bounds), _box(MultiPolygon(left).bounds)
    return _box((west, south, east, north)), None


def _box(bounds: tuple[float, float, float, float]) -> Box:
    west, south, east, north = bounds
    return f"({east!r},{north!r}),({west!r},{south!r})"


def read_interval(text: str | None, *, loc: Loc) -> tuple[datetime | None, datetime | None]:
    """Returns start and end of an RFC 3339 time or interval; None is an open end.

    Raises InvalidInput for what is no time, for both ends open and for an end before its start.
    """
    if text is None or not text.strip():
        return None, None
    parts = text.strip().split("/")
    if len(parts) > 2:
        raise InvalidInput("A time interval has one '/': start/end, with '..' for an open end.", loc=loc)
    start, end = (_time(part, loc) for part in (parts if len(parts) == 2 else parts * 2))
    if len(parts) == 2 and start is None and end is None:
        raise InvalidInput("An interval needs at least one closed end.", loc=loc)
    if start is not None and end is not None and end < start:
        raise InvalidInput("The interval ends before it starts.", loc=loc)
    return start, end


def _time(text: str, loc: Loc) -> datetime | None:
    return None if text in {"", ".."} else read_time(text, loc=loc)


def read_time(text: str, *, loc: Loc) -> datetime:
    """Returns an RFC 3339 time, one without offset as UTC; raises InvalidInput for what is none."""
    try:
        found = datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no RFC 3339 time such as 2024-01-31T00:00:00Z.", loc=loc) from error
    if found.tzinfo is None:
        return datetime.fromisoformat(f"{found.isoformat()}+00:00")
    try:
        found.astimezone(UTC)
    except OverflowError as error:
        raise InvalidInput(f"{text!r} lies outside the years 1 to 9999 in UTC.", loc=loc) from error
    return found
