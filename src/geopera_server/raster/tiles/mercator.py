"""The grid of Web Mercator tiles: where the pixels of a tile lie, in metres and in degrees."""

from __future__ import annotations

import math
from dataclasses import dataclass

from affine import Affine

from geopera_server.raster.georef import Floats

MAX_ZOOM = 24
EARTH_RADIUS_M = 6378137.0
HALF_WORLD_M = math.pi * EARTH_RADIUS_M
MAX_LATITUDE = math.degrees(2 * math.atan(math.exp(math.pi)) - math.pi / 2)


@dataclass(frozen=True)
class Tile:
    """The square of a tile with `size` pixels on a side; rows count from the north."""

    z: int
    x: int
    y: int
    size: int

    def __post_init__(self) -> None:
        if not 0 <= self.z <= MAX_ZOOM:
            raise ValueError(f"z is {self.z}; zoom levels are 0 to {MAX_ZOOM}")
        if not (0 <= self.x < 1 << self.z and 0 <= self.y < 1 << self.z):
            raise ValueError(
                f"x {self.x} and y {self.y} are not both from 0 to {(1 << self.z) - 1}, as zoom level {self.z} has it"
            )

    @property
    def pixel_m(self) -> float:
        return 2 * HALF_WORLD_M / (self.size << self.z)

    @property
    def transform(self) -> Affine:
        side = 2 * HALF_WORLD_M / (1 << self.z)
        step = self.pixel_m
        return Affine(step, 0.0, self.x * side - HALF_WORLD_M, 0.0, -step, HALF_WORLD_M - self.y * side)

    def eastings(self, columns: Floats) -> Floats:
        """Metres east of Greenwich at (fractional) columns of the tile."""
        return (columns + self.x * self.size) * self.pixel_m - HALF_WORLD_M

    def northings(self, rows: Floats) -> Floats:
        return HALF_WORLD_M - (rows + self.y * self.size) * self.pixel_m

    def columns_of_longitudes(self, west: float, east: float) -> tuple[int, int]:
        """The columns (first, one after the last) whose centres may lie between two longitudes, none when they are equal."""
        turn = self.size << self.z
        return self._clamped(
            (west + 180.0) / 360.0 * turn - self.x * self.size, (east + 180.0) / 360.0 * turn - self.x * self.size
        )

    def rows_of_latitudes(self, south: float, north: float) -> tuple[int, int]:
        turn = self.size << self.z
        top, bottom = (_down(latitude) * turn - self.y * self.size for latitude in (north, south))
        return self._clamped(top, bottom)

    def _clamped(self, low: float, high: float) -> tuple[int, int]:
        return max(0, math.floor(low - 0.5)), min(self.size, math.ceil(high + 0.5))


def _down(latitude: float) -> float:
    """How far a latitude lies below the upper edge of the world's tile, in heights of that tile."""
    bounded = min(max(latitude, -MAX_LATITUDE), MAX_LATITUDE)
    return (1.0 - math.asinh(math.tan(math.radians(bounded))) / math.pi) / 2.0


def zoom_of_resolution(pixel_m: float) -> float:
    """The zoom level, with fractions, at which tiles of 256 pixels have pixels of that many (Mercator) metres."""
    return math.log2(2 * HALF_WORLD_M / 256 / pixel_m)
