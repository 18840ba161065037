"""Renders tiles, thumbnails and figures of rasters. All of it is synchronous and may run in any thread.

A tile is made in this order: the blocks of it that the raster meets, their place in the overview that suits the zoom
level, the pixels there, formula, stretch and colours, and the encoding. Where the nearest pixel is asked for, colours
are given before sampling when that means fewer pixels.
"""

from __future__ import annotations

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
from geopera_server.raster.tiles.colouring import Packed, in_categories, in_colormap, in_grey_or_colour
from geopera_server.raster.tiles.cutting import inside_aoi
from geopera_server.raster.tiles.encoding import FORMATS, Format, encoded, encoded_exactly, transparent
from geopera_server.raster.tiles.levels import Part
from geopera_server.raster.tiles.measuring import BandStats, RasterStats, statistics
from geopera_server.raster.tiles.mercator import MAX_ZOOM, Tile
from geopera_server.raster.tiles.overviewing import evaluated
from geopera_server.raster.tiles.placing import Placed, blocks_of, placed
from geopera_server.raster.tiles.rendering import Rendering
from geopera_server.raster.tiles.sampling import bilinear, nearest
from geopera_server.raster.tiles.telling import TileInfo, info
from geopera_server.raster.tiles.values import Values, read_values

__all__ = [
    "FORMATS",
    "MAX_ZOOM",
    "BandStats",
    "Format",
    "RasterStats",
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
        values = _read(reader, wished, bands, level, Part(0, 0, level.width, level.height))
        picture = _picture(reader, wished, _formula(wished, values), None)
        smooth = not facts.categorical and wished.categories is None
    packed = np.zeros((level.height, level.width), dtype=np.uint32) if picture is None else np.ascontiguousarray(picture)
    image = Image.frombuffer("RGBA", (level.width, level.height), packed, "raw", "RGBA", 0, 1)
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
        drawn = _block(reader, rendering, bands, found, aoi)
        if drawn is None:
            return None
        if (block.width, block.height) == (wanted.size, wanted.size):
            whole = drawn
        else:
            whole[block.row : block.row + block.height, block.column : block.column + block.width] = drawn
    if inside is not None:
        whole = np.where(inside, whole, _canvas(rendering, wanted.size))
    return whole if rendering.terrain or whole.any() else None


def _canvas(rendering: Rendering, size: int) -> Packed:
    return sea_level(size).copy() if rendering.terrain else np.zeros((size, size), dtype=np.uint32)


def _block(
    reader: Reader, rendering: Rendering, bands: tuple[int, ...], found: Placed, aoi: dict[str, Any] | None
) -> Packed | None:
    values = _read(reader, rendering, bands, found.level, found.part)
    if not nearest_only(reader.facts, rendering):
        pixels = bilinear(values.pixels, values.valid, found)
        if not rendering.terrain and rendering.formula is None and reader.facts.dtype == "uint8":
            pixels = np.rint(pixels).astype(np.uint8)
        return _coloured(reader, rendering, Values(pixels, _seen(values, found)), aoi)
    fewer = found.part.width * found.part.height <= found.block.width * found.block.height
    if fewer and not rendering.terrain:
        drawn = _coloured(reader, rendering, values, aoi)
        if drawn is None:
            return None
        sampled = nearest(drawn, found)
        return sampled if found.inside is None else np.where(found.inside, sampled, np.uint32(0))
    return _coloured(reader, rendering, Values(nearest(values.pixels, found), _seen(values, found)), aoi)


def _seen(values: Values, found: Placed) -> Any:
    """Where the sampled pixels are valid and lie in the raster at all."""
    seen = None if values.valid is None else nearest(values.valid, found)
    if found.inside is None:
        return seen
    return found.inside if seen is None else seen & found.inside


def _read(reader: Reader, rendering: Rendering, bands: tuple[int, ...], level: Any, part: Part) -> Values:
    if not bands:
        return Values(np.empty((0, part.height, part.width), dtype=np.uint8), None)
    return read_values(reader, level, part, bands, nodata=rendering.nodata, all_bands=rendering.formula is not None)


def _formula(rendering: Rendering, values: Values) -> Values:
    return values if rendering.formula is None else evaluated(rendering.formula, values)


def _coloured(reader: Reader, rendering: Rendering, values: Values, aoi: dict[str, Any] | None) -> Packed | None:
    values = _formula(rendering, values)
    if rendering.terrain:
        return in_terrain(values.pixels[0], values.valid, invert=rendering.invert)
    return _picture(reader, rendering, values, aoi)


def _picture(reader: Reader, rendering: Rendering, values: Values, aoi: dict[str, Any] | None) -> Packed | None:
    """The colours of the values; None when the raster has no valid pixel to take a stretch from."""
    facts = reader.facts
    named = class_colours(rendering.colormap) if rendering.colormap is not None else None
    by_value = rendering.categories or named
    if by_value is not None:
        return in_categories(values, by_value)
    as_is = rendering.rescale is None and rendering.formula is None and rendering.colormap is None and facts.finished
    if as_is and facts.palette is not None:
        return in_categories(values, tuple((float(value), colour) for value, colour in facts.palette.items()))
    ranges = rendering.rescale
    if ranges is None and not as_is:
        try:
            ranges = rescale_of(reader, rendering, aoi)
        except NoValidPixels:
            return None
    if rendering.colormap is not None:
        return in_colormap(values, ranges[0] if ranges else None, colormap(rendering.colormap))
    return in_grey_or_colour(values, ranges)
