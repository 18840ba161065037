"""The resolutions a raster can be read at: its own, its overviews', and thinned-out ones where it has no overviews."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rasterio.windows import Window

from geopera_server.raster.env import MEGABYTE
from geopera_server.raster.errors import TooLarge, shown_href

if TYPE_CHECKING:
    from geopera_server.raster.tiles.facts import Facts

# What one read may decode; a Cloud Optimized GeoTIFF needs 1 to 5 MB for a tile of 512 pixels.
MAX_DECODED_BYTES = 256 * MEGABYTE
MAX_BLOCK_BYTES = 64 * MEGABYTE
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


def check_cost(facts: Facts, level: Level, part: Part, bands: int) -> None:
    """Raises TooLarge where a read would decode more than MAX_DECODED_BYTES; says what to do about the file."""
    decoded = decoded_bytes(facts, level, part, bands)
    if decoded > MAX_DECODED_BYTES:
        raise TooLarge(
            f"{shown_href(facts.href)} has no overviews that suit this zoom level: {decoded / MEGABYTE:,.0f} MB would be"
            f" decoded for one picture. Zoom in, or turn it into a Cloud Optimized GeoTIFF, as an upload does."
        )


def decoded_bytes(facts: Facts, level: Level, part: Part, bands: int) -> float:
    """The bytes that GDAL decodes for a part: whole blocks, of all bands where they are stored together.

    Overviews are taken to have blocks as large as the raster's, or as themselves where they are smaller.
    """
    if not facts.random_access:
        return float(facts.width) * facts.height * facts.band_count * facts.itemsize
    across = _decoded(part.width, level.width, level.thinning, facts.block[0])
    down = _decoded(part.height, level.height, level.thinning, facts.block[1])
    return across * down * (facts.band_count if facts.interleaved else bands) * facts.itemsize


def _decoded(pixels: int, size: int, thinning: int, block: int) -> float:
    """How many pixels in one direction are decoded to give so many of them, a thinning apart."""
    span = pixels * thinning
    blocks = min(pixels, span / block + 1)
    return min(blocks * min(block, size * thinning), size * thinning)
