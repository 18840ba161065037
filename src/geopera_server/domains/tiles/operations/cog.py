"""Pictures and figures of any readable raster by its address; owns nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from geopera_server.domains.tiles.addresses import Located, host_of, target_of
from geopera_server.domains.tiles.drawing import count, drawn, key_of, pictured, require_tiles_left
from geopera_server.domains.tiles.figures import area_figures
from geopera_server.domains.tiles.refusals import done
from geopera_server.domains.tiles.shapes import AreaFigures, ColormapShown, FormulaShown
from geopera_server.domains.tiles.showing import rendering_of
from geopera_server.domains.tiles.wanted import (
    checked_format,
    checked_place,
    checked_quality,
    checked_side,
    read_aoi,
    read_bands,
    read_rescale,
)
from geopera_server.domains.visualization.bands import Bands
from geopera_server.domains.visualization.configs import Picture, checked_colormap, formula_of
from geopera_server.domains.visualization.indices import INDICES
from geopera_server.kernel.answers import Media, NotModified
from geopera_server.kernel.context import Context, Outside
from geopera_server.kernel.errors import InvalidInput
from geopera_server.kernel.operation import operation

if TYPE_CHECKING:
    from geopera_server.raster.render import Rendering

_URL = "projects/0198f1c2-0000-7000-8000-000000000000/items/scene/data.tif"
_EXAMPLE_TILE = {"url": _URL, "z": 12, "x": 2176, "y": 1455, "format": "webp"}
_EXAMPLE_GEOMETRY = {
    "type": "Polygon",
    "coordinates": [[[11.2, 46.4], [11.3, 46.4], [11.3, 46.5], [11.2, 46.5], [11.2, 46.4]]],
}


class CogEmptyInput(BaseModel):
    """Nothing to say."""


@operation("cog.colormaps", effect="read", scope="tiles:read", raw=True, example={})
async def colormaps(_ctx: Context, _given: CogEmptyInput) -> dict[str, list[ColormapShown]]:
    """Lists the colormaps by group with some of their colours; `_r` behind a name reverses it."""
    from geopera_server.raster.colormaps import listed  # noqa: PLC0415

    return {
        group: [ColormapShown(name=each["name"], label=each["label"], colors=each["colors"]) for each in found]
        for group, found in listed().items()
    }


@operation("cog.formulas", effect="read", scope="tiles:read", raw=True, example={})
async def formulas(_ctx: Context, _given: CogEmptyInput) -> dict[str, FormulaShown]:
    """Lists published spectral indices by id: formula over the roles of bands, values, colours and source."""
    return {
        index.id: FormulaShown(
            name=index.name,
            label=index.label,
            formula=index.formula,
            bands=list(index.roles),
            value_range=list(index.value_range),
            colormap=index.colormap,
            category=index.category,
            description=f"{index.source}. Of {'reflectance from 0 to 1' if index.of_reflectance else 'any numbers'}.",
        )
        for index in INDICES.values()
    }


class CogTileInput(BaseModel):
    """Which raster, which tile of it, and what it is to look like."""

    url: str
    z: int
    x: int
    y: int
    format: str = Field(description="webp, png or jpeg")
    bands: str | None = Field(None, description="one or three 1-based numbers, as 4,3,2")
    expression: str | None = Field(None, description="formula over b1 … bN, in place of bands")
    rescale: str | None = Field(None, description="min,max once, or per band with ; between")
    colormap: str | None = None
    aoi: str | None = Field(None, description="GeoJSON polygon as text, which clips")
    quality: int = 85


@operation(
    "cog.tile.render",
    effect="read",
    scope="tiles:read",
    raw=True,
    media_type="image/webp",
    rate_class="tiles",
    example=_EXAMPLE_TILE,
)
async def tile_render(outside: Outside, given: CogTileInput) -> Media | NotModified:
    """Draws a Web Mercator tile of a raster; transparent where it has no data.

    Tiles of own files count as tile requests of the organization that owns them.
    """
    place = checked_place(given.z, given.x, given.y)
    form, quality, aoi = checked_format(given.format), checked_quality(given.quality), read_aoi(given.aoi)
    located = await target_of(outside, given.url)
    rendering = rendering_of(_picture(given, await _bands(outside, located)))
    return await _counted_tile(outside, located, rendering, place, form=form, quality=quality, aoi=aoi)


async def _counted_tile(
    outside: Outside, located: Located, rendering: Rendering, place: tuple[int, int, int], **how: Any
) -> Media | NotModified:
    if located.item is not None:
        require_tiles_left(outside, located.item)
    tile = await drawn(outside, located.target, rendering, place, **how)
    if located.item is not None and isinstance(tile, Media):
        count(outside, located.item)
    return tile


def _picture(given: CogTileInput, bands: Bands) -> Picture:
    if given.expression is not None and given.bands is not None:
        raise InvalidInput("A picture is made of bands or of an expression, not of both. Leave one out.", loc=("expression",))
    formula = None if given.expression is None else formula_of(given.expression, bands, ("expression",))
    numbers = None if given.bands is None else read_bands(given.bands, bands)
    shown = 1 if formula is not None else len(numbers) if numbers is not None else 3 if bands.count >= 3 else 1
    if given.colormap is not None and numbers is None:
        shown = 1
    rescale = None if given.rescale is None else read_rescale(given.rescale, shown)
    colormap = None if given.colormap is None else checked_colormap(given.colormap, ("colormap",))
    if colormap is not None and shown > 1:
        raise InvalidInput("A colormap colours one band or an expression, not three bands.", loc=("colormap",))
    return Picture(bands=numbers, formula=formula, rescale=rescale, colormap=colormap)


async def _bands(outside: Outside, located: Located) -> Bands:
    """Returns the bands of a raster; those of a file that nobody has measured are read from it."""
    if located.item is not None and located.item["band_count"] is not None:
        return Bands(count=located.item["band_count"], names=tuple(located.item["band_names"]), roles={})
    from geopera_server.raster.render import info  # noqa: PLC0415

    found = await done(outside.ports.renders, lambda: info(located.target), loc=("url",), host=host_of(located.target))
    return Bands(count=found.band_count, names=found.band_names, roles={})


class CogTerrainInput(BaseModel):
    """Which raster of heights, and which tile of it."""

    url: str
    z: int
    x: int
    y: int
    invert: bool = Field(False, description="depths become heights")
    aoi: str | None = Field(None, description="GeoJSON polygon as text, which clips")


@operation(
    "cog.tile.terrain",
    effect="read",
    scope="tiles:read",
    raw=True,
    media_type="image/webp",
    rate_class="tiles",
    example={"url": _URL, "z": 12, "x": 2176, "y": 1455},
)
async def tile_terrain(outside: Outside, given: CogTerrainInput) -> Media | NotModified:
    """Draws a tile of heights as Mapbox Terrain-RGB, lossless WebP; what has no data is 0 m.

    Height in metres is -10000 + 0.1 · (R · 65536 + G · 256 + B).
    """
    from geopera_server.raster import render  # noqa: PLC0415

    place, aoi = checked_place(given.z, given.x, given.y), read_aoi(given.aoi)
    located = await target_of(outside, given.url)
    rendering = render.Rendering(terrain=True, invert=given.invert, resampling="bilinear")
    return await _counted_tile(outside, located, rendering, place, form="webp", quality=100, aoi=aoi)


class CogThumbnailInput(BaseModel):
    """Which raster, and how large the picture may be, in pixels."""

    url: str
    width: int = 256
    height: int = 256


@operation(
    "cog.thumbnail",
    effect="read",
    scope="tiles:read",
    raw=True,
    media_type="image/jpeg",
    rate_class="tiles",
    example={"url": _URL, "width": 512, "height": 512},
)
async def thumbnail(outside: Outside, given: CogThumbnailInput) -> Media | NotModified:
    """Draws a whole raster as a JPEG that fits into width and height, its proportions kept."""
    from geopera_server.raster import render  # noqa: PLC0415

    width, height = checked_side(given.width, "width"), checked_side(given.height, "height")
    located = await target_of(outside, given.url)

    def work() -> bytes:
        return render.thumbnail(located.target, width=width, height=height)

    key = key_of("thumbnail", located.target, width, height)
    return await pictured(outside, key, work, media_type="image/jpeg", host=host_of(located.target))


class CogStatsInput(BaseModel):
    """Which raster, which part of it, and of what figures are wanted."""

    url: str
    geometry: dict[str, Any]
    bands: str | None = Field(None, description="comma list of 1-based numbers; all without")
    expression: str | None = Field(None, description="formula over b1 … bN, in place of bands")
    percentiles: tuple[float, float] = (2.0, 98.0)


@operation(
    "cog.statistics",
    effect="read",
    scope="tiles:read",
    raw=True,
    rate_class="tiles",
    example={"url": _URL, "geometry": _EXAMPLE_GEOMETRY},
)
async def statistics(outside: Outside, given: CogStatsInput) -> AreaFigures:
    """Measures a raster within an area, at most 2,048 pixels on the longer side: extremes, mean, percentiles, histogram."""
    located = await target_of(outside, given.url)
    return await area_figures(
        outside,
        located.target,
        await _bands(outside, located),
        geometry=given.geometry,
        bands_text=given.bands,
        expression=given.expression,
        percentiles=given.percentiles,
    )
