"""Pictures and figures of items, and where maps find them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field, model_validator

from geopera_server.db.pool import Row
from geopera_server.domains.tiles.describing import (
    extent_of,
    key_for,
    tilejson_of,
    tiles_address,
)
from geopera_server.domains.tiles.drawing import item_tile
from geopera_server.domains.tiles.figures import figures_of_formula, rescale_text
from geopera_server.domains.tiles.shapes import ItemFigures, TileJson
from geopera_server.domains.tiles.showing import Shown, Wishes, item_for, shown_of
from geopera_server.domains.tiles.wmts import Layer, Service, capabilities, service_address
from geopera_server.domains.visualization.configs import formula_of
from geopera_server.domains.visualization.profiles import profiles_of
from geopera_server.kernel.addresses import checked_base_url
from geopera_server.kernel.answers import Media, NotModified
from geopera_server.kernel.context import Outside
from geopera_server.kernel.operation import operation

_ID = "0198f1c2-0000-7000-8000-000000000000"
_EXAMPLE = {"item_id": _ID}
_KEY_VALUES = {"profile": "LAYER", "z": "TILEMATRIX", "y": "TILEROW", "x": "TILECOL"}
_EXAMPLE_TILE = {"item_id": _ID, "z": 12, "x": 2176, "y": 1455}


class ItemTileRenderInput(BaseModel):
    """Which tile of which item, and what it is to look like."""

    item_id: str
    z: int
    x: int
    y: int
    profile: str | None = Field(None, description="id or name of a profile, or id of a visualization")
    bands: str | None = Field(None, description="one or three 1-based numbers or names, as 4,3,2")
    expression: str | None = Field(None, description="formula over b1 … bN or band names, in place of bands")
    rescale: str | None = Field(None, description="min,max once, or per band with ; between")
    colormap: str | None = None
    asset_key: str | None = Field(None, description="default the first raster with data")
    format: str = Field("webp", description="webp, png or jpeg")
    quality: int = 82
    size: int = Field(256, description="pixels on a side, 256 or 512")


@operation(
    "items.tile.render",
    effect="read",
    scope="items:read",
    raw=True,
    media_type="image/webp",
    rate_class="tiles",
    example=_EXAMPLE_TILE,
)
async def render(outside: Outside, given: ItemTileRenderInput) -> Media | NotModified:
    """Draws a Web Mercator tile of an item; transparent where it has no data.

    A profile says what is shown, and without one the item's default; bands, expression, rescale and colormap override it.
    Counts as one tile request of the organization that owns the item.
    """
    wishes = Wishes(
        profile=given.profile,
        asset_key=given.asset_key,
        bands=given.bands,
        expression=given.expression,
        rescale=given.rescale,
        colormap=given.colormap,
    )
    return await item_tile(
        outside,
        given.item_id,
        (given.z, given.x, given.y),
        wishes=wishes,
        image_format=given.format,
        quality=given.quality,
        size=given.size,
    )


class ItemTilejsonInput(BaseModel):
    """Which item, and which picture of it."""

    item_id: str
    profile: str | None = None
    asset_key: str | None = None
    key: str = Field("", description="a tile key to put into the addresses, in place of a ticket for an hour")


@operation("items.tile.tilejson", effect="read", scope="items:read", raw=True, rate_class="tiles", example=_EXAMPLE)
async def tilejson(outside: Outside, given: ItemTilejsonInput) -> TileJson:
    """Returns TileJSON 3.0.0 whose tile address opens the tiles for an hour without any header."""
    item = await item_for(outside, given.item_id, given.profile)
    key = key_for(outside, item, given.key)
    shown = await shown_of(outside, item, Wishes(profile=given.profile, asset_key=given.asset_key))
    address = tiles_address(
        outside.links.base_url, item["id"], key, extension="webp", profile=given.profile, asset_key=given.asset_key
    )
    return await tilejson_of(outside, shown, address)


class ItemStatisticsInput(BaseModel):
    """Which formula, over which file of which item."""

    item_id: str
    expression: str = Field(description="formula over b1 … bN or band names")
    profile: str | None = Field(None, description="a profile whose file is measured")
    asset_key: str | None = None


@operation(
    "items.tile.statistics",
    effect="read",
    scope="items:read",
    raw=True,
    rate_class="tiles",
    example={**_EXAMPLE, "expression": "b1"},
)
async def statistics(outside: Outside, given: ItemStatisticsInput) -> ItemFigures:
    """Measures a formula over an item's whole raster at its smallest overview, to stretch a picture over."""
    item = await item_for(outside, given.item_id, given.profile)
    shown = await shown_of(outside, item, Wishes(profile=given.profile, asset_key=given.asset_key))
    formula = formula_of(given.expression, shown.offer.bands, ("expression",))
    found = await figures_of_formula(outside, shown.target, formula)
    return ItemFigures(
        item_id=item["id"],
        asset_key=shown.asset["key"],
        expression=given.expression,
        statistics=found,
        rescale=rescale_text([found["p2"], found["p98"]]),
    )


