"""Maps and pictures of what is shared, counted for whoever shares it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pydantic import BaseModel, Field

from geopera_server.domains.sharing import rules
from geopera_server.domains.sharing.presenting import tiles_url
from geopera_server.domains.sharing.store import visits as store
from geopera_server.domains.sharing.visiting import Visit, visited
from geopera_server.domains.tiles.addresses import host_of
from geopera_server.domains.tiles.describing import tilejson_of
from geopera_server.domains.tiles.drawing import count, item_tile, key_of, pictured, require_tiles_left
from geopera_server.domains.tiles.shapes import TileJson
from geopera_server.domains.tiles.showing import Wishes, item_for, rendering_of, shown_of
from geopera_server.kernel.answers import Media, NotModified
from geopera_server.kernel.context import Outside
from geopera_server.kernel.errors import OperationError, RateLimited, Unavailable
from geopera_server.kernel.operation import operation

_TOKEN = "q3Vw0Zk1m5cF2sYy8dN7rT4uJ6aL9hXbE0gPiKoQvWM"  # noqa: S105  (of no link)
_EXAMPLE = {"token": _TOKEN, "password": "for the whole crew"}
_OF_COLLECTION = "which item of a shared collection"
THUMBNAIL_PX = 512


class ShareTilejsonInput(BaseModel):
    """A link's token and password, or a ticket as its token; which item, and which picture of it."""

    token: str
    password: str = ""
    profile: str | None = None
    item_id: str | None = Field(None, description=_OF_COLLECTION)


@operation("share.tilejson", effect="read", scope="shares:read", public=True, raw=True, rate_class="tiles", example=_EXAMPLE)
async def tilejson(outside: Outside, given: ShareTilejsonInput) -> TileJson:
    """Returns TileJSON 3.0.0 of a shared item, whose tile address works for a day at most and as long as the link lives."""
    visit = await visited(outside, given.token, given.password, slowly=False)
    with _told_to_visitors():
        item = await item_for(outside, visit.item_id(given.item_id), given.profile, principal=visit.holder)
        shown = await shown_of(outside, item, Wishes(profile=given.profile))
        address = tiles_url(outside.links.base_url, visit.ticket(outside.links), item["id"], profile=given.profile)
        described = await tilejson_of(outside, shown, address)
    async with outside.connection() as conn:
        await store.count_access(
            conn,
            visit.link["id"],
            at=outside.now,
            kind="tilejson",
            ip_prefix=rules.ip_prefix(outside.asked.ip),
            kept=rules.ACCESSES_KEPT,
        )
    return described


class ShareTileInput(BaseModel):
    """A link's token and password, or a ticket as its token; which tile of which item."""

    token: str
    z: int
    x: int
    y: int
    password: str = ""
    format: str = Field("png", description="webp, png or jpeg")
    profile: str | None = None
    item_id: str | None = Field(None, description=_OF_COLLECTION)


@operation(
    "share.tile.render",
    effect="read",
    scope="shares:read",
    public=True,
    raw=True,
    media_type="image/png",
    rate_class="tiles",
    example={**_EXAMPLE, "z": 0, "x": 0, "y": 0},
)
async def render(outside: Outside, given: ShareTileInput) -> Media | NotModified:
    """Draws a Web Mercator tile of a shared item, counted for whoever shares it; transparent where it has no data."""
    # An unknown token is refused at once: it is told so anyway, and at the rate of tiles hashing for it would cost a core.
    visit = await visited(outside, given.token, given.password, slowly=False)
    with _told_to_visitors():
        tile = await item_tile(
            outside,
            visit.item_id(given.item_id),
            (given.z, given.x, given.y),
            wishes=Wishes(profile=given.profile),
            image_format=given.format,
            principal=visit.holder,
            counted_as="shared_tile_requests",
        )
    await _count(outside, visit, tile)
    return tile


class ShareThumbnailInput(BaseModel):
    """A link's token and password, or a ticket as its token; which item."""

    token: str
    password: str = ""
    item_id: str | None = Field(None, description=_OF_COLLECTION)
    profile: str | None = None


@operation(
    "share.thumbnail.render",
    effect="read",
    scope="shares:read",
    public=True,
    raw=True,
    media_type="image/jpeg",
    rate_class="tiles",
    extension=True,
    example=_EXAMPLE,
)
async def thumbnail(outside: Outside, given: ShareThumbnailInput) -> Media | NotModified:
    """Draws a shared item as a small JPEG, counted as one tile for whoever shares it."""
    from geopera_server.raster import render as renderer  # noqa: PLC0415

    visit = await visited(outside, given.token, given.password, slowly=False)
    with _told_to_visitors():
        item = await item_for(outside, visit.item_id(given.item_id), given.profile, principal=visit.holder)
        shown = await shown_of(outside, item, Wishes(profile=given.profile))
        require_tiles_left(outside, item)
        rendering = rendering_of(shown.picture)

        def work() -> bytes:
            return renderer.thumbnail(shown.target, rendering, width=THUMBNAIL_PX, height=THUMBNAIL_PX)

        key = key_of("thumbnail", shown.target, rendering, THUMBNAIL_PX)
        picture = await pictured(outside, key, work, media_type="image/jpeg", loc=("item_id",), host=host_of(shown.target))
    if isinstance(picture, Media):
        count(outside, item, "shared_tile_requests")
    await _count(outside, visit, picture)
    return picture


async def _count(outside: Outside, visit: Visit, picture: Media | NotModified) -> None:
    """Counts a picture with its link, if it was sent; the organization's own count is made where it is drawn."""
    if isinstance(picture, Media):
        async with outside.connection() as conn:
            await store.count_tile(conn, visit.link["id"])


@contextlib.contextmanager
def _told_to_visitors() -> Iterator[None]:
    """Keeps from visitors what only the sharer is to know: figures of the plan, and where a file lies."""
    try:
        yield
    except RateLimited as error:
        raise RateLimited(
            "Whoever shares this has no tiles left this month. Ask them, or come back next month.",
            code=error.code,
            retry_after_s=error.retry_after_s,
        ) from error
    except OperationError as error:
        from geopera_server.raster.errors import SourceError  # noqa: PLC0415

        if isinstance(error.__cause__, SourceError):
            raise Unavailable(
                "The file behind this picture cannot be read at the moment. Ask whoever sent the link.", retry_after_s=60
            ) from error
        raise
