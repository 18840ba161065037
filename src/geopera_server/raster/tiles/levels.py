"""The resolutions a raster can be read at: its own, its overviews', and thinned-out ones where it has no overviews."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rasterio.windows import Window

MAX_PART_PX = 2_000_000
SMALLEST_PX = 256
# An overview this little too coarse is still taken, as GDAL does: its pixels are then at most 1.2 of the tile's.
COARSER = 1.2


@dataclass(frozen=True)
class Part:
    """A window of whole pixels of one level."""

    column: int
    row: int
    width: int
    height: int


@dataclass(frozen=True)
class Level:
    """A raster at one of its resolutions; `x` and `y` say how many full pixels lie under one pixel of it.

    `thinning` is 1 for the raster itself and its overviews; else, of so many pixels of the next finer one of those, in
    each direction, only one is taken.
    """

    width: int
    height: int
    x: float
    y: float
    thinning: int = 1

    def window(self, part: Part) -> Window:
        """The full pixels under a part, in fractions where the level's size is no divisor of the raster's."""
        return Window(part.column * self.x, part.row * self.y, part.width * self.x, part.height * self.y)


def levels_of(width: int, height: int, overviews: list[int]) -> tuple[Level, ...]:
    """The levels from fine to coarse; where overviews lie further apart than a factor of 2, thinned-out ones between.

    The last of them fits into 256 pixels.
    """
    stored = [1, *sorted(factor for factor in set(overviews) if factor > 1)]
    levels: list[Level] = []
    for factor, following in zip(stored, [*stored[1:], math.inf], strict=True):
        levels.append(_level(width, height, factor, 1))
        thinning = 2
        while factor * thinning < following and max(levels[-1].width, levels[-1].height) > SMALLEST_PX:
            levels.append(_level(width, height, factor * thinning, thinning))
            thinning *= 2
    return tuple(levels)


def _level(width: int, height: int, factor: int, thinning: int) -> Level:
    wide, high = max(1, -(-width // factor)), max(1, -(-height // factor))
    return Level(wide, high, width / wide, height / high, thinning)


def best_level(levels: tuple[Level, ...], full_px: float) -> int:
    """The index of the coarsest stored level that shows every pixel of a picture whose pixels are `full_px` wide."""
    stored = [index for index, level in enumerate(levels) if level.thinning == 1]
    fitting = [index for index in stored if max(levels[index].x, levels[index].y) <= full_px * COARSER]
    return fitting[-1] if fitting else 0
