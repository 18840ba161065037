"""Renders tiles, thumbnails and figures of rasters. All of it is synchronous and may run in any thread.

A tile is made in this order: the blocks of it that the raster meets, their place in the overview that suits the zoom
level, the pixels there, formula, stretch and colours, and the encoding. Where the nearest pixel is asked for, colours
are given before sampling when that means fewer pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from geopera_server.raster.colormaps import categories as class_colours
from geopera_server.raster.colormaps import colormap
from geopera_server.raster.errors import NoValidPixels
from geopera_server.raster.readers import POOL, Reader, Target
from geopera_server.raster.stretch import default_rescale, rescale_of
from geopera_server.raster.terrain import in_terrain, sea_level, sea_level_tile
from geopera_server.raster.tiles.choosing import bands_of, nearest_only
from geopera_server.raster.tiles.colouring import TRANSPARENT, Packed, in_categories, in_colormap, in_grey_or_colour
from geopera_server.raster.tiles.cutting import inside_aoi
from geopera_server.raster.tiles.encoding import FORMATS, Format, encoded, encoded_exactly, transparent
from geopera_server.raster.tiles.levels import Part
from geopera_server.raster.tiles.measuring import BandStats, statistics
from geopera_server.raster.tiles.mercator import MAX_ZOOM, Tile
from geopera_server.raster.tiles.overviewing import evaluated
from geopera_server.raster.tiles.placing import Placed, Strip, blocks_of, placed
from geopera_server.raster.tiles.rendering import Rendering
from geopera_server.raster.tiles.sampling import Bools, bilinear, nearest
from geopera_server.raster.tiles.telling import TileInfo, info
from geopera_server.raster.tiles.values import Values, read_values

__all__ = [
    "FORMATS",
    "MAX_ZOOM",
    "BandStats",
    "Format",
    "Rendering",
    "Target",
    "TileInfo",
    "default_rescale",
    "info",
    "statistics",
    "thumbnail",
    "tile",
]

PLAIN = Rendering()

Brush = Callable[[Values], Packed]


def tile(
    target: Target,
    rendering: Rendering,
    z: int,
    x: int,
    y: int,
    *,
    format: Format = "webp",  # noqa: A002
    quality: int = 82,
    size: int = 256,
    aoi: dict[str, Any] | None = None,
) -> bytes:
    """Renders a Web Mercator tile; transparent outside the raster, outside the AOI and where it has no data.

    Terrain is always lossless WebP, with 0 m for what has no data. Raises ValueError for a tile that is not on the grid,
    SourceError, InvalidAoi, TooLarge or Unrenderable.
    """
    wanted = Tile(z, x, y, size)
    with POOL.lent(target) as reader:
        picture = _tile(reader, rendering, wanted, aoi)
    if rendering.terrain:
        return sea_level_tile(size) if picture is None else encoded_exactly(picture)
    return transparent(size, format) if picture is None else encoded(picture, format, quality)


def thumbnail(target: Target, rendering: Rendering | None = None, *, width: int = 256, height: int = 256) -> bytes:
    """Renders the whole raster on its own grid as a JPEG that fits into width and height, its proportions kept.

    Raises SourceError, TooLarge or Unrenderable.
    """
    wished = rendering or PLAIN
    with POOL.lent(target) as reader:
        facts = reader.facts
        share = min(width / facts.width, height / facts.height)
        wide, high = max(1, round(facts.width * share)), max(1, round(facts.height * share))
        fitting = [level for level in facts.levels if level.width >= wide and level.height >= high]
        level = fitting[-1] if fitting else facts.levels[0]
        bands = bands_of(facts, wished)
        brush = _brush(reader, wished, None)
        values = _read(reader, wished, bands, level, Part(0, 0, level.width, level.height))
        picture = brush(values) if brush is not None else np.zeros((level.height, level.width), dtype=np.uint32)
        smooth = not facts.categorical and wished.categories is None
    image = Image.frombuffer("RGBA", (level.width, level.height), np.ascontiguousarray(picture), "raw", "RGBA", 0, 1)
    fitted = image.resize((wide, high), Image.Resampling.BOX if smooth and share < 1 else Image.Resampling.NEAREST)
    return encoded(np.asarray(fitted).view(np.uint32)[..., 0], "jpeg", 85)


def _tile(reader: Reader, rendering: Rendering, wanted: Tile, aoi: dict[str, Any] | None) -> Packed | None:
    """The tile's colours; None when nothing of the raster is in it."""
    bands = bands_of(reader.facts, rendering)
    blocks = [(block, placed(reader.facts, wanted, block)) for block in blocks_of(reader.facts, wanted)]
    parts = [(block, found) for block, found in blocks if found is not None]
    if not parts:
        return None
    inside = None if aoi is None else inside_aoi(aoi, wanted)
    if inside is not None and not inside.any():
        return None
    whole = _canvas(rendering, wanted.size)
    for block, found in parts:
        across = slice(block.column, block.column + block.width)
        for top, drawn in _strips(reader, rendering, bands, found, aoi):
            row = block.row + top
            whole[row : row + len(drawn), across] = drawn
    if inside is not None:
        whole = np.where(inside, whole, _canvas(rendering, wanted.size))
    return whole if rendering.terrain or whole.any() else None


