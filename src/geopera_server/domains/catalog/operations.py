"""Searching imagery, and the registry of where it comes from."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

from geopera_server.domains.catalog import registry, store
from geopera_server.domains.catalog.importing import Batch, read_batch
from geopera_server.domains.catalog.pictures import picture
from geopera_server.domains.catalog.search import federated, search, streamed
from geopera_server.domains.catalog.shapes import (
    CatalogSearchInput,
    CatalogSearchOutput,
    FederatedSearchInput,
    FederatedSearchOutput,
    ImageAssetInput,
    ScenesDeleteInput,
    ScenesDeleteReply,
    ScenesImportInput,
    ScenesImportReply,
    SearchStreamInput,
    SourceDTO,
    SourceSaveInput,
    SourcesListInput,
    SourcesListOutput,
    VendorsListInput,
    VendorsListReply,
)
from geopera_server.domains.catalog.sources import Source, with_collections
from geopera_server.domains.catalog.streaming import EVENT_STREAM, NDJSON, as_events, as_lines
from geopera_server.domains.pricing.book import price_book
from geopera_server.kernel.answers import Elsewhere, Stream
from geopera_server.kernel.context import Context, Outside
from geopera_server.kernel.errors import NotFound
from geopera_server.kernel.operation import operation

_SYDNEY = {
    "collections": ["sentinel-2-l2a"],
    "bbox": [151.10, -33.92, 151.30, -33.78],
    "datetime": "2024-01-01T00:00:00Z/2024-03-31T23:59:59Z",
    "query": {"cloudCoverage": {"LTE": 20}},
    "limit": 10,
}
_IMAGE = {"host_name": "earthsearch-aws", "image_id": "S2B_56HLH_20240115_0_L2A"}
_ARCHIVE = {
    "id": "my-archive",
    "title": "My archive",
    "description": "Orthophotos of our own flights.",
    "access_model": "commercial",
    "connector": {"kind": "index"},
}
_SCENE = {
    "type": "Feature",
    "id": "FLIGHT_20240501_07",
    "collection": "orthophotos",
    "geometry": {"type": "Polygon", "coordinates": [[[11.1, 46.4], [11.2, 46.4], [11.2, 46.5], [11.1, 46.5], [11.1, 46.4]]]},
    "properties": {"datetime": "2024-05-01T10:00:00Z", "gsd": 0.1},
    "assets": {"data": {"href": "/srv/imagery/20240501_07.tif", "type": "image/tiff; application=geotiff", "roles": ["data"]}},
}


@operation("catalog.search", effect="read", scope="catalog:read", example={"host_name": "earthsearch-aws", **_SYDNEY})
async def catalog_search(outside: Outside, given: CatalogSearchInput) -> CatalogSearchOutput:
    """Searches the captures of one host, or of all, newest first, with what they would cost you.

    Without a host, or with `geopera`, every source is searched and `sources` tells what became of each. Captures that you
    cannot order are left out unless `full_catalog` is true. When a host does not answer, what it last said is used and the
    reply says `stale`.
    """
    return CatalogSearchOutput.model_validate(await search(outside, given))


@operation("catalog.federated_search", effect="read", scope="catalog:read", example=_SYDNEY)
async def federated_search(outside: Outside, given: FederatedSearchInput) -> FederatedSearchOutput:
    """Searches every source whose coverage meets your area at once, each scene once, newest first.

    A source that fails tells so in `sources`; the others are found all the same.
    """
    return FederatedSearchOutput.model_validate(await federated(outside, given))


@operation(
    "catalog.search_stream",
    effect="read",
    scope="catalog:read",
    raw=True,
    free_form=True,
    media_type=EVENT_STREAM,
    other_media_types=(NDJSON,),
    example=_SYDNEY,
)
async def search_stream(outside: Outside, given: SearchStreamInput) -> Stream:
    """Searches every source whose coverage meets your area and tells of each as it answers.

    Newline-delimited JSON, or server-sent events for whoever accepts `text/event-stream`: `source_started`, `features`,
    `source_completed` and at last `done`, after 60 s at most.
    """
    told = await streamed(outside, given)
    as_event_stream = EVENT_STREAM in outside.asked.accept
    written = as_events if as_event_stream else as_lines
    return Stream(pieces=_pieces(told, written), media_type=EVENT_STREAM if as_event_stream else NDJSON)


async def _pieces(
    told: AsyncGenerator[dict[str, Any], None], written: Callable[[dict[str, Any]], bytes]
) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(told) as objects:
        async for each in objects:
            yield written(each)


@operation("catalog.image.quicklook", effect="read", scope="catalog:read", raw=True, example=_IMAGE)
async def quicklook(outside: Outside, given: ImageAssetInput) -> Elsewhere:
    """Leads to the large preview of a scene: a GET is redirected there, a POST is told the address."""
    return await picture(outside, given.host_name, given.image_id, ("quicklook",))


@operation("catalog.image.thumbnail", effect="read", scope="catalog:read", raw=True, example=_IMAGE)
async def thumbnail(outside: Outside, given: ImageAssetInput) -> Elsewhere:
    """Leads to the small preview of a scene, or to the large one where there is no other."""
    return await picture(outside, given.host_name, given.image_id, ("thumbnail", "quicklook"))


@operation("catalog.sources.list", effect="read", scope="catalog:read")
async def sources_list(ctx: Context, given: SourcesListInput) -> SourcesListOutput:
    """Lists the sources of imagery and their collections by title."""
    found = registry.narrowed(
        await store.active_sources(ctx.conn), scope=given.scope, country=given.country, data_type=given.data_type
    )
    return SourcesListOutput.model_validate({"sources": [source.as_dto() for source in found]})


@operation("catalog.vendors.list", effect="read", scope="catalog:read", raw=True)
async def vendors_list(ctx: Context, given: VendorsListInput) -> VendorsListReply:  # noqa: ARG001
    """Lists who sells imagery, where, in which resolutions, and whether you have a price for it."""
    book = await price_book(ctx.conn, ctx.organization_id)
    sources, kinds = await store.active_sources(ctx.conn), await store.scene_kinds(ctx.conn)
    return {"vendors": registry.vendors(sources, kinds, book)}


@operation("catalog.admin.source_save", effect="compute", scope="admin:write", extension=True, example=_ARCHIVE)
async def source_save(ctx: Context, given: SourceSaveInput) -> SourceDTO:
    """Adds a source, or changes what is given of one that exists.

    A `stac` connector searches any STAC API; an `index` one searches the scenes imported here.
    """
    present = await store.lock_source(ctx.conn, given.id)
    saved = registry.saved(present, given, base_url=ctx.links.base_url)
    await store.save_source(ctx.conn, saved, ctx.now)
    if present is not None and present.connector != saved.connector:
        await store.forget_replies_of(ctx.conn, saved.id)
    ctx.touch("source", saved.id)
    return SourceDTO.model_validate(saved.as_dto())


async def _read_import(outside: Outside, given: ScenesImportInput) -> Batch:
    async with outside.connection() as conn:
        source = await _source(conn, given.host)
    # Ten thousand geometries take a second or two: away from everybody else's calls.
    return await asyncio.to_thread(read_batch, source, given.features)


async def _source(conn: Any, host: str) -> Source:
    source = await store.source_of(conn, host)
    if source is None:
        raise NotFound(detail=f"There is no host {host!r}. Add it with catalog.admin.source_save first.")
    return source


@operation(
    "catalog.admin.scenes_import",
    effect="compute",
    scope="admin:write",
    extension=True,
    raw=True,
    prepare=_read_import,
    example={"host": "my-archive", "features": [_SCENE]},
)
async def scenes_import(ctx: Context, given: ScenesImportInput, batch: Batch) -> ScenesImportReply:
    """Adds STAC items to the scene index of a host; with `replace` it also overwrites scenes that are there.

    For a host with its own search these are a mirror, searched when the host cannot be reached. Items that cannot be taken
    are listed with the reason; the others are imported.
    """
    source = await store.lock_source(ctx.conn, given.host) or await _source(ctx.conn, given.host)
    written = await store.save_scenes(ctx.conn, source.id, batch.scenes, replace=given.replace, at=ctx.now)
    await store.note_kinds(ctx.conn, source.id, batch.scenes)
    completed = with_collections(source, batch.collections)
    if completed != source:
        await store.save_source(ctx.conn, completed, ctx.now)
    ctx.touch("source", source.id)
    known = [scene["id"] for scene in batch.scenes if scene["id"] not in written]
    left_alone = [{"id": each, "reason": "It is there already. Send replace to overwrite it."} for each in known]
    imported = sum(what == "new" for what in written.values())
    return {"imported": imported, "updated": len(written) - imported, "rejected": [*batch.rejected, *left_alone]}  # type: ignore[list-item]


@operation(
    "catalog.admin.scenes_delete",
    effect="destructive",
    scope="admin:write",
    extension=True,
    raw=True,
    example={"host": "my-archive", "ids": ["FLIGHT_20240501_07"]},
)
async def scenes_delete(ctx: Context, given: ScenesDeleteInput) -> ScenesDeleteReply:
    """Takes scenes out of the index; orders that hold them go on."""
    source = await _source(ctx.conn, given.host)
    ctx.touch("source", source.id)
    return {"deleted": await store.delete_scenes(ctx.conn, source.id, given.ids, ctx.now)}
