"""Says to maps where the tiles of an item are and what they show."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from geopera_server.db.pool import Row
from geopera_server.domains.tiles.addresses import host_of
from geopera_server.domains.tiles.figures import rescale_text
from geopera_server.domains.tiles.refusals import done
from geopera_server.domains.tiles.shapes import ShownVisualization, TileJson
from geopera_server.domains.tiles.showing import Shown
from geopera_server.domains.visualization.configs import Picture
from geopera_server.kernel.context import Outside
from geopera_server.kernel.errors import Denied, InvalidInput
from geopera_server.kernel.tickets import issue

if TYPE_CHECKING:
    from geopera_server.raster.render import TileInfo

TICKET_LASTS = timedelta(hours=1)
MAX_KEY = 2_000
MAX_ADDRESS = 2_000


async def tilejson_of(outside: Outside, shown: Shown, tiles_url: str) -> TileJson:
    """Returns TileJSON 3.0.0 for tiles at an address with {z}, {x} and {y} in it."""
    seen = await extent_of(outside, shown)
    west, south, east, north = seen.bounds_wgs84
    middle = (west + east) / 2 if west <= east else (west + east + 360) / 2
    name = shown.item["name"] if shown.label is None else f"{shown.item['name']}: {shown.label}"
    return TileJson(
        {
            "tilejson": "3.0.0",
            "name": name,
            "description": shown.item["description"] or "",
            "version": "1.0.0",
            "scheme": "xyz",
            "tiles": [tiles_url],
            "minzoom": seen.minzoom,
            "maxzoom": seen.maxzoom,
            "bounds": [west, south, east, north],
            "center": [middle if middle <= 180 else middle - 360, (south + north) / 2, seen.minzoom],
            "geopera:visualization": ShownVisualization(id=shown.id, label=shown.label, rescale=rescale_of(shown.picture)),
        }
    )


async def extent_of(outside: Outside, shown: Shown) -> TileInfo:
    """Returns where the raster lies and at which zoom levels it is worth looking at; raises OperationError."""
    from geopera_server.raster.render import info  # noqa: PLC0415

    return await done(outside.ports.renders, lambda: info(shown.target), loc=("item_id",), host=host_of(shown.target))


def rescale_of(picture: Picture) -> str | None:
    """Returns `min,max`, per band with `;` between; None where the renderer chooses."""
    if picture.rescale is None:
        return None
    return ";".join(dict.fromkeys(rescale_text(list(span)) for span in picture.rescale))


def key_for(outside: Outside, item: Row, key: str = "") -> str:
    """Returns what opens an item's tiles in an address: the key given, else a read ticket for an hour.

    Raises Denied for the holder of a ticket, whose time a new one would make longer.
    """
    if key:
        if len(key) > MAX_KEY:
            raise InvalidInput(f"A key has at most {MAX_KEY:,} characters.", loc=("key",))
        return key
    if outside.principal.target is not None:
        raise Denied("A ticket makes no new tickets. Send the one that you have as key.", code="missing_scope")
    return issue(
        outside.links,
        kind="read",
        organization_id=item["organization_id"],
        item_id=item["id"],
        collection_id=None,
        expires_at=outside.now + TICKET_LASTS,
    )


def tiles_address(base_url: str, item_id: str, key: str, *, extension: str, **wishes: str | None) -> str:
    """Returns the address of an item's tiles with {z}, {x} and {y} in it; the key is part of its path."""
    said = {name: wish for name, wish in wishes.items() if wish is not None}
    query = f"?{urlencode(said)}" if said else ""
    return f"{base_url}/api/v1/items/{item_id}/tiles/k/{quote(key, safe='')}/{{z}}/{{x}}/{{y}}.{extension}{query}"