def _canvas(rendering: Rendering, size: int) -> Packed:
    return sea_level(size).copy() if rendering.terrain else np.zeros((size, size), dtype=np.uint32)


def _strips(
    reader: Reader, rendering: Rendering, bands: tuple[int, ...], found: Placed, aoi: dict[str, Any] | None
) -> Iterator[tuple[int, Packed]]:
    """The colours of a block, some rows at a time, with the first row of each; none when nothing in it has data."""
    values = _read(reader, rendering, bands, found.level, found.part)
    brush = _brush(reader, rendering, aoi)
    if brush is None or (values.valid is not None and not values.valid.any()):
        return
    if not nearest_only(reader.facts, rendering):
        for strip in found.strips():
            pixels = bilinear(values.pixels, values.valid, strip)
            yield strip.top, brush(Values(pixels, _seen(values, strip)))
    elif rendering.terrain or found.part.width * found.part.height > found.block.width * found.block.height:
        for strip in found.strips():
            yield strip.top, brush(Values(nearest(values.pixels, strip), _seen(values, strip)))
    else:
        drawn = brush(values)
        for strip in found.strips():
            sampled = nearest(drawn, strip)
            yield strip.top, sampled if strip.inside is None else np.where(strip.inside, sampled, TRANSPARENT)


def _seen(values: Values, strip: Strip) -> Bools | None:
    """Where the sampled pixels are valid and lie in the raster at all."""
    seen = None if values.valid is None else nearest(values.valid, strip)
    if strip.inside is None:
        return seen
    return strip.inside if seen is None else seen & strip.inside


def _read(reader: Reader, rendering: Rendering, bands: tuple[int, ...], level: Any, part: Part) -> Values:
    if not bands:
        return Values(np.empty((0, part.height, part.width), dtype=np.uint8), None)
    return read_values(reader, level, part, bands, nodata=rendering.nodata, all_bands=rendering.formula is not None)


def _brush(reader: Reader, rendering: Rendering, aoi: dict[str, Any] | None) -> Brush | None:
    """What turns values into colours; None when the raster has no valid pixel to take a stretch from."""
    formula = rendering.formula
    if formula is None:
        return _plain_brush(reader, rendering, aoi)
    brush = _plain_brush(reader, rendering, aoi)
    return None if brush is None else lambda values: brush(evaluated(formula, values))


def _plain_brush(reader: Reader, rendering: Rendering, aoi: dict[str, Any] | None) -> Brush | None:
    facts = reader.facts
    if rendering.terrain:
        return lambda values: in_terrain(values.pixels[0], values.valid, invert=rendering.invert)
    by_value = rendering.categories or (class_colours(rendering.colormap) if rendering.colormap is not None else None)
    as_is = rendering.rescale is None and rendering.formula is None and rendering.colormap is None and facts.finished
    if by_value is None and as_is and facts.palette is not None:
        by_value = tuple((float(value), colour) for value, colour in facts.palette.items())
    if by_value is not None:
        return lambda values: in_categories(values, by_value)
    ranges = rendering.rescale
    if ranges is None and not as_is:
        try:
            ranges = rescale_of(reader, rendering, aoi)
        except NoValidPixels:
            return None
    if rendering.colormap is None:
        return lambda values: in_grey_or_colour(values, ranges)
    table, only = colormap(rendering.colormap), ranges[0] if ranges else None
    return lambda values: in_colormap(values, only, table)
