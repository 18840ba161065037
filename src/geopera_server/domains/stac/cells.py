"""The cells of the grids that items are filed in by their size, as the database computes them; see `item_cell` there."""

from __future__ import annotations

import math
from collections.abc import Iterator

from shapely.geometry import MultiPolygon
from shapely.geometry.base import BaseGeometry

_STEPS = (1, 4, 16)
_WIDEST = 1_000
MOST_CELLS = 400
_SLACK = 1e-5


def cells_around(area: BaseGeometry) -> list[int] | None:
    """Returns the cells that hold everything whose box meets the area's boxes; None when there are more than `MOST_CELLS`.

    An item is no larger than a cell of its grid, so its middle is no further from what it meets than half a cell.
    """
    parts = area.geoms if isinstance(area, MultiPolygon) else [area]
    found: set[int] = {_WIDEST * 1_000_000}
    for part in parts:
        for step in _STEPS:
            rows = _range(part.bounds[1] + 90, part.bounds[3] + 90, step)
            columns = _range(part.bounds[0] + 180, part.bounds[2] + 180, step)
            if len(rows) * len(columns) + len(found) > MOST_CELLS:
                return None
            found.update(_numbers(step, rows, columns))
    return sorted(found)


def _range(low: float, high: float, step: int) -> range:
    reach = step / 2 + _SLACK
    return range(max(0, math.floor((low - reach) / step)), math.floor((high + reach) / step) + 1)


def _numbers(step: int, rows: range, columns: range) -> Iterator[int]:
    return (step * 1_000_000 + row * 1_000 + column for row in rows for column in columns)
