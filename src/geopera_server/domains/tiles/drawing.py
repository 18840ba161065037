"""Draws tiles: each once while it is remembered, counted for whoever owns the file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from geopera_server.db.pool import Row
from geopera_server.domains.tiles.addresses import host_of
from geopera_server.domains.tiles.refusals import refusal_of
from geopera_server.domains.tiles.showing import Shown, Wishes, item_for, rendering_of, shown_of
from geopera_server.domains.tiles.wanted import (
    MEDIA_TYPES,
    TILE_PX,
    Format,
    checked_format,
    checked_place,
    checked_quality,
    checked_size,
)
from geopera_server.kernel.answers import Freshness, Media, NotModified
from geopera_server.kernel.context import Outside
from geopera_server.kernel.errors import RateLimited
from geopera_server.kernel.principal import Principal
from geopera_server.ports.meter import UsageKind
from geopera_server.values.periods import month_of

if TYPE_CHECKING:
    from geopera_server.raster.readers import Target
    from geopera_server.raster.render import Rendering

DRAWN_BY = "1"
"""Changes when the same wishes give other pixels, so that nobody keeps the old ones."""


async def item_tile(
    outside: Outside,
    item_id: str,
    place: tuple[int, int, int],
    *,
    wishes: Wishes,
    image_format: str = "webp",
    quality: int = 82,
    size: int = TILE_PX,
    principal: Principal | None = None,
    counted_as: UsageKind = "tile_requests",
) -> Media | NotModified:
    """Returns a tile of an item at z, x, y that the caller, or the principal in their place, may read.

    Counts as one request for the item's owner unless the caller has it already. Raises NotFound, Gone (`retention_expired`),
    InvalidInput, RateLimited once the owner's plan gives no more tiles this month, and Unavailable.
    """
    z, x, y = checked_place(*place)
    form, fineness, side = checked_format(image_format), checked_quality(quality), checked_size(size)
    item = await item_for(outside, item_id, wishes.profile, principal=principal)
    shown = await shown_of(outside, item, wishes)
    require_tiles_left(outside, item)
    tile = await drawn(
        outside,
        shown.target,
        rendering_of(shown.picture),
        (z, x, y),
        form=form,
        quality=fineness,
        size=side,
        loc=_loc(shown),
    )
    if isinstance(tile, Media):
        count(outside, item, counted_as)
    return tile


def count(outside: Outside, item: Row, counted_as: UsageKind = "tile_requests") -> None:
    """Counts one tile for the organization that an item belongs to."""
    outside.ports.meter.count(item["organization_id"], counted_as, 1, item["project_id"])


def require_tiles_left(outside: Outside, item: Row) -> None:
    """Raises RateLimited when the item's owner has had all tiles that their plan includes and it sells no more."""
    if item["tiles_left"] is None or item["tiles_left"] > 0:
        return
    raise RateLimited(
        "All tiles that the plan includes a month are used. Choose a larger plan, or come back next month.",
        retry_after_s=max(1, int((month_of(outside.now).end - outside.now).total_seconds())),
    )


async def drawn(
    outside: Outside,
    target: Target,
    rendering: Rendering,
    place: tuple[int, int, int],
    *,
    form: Format,
    quality: int,
    size: int = TILE_PX,
    aoi: dict[str, Any] | None = None,
    kept: Freshness = "private",
    loc: tuple[str | int, ...] = ("url",),
) -> Media | NotModified:
    """Returns a tile of a raster, from memory if it was made a short while ago; says so to a caller who has it already.

    Raises OperationError for what cannot be read or drawn.
    """
    from geopera_server.raster.render import tile  # noqa: PLC0415

    key = key_of("tile", target, rendering, place, form, quality, size, aoi)

    def work() -> bytes:
        return tile(target, rendering, *place, format=form, quality=quality, size=size, aoi=aoi)

    return await pictured(outside, key, work, media_type=MEDIA_TYPES[form], kept=kept, loc=loc, host=host_of(target))


async def pictured(
    outside: Outside,
    key: str,
    work: Callable[[], bytes],
    *,
    media_type: str,
    kept: Freshness = "private",
    loc: tuple[str | int, ...] = ("url",),
    host: str | None = None,
) -> Media | NotModified:
    """Returns an image under a key that says all it depends on; raises OperationError for what cannot be read or drawn."""
    etag = f'"{key[:32]}"'
    if outside.asked.if_none_match is not None and names(outside.asked.if_none_match, etag):
        return NotModified(etag=etag, kept=kept)
    try:
        body = await outside.ports.renders.picture(key, work, host=host)
    except Exception as error:
        refusal = refusal_of(error, loc=loc)
        if refusal is None:
            raise
        raise refusal from error
    return Media(body=body, media_type=media_type, etag=etag, kept=kept)


def key_of(kind: str, target: Target, *wishes: object) -> str:
    """Returns a word that is another one whenever the file's version or anything that is wished for is."""
    said = "\x1f".join([DRAWN_BY, kind, target.href.partition("?")[0], target.version, *(repr(each) for each in wishes)])
    return hashlib.blake2b(said.encode(), digest_size=32).hexdigest()


def names(known: str, etag: str) -> bool:
    """Says whether an If-None-Match header names an entity tag, compared weakly (RFC 9110, 13.1.2)."""
    return known.strip() == "*" or etag in {each.strip().removeprefix("W/") for each in known.split(",")}


def _loc(shown: Shown) -> tuple[str | int, ...]:
    return ("expression",) if shown.picture.formula is not None else ("item_id",)
