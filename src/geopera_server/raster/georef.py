"""Where a pixel grid lies on Earth: its outline in WGS84, also across the antimeridian and around a pole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window
from shapely.geometry import MultiPolygon, Polygon, box, mapping
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

Floats = npt.NDArray[np.float64]

EDGE_SAMPLES = 33
TRUE_TO_SCALE = 0.01
COORDINATE_DECIMALS = 8

_GEOD = pyproj.Geod(ellps="WGS84")


@dataclass(frozen=True)
class Grid:
    """The pixels of a raster: width and height, affine from (column, row) to CRS units, and the CRS."""

    width: int
    height: int
    transform: Affine
    crs: CRS

    def window(self, window: Window) -> Grid:
        """The part of the grid under the window; its pixels are the same pixels."""
        a, b, c, d, e, f = self.transform[:6]
        column, row = window.col_off, window.row_off
        moved = Affine(a, b, a * column + b * row + c, d, e, d * column + e * row + f)
        return Grid(int(window.width), int(window.height), moved, self.crs)

    @cached_property
    def wkt2(self) -> str:
        return str(self.crs.to_wkt(version="WKT2_2019"))

    @cached_property
    def pyproj_crs(self) -> pyproj.CRS:
        return pyproj.CRS.from_wkt(self.wkt2)

    @cached_property
    def to_wgs84(self) -> pyproj.Transformer:
        return pyproj.Transformer.from_crs(self.pyproj_crs, "EPSG:4326", always_xy=True)

    @cached_property
    def from_wgs84(self) -> pyproj.Transformer:
        return pyproj.Transformer.from_crs("EPSG:4326", self.pyproj_crs, always_xy=True)

    def to_crs_units(self, pixels: Floats) -> Floats:
        """(n, 2) of column and row to (n, 2) of x and y."""
        return _apply(self.transform, pixels)

    def to_pixels(self, places: Floats) -> Floats:
        """(n, 2) of x and y to (n, 2) of fractional column and row."""
        return _apply(~self.transform, places)

    def lonlat_of_pixels(self, pixels: Floats) -> Floats:
        """(n, 2) of column and row to (n, 2) of longitude and latitude; not finite where the grid leaves the Earth."""
        places = self.to_crs_units(pixels)
        lonlat = np.column_stack(self.to_wgs84.transform(places[:, 0], places[:, 1], errcheck=False))
        if self.pyproj_crs.is_geographic:
            # PROJ folds longitudes into -180..180; a grid from 0 to 360 must stay in one piece.
            lonlat[:, 0] += 360.0 * np.round((places[:, 0] - lonlat[:, 0]) / 360.0)
        return lonlat

    def pixels_of_lonlat(self, lonlat: Floats) -> Floats:
        """The reverse of `lonlat_of_pixels`."""
        places = np.column_stack(self.from_wgs84.transform(lonlat[:, 0], lonlat[:, 1], errcheck=False))
        if self.pyproj_crs.is_geographic:
            places[:, 0] += 360.0 * np.round((lonlat[:, 0] - places[:, 0]) / 360.0)
        return self.to_pixels(places)

    @cached_property
    def outline(self) -> Polygon:
        """The edge of the grid in longitude and latitude.

        Longitudes run on over ±180 where the grid does, so that it stays one polygon; those of a grid in degrees are
        counted as the grid counts them. A grid with a pole inside becomes the cap above its edge, over all longitudes.
        An edge that leaves the Earth, as in a view of the full disk, is replaced by the box around what is on it.
        """
        ring = self.lonlat_of_pixels(_edge(self.width, self.height))
        if not np.isfinite(ring).all():
            return self._box_of_interior()
        pole = self._pole_inside()
        if pole is not None:
            return _cap(ring, pole)
        if not self.pyproj_crs.is_geographic:
            ring[:, 0] = np.unwrap(ring[:, 0], period=360.0)
        return Polygon(ring)

    @cached_property
    def _usual_outline(self) -> BaseGeometry:
        """The outline with its middle between -180 and 180."""
        west, _, east, _ = self.outline.bounds
        turns = math.floor(((west + east) / 2 + 180.0) / 360.0)
        return shapely.affinity.translate(self.outline, xoff=-360.0 * turns)

    def _pole_inside(self) -> float | None:
        if self.pyproj_crs.is_geographic:
            return None
        for latitude in (90.0, -90.0):
            column, row = self.pixels_of_lonlat(np.array([[0.0, latitude]]))[0]
            if 1 < column < self.width - 1 and 1 < row < self.height - 1:
                return latitude
        return None

    def _box_of_interior(self) -> Polygon:
        columns, rows = np.meshgrid(np.linspace(0, self.width, 129), np.linspace(0, self.height, 129))
        lonlat = self.lonlat_of_pixels(np.column_stack([columns.ravel(), rows.ravel()]))
        lonlat = lonlat[np.isfinite(lonlat).all(axis=1)]
        if len(lonlat) == 0:
            return Polygon()
        # Longitudes counted from the middle one, so that a disk over the Pacific does not span the world.
        middle = math.degrees(np.angle(np.exp(1j * np.radians(lonlat[:, 0])).mean()))
        offsets = (lonlat[:, 0] - middle + 180.0) % 360.0 - 180.0
        west, east = middle + offsets.min(), middle + offsets.max()
        return box(west, lonlat[:, 1].min(), east, lonlat[:, 1].max())

    def footprint_wgs84(self) -> dict[str, Any]:
        """The outline as a GeoJSON Polygon, or as a MultiPolygon cut at the antimeridian (RFC 7946, 3.1.9)."""
        tolerance = max(self._pixel_degrees() / 2, 10.0**-COORDINATE_DECIMALS)
        pieces = cut_at_antimeridian(self._usual_outline.simplify(tolerance))
        rounded = [orient(shapely.set_precision(piece, 10.0**-COORDINATE_DECIMALS)) for piece in pieces]
        shape = MultiPolygon(rounded) if len(rounded) != 1 else rounded[0]
        return cast("dict[str, Any]", _lists(mapping(shape)))

    def bbox_wgs84(self) -> tuple[float, float, float, float]:
        """West, south, east, north; west is greater than east across the antimeridian (RFC 7946, 5.2)."""
        west, south, east, north = self._usual_outline.bounds
        if east - west >= 360.0:
            west, east = -180.0, 180.0
        elif east > 180.0:
            east -= 360.0
        elif west < -180.0:
            west += 360.0
        # A grid of places, not of areas, hangs over the poles by half a pixel.
        south, north = max(south, -90.0), min(north, 90.0)
        west, south, east, north = (round(value, COORDINATE_DECIMALS) for value in (west, south, east, north))
        return west, south, east, north

    def gsd_m(self) -> float | None:
        """The longer side of the middle pixel in metres.

        A projected raster keeps its nominal size where that is true to 1 % (UTM is; Web Mercator at 60° is not).
        """
        middle = np.array([self.width / 2, self.height / 2])
        steps = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, -0.5], [0.0, 0.5]])
        left, right, top, bottom = self.lonlat_of_pixels(middle + steps)
        sides = (_GEOD.inv(*left, *right)[2], _GEOD.inv(*top, *bottom)[2])
        ground = max(sides)
        nominal = self._nominal_m()
        if nominal is not None and (not math.isfinite(ground) or abs(ground / nominal - 1) < TRUE_TO_SCALE):
            return nominal
        return float(ground) if math.isfinite(ground) else None

    def _nominal_m(self) -> float | None:
        if not self.pyproj_crs.is_projected:
            return None
        side = max(math.hypot(self.transform.a, self.transform.d), math.hypot(self.transform.b, self.transform.e))
        return float(side * self.pyproj_crs.axis_info[0].unit_conversion_factor)

    def _pixel_degrees(self) -> float:
        gsd = self.gsd_m()
        return gsd / 111_320.0 if gsd is not None else 0.0


def cut_at_antimeridian(polygon: BaseGeometry) -> list[Polygon]:
    """The parts of a polygon with longitudes beyond ±180, each moved into -180..180."""
    pieces: list[Polygon] = []
    for turn in (-360.0, 0.0, 360.0):
        world = box(-180.0 + turn, -90.0, 180.0 + turn, 90.0)
        part = shapely.affinity.translate(polygon.intersection(world), xoff=-turn)
        pieces.extend(polygons_in(part))
    return pieces


def polygons_in(geometry: BaseGeometry) -> list[Polygon]:
    """The polygons of a geometry; lines and points, which have no area, are left out."""
    parts = shapely.get_parts(geometry, return_index=False)
    found: list[Polygon] = []
    for part in parts:
        if isinstance(part, Polygon) and not part.is_empty:
            found.append(part)
        elif hasattr(part, "geoms"):
            found.extend(polygons_in(part))
    return found


def _apply(affine: Affine, points: Floats) -> Floats:
    x, y = points[:, 0], points[:, 1]
    return np.column_stack([affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f])


def _edge(width: int, height: int) -> Floats:
    """Points along the four sides, counter-clockwise from the upper left corner, not closed."""
    across = np.linspace(0.0, 1.0, EDGE_SAMPLES)[:-1]
    zero, one = np.zeros_like(across), np.ones_like(across)
    unit = np.concatenate(
        [
            np.column_stack([zero, across]),
            np.column_stack([across, one]),
            np.column_stack([one, 1 - across]),
            np.column_stack([1 - across, zero]),
        ]
    )
    return unit * (width, height)


def _cap(ring: Floats, pole: float) -> Polygon:
    longitudes = (ring[:, 0] + 180.0) % 360.0 - 180.0
    order = np.argsort(longitudes)
    longitudes, latitudes = longitudes[order], ring[order, 1]
    at_seam = float(np.interp(180.0, [longitudes[-1], longitudes[0] + 360.0], [latitudes[-1], latitudes[0]]))
    edge = [(-180.0, at_seam), *zip(longitudes, latitudes, strict=True), (180.0, at_seam)]
    return Polygon([*edge, (180.0, pole), (-180.0, pole)])


def _lists(geometry: Any) -> Any:
    """GeoJSON with lists for tuples, as it reads back from JSON."""
    if isinstance(geometry, dict):
        return {key: _lists(value) for key, value in geometry.items()}
    return [_lists(value) for value in geometry] if isinstance(geometry, (tuple, list)) else geometry
