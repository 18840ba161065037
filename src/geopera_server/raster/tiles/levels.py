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
MAX_PART_PX = 4_000_000
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

    `stored` tells the raster itself and its overviews from a level that is made by leaving pixels out.
    """

    width: int
    height: int
    x: float
    y: float
    stored: bool

    def window(self, part: Part) -> Window:
        """The full pixels under a part, in fractions where the level's size is no divisor of the raster's."""
        return Window(part.column * self.x, part.row * self.y, part.width * self.x, part.height * self.y)


def levels_of(width: int, height: int, overviews: list[int]) -> tuple[Level, ...]:
    """The stored levels from fine to coarse, then thinned-out ones until one fits into 256 pixels."""
    levels = [_level(width, height, factor, stored=True) for factor in (1, *sorted(overviews))]
    while max(levels[-1].width, levels[-1].height) > 256:
        factor = 2 ** math.floor(math.log2(max(levels[-1].x, levels[-1].y) * 2 + 0.5))
        levels.append(_level(width, height, factor, stored=False))
    return tuple(levels)


def _level(width: int, height: int, factor: int, *, stored: bool) -> Level:
    wide, high = max(1, -(-width // factor)), max(1, -(-height // factor))
    return Level(wide, high, width / wide, height / high, stored)


def best_level(levels: tuple[Level, ...], full_px: float) -> int:
    """The index of the coarsest level that still shows every pixel of a picture whose pixels are `full_px` wide."""
    fitting = [index for index, level in enumerate(levels) if max(level.x, level.y) <= full_px * COARSER]
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
    """The bytes that GDAL decodes for a part: whole blocks, of all bands where they are stored together."""
    across, down = part.width * level.x, part.height * level.y
    if level.stored:
        across, down = float(part.width), float(part.height)
    planes = facts.band_count if facts.interleaved else bands
    if not facts.random_access:
        return float(facts.width) * facts.height * facts.band_count * facts.itemsize
    wide, high = facts.block
    columns = min(part.width, across / wide + 1) * wide
    rows = min(part.height, down / high + 1) * high
    if level.stored and level.x > 1:
        # Overviews have blocks of their own, about as large as those of the raster but never larger than the level.
        columns, rows = min(columns, level.width + wide), min(rows, level.height + high)
    return columns * rows * planes * facts.itemsize