class ItemWmtsCapabilitiesInput(BaseModel):
    """Which item, the address that links begin with, and what opens its tiles."""

    item_id: str
    base_url: str
    profile: str | None = Field(None, description="only this layer; all without")
    key: str = Field("", description="a tile key to put into the addresses, in place of a ticket for an hour")


@operation(
    "items.tile.wmts_capabilities",
    effect="read",
    scope="items:read",
    raw=True,
    media_type="application/xml",
    rate_class="tiles",
    example={**_EXAMPLE, "base_url": "https://eo.example.com"},
)
async def wmts_capabilities(outside: Outside, given: ItemWmtsCapabilitiesInput) -> Media:
    """Describes an item's tiles as WMTS 1.0.0, one layer for each picture; its addresses open them without any header."""
    base_url = checked_base_url(given.base_url)
    item = await item_for(outside, given.item_id, given.profile)
    key = key_for(outside, item, given.key)
    shown = await shown_of(outside, item, Wishes(profile=given.profile))
    seen = await extent_of(outside, shown)
    service = Service(
        title=item["name"],
        abstract=item["description"] or "",
        address=service_address(base_url, item["id"], key),
        layers=[_named(shown)] if given.profile is not None else await _layers(outside, item, shown),
        bounds=seen.bounds_wgs84,
        minzoom=seen.minzoom,
        maxzoom=seen.maxzoom,
    )
    return Media(body=capabilities(service).encode(), media_type="application/xml")


def _named(shown: Shown) -> Layer:
    assert shown.id is not None
    return Layer(shown.id, shown.label or shown.id)


async def _layers(outside: Outside, item: Row, shown: Shown) -> list[Layer]:
    """Returns the item's profiles, the default first, then what else its first raster offers."""
    async with outside.connection() as conn:
        rows = await profiles_of(conn, item["organization_id"], item["id"])
    kept = [Layer(row["id"], row["name"]) for row in sorted(rows, key=lambda row: not row["is_default"])]
    known = {layer.title for layer in kept}
    offered = [Layer(spec.id, spec.label) for spec in shown.offer.pictures if spec.label not in known]
    return kept + offered


class ItemWmtsGetTileInput(BaseModel):
    """Which tile of which item; `profile` is the layer."""

    item_id: str
    z: int
    x: int
    y: int
    profile: str | None = None
    format: str = Field("webp", description="webp, png or jpeg")

    @model_validator(mode="before")
    @classmethod
    def _from_key_values(cls, given: Any) -> Any:
        """Takes the names that WMTS requests have, in any case, for ours; ours win."""
        if not isinstance(given, Mapping):
            return given
        upper = {str(name).upper(): value for name, value in given.items()}
        meant = {ours: upper[theirs] for ours, theirs in _KEY_VALUES.items() if theirs in upper}
        return {**meant, **given}


@operation(
    "items.tile.wmts_get_tile",
    effect="read",
    scope="items:read",
    raw=True,
    media_type="image/webp",
    rate_class="tiles",
    example=_EXAMPLE_TILE,
)
async def wmts_get_tile(outside: Outside, given: ItemWmtsGetTileInput) -> Media | NotModified:
    """Draws a tile for WMTS: z is the tile matrix, y the row, x the column."""
    wishes = Wishes(profile=given.profile)
    return await item_tile(outside, given.item_id, (given.z, given.x, given.y), wishes=wishes, image_format=given.format)
