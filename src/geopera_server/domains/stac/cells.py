"""How many cells of the grids that items are filed in by their size lie around an area; the database has the grids."""

from __future__ import annotations

from shapely.geometry import MultiPolygon
from shapely.geometry.base import BaseGeometry

MOST_CELLS = 400
_STEPS = (1, 4, 16)


def has_few_cells(area: BaseGeometry) -> bool:
    """Says whether the newest of an area are found sooner cell by cell than among the newest of everywhere."""
    parts = area.geoms if isinstance(area, MultiPolygon) else [area]
    return sum(_cells(part.bounds, step) for part in parts for step in _STEPS) <= MOST_CELLS


def _cells(bounds: tuple[float, float, float, float], step: int) -> float:
    west, south, east, north = bounds
    return ((east - west) / step + 2) * ((north - south) / step + 2)
