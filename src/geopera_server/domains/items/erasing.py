"""Taking items away for good: their rows in the transaction, their objects by a job once it has committed."""

from __future__ import annotations

from collections.abc import Sequence

from geopera_server.db.pool import Row
from geopera_server.domains.items import store
from geopera_server.domains.items.lineage import asset_state, collection_state, item_state
from geopera_server.domains.items.store import collections
from geopera_server.domains.items.store import erasing as rows_of
from geopera_server.domains.visualization.profiles import erase_profiles_of
from geopera_server.kernel.context import Context

ERASE = "objects.erase"
AT_ONCE = 1_000


async def erase_items(ctx: Context, rows: Sequence[Row]) -> int:
    """Removes items of the caller's organization with all that is theirs, and returns how many counted bytes that frees.

    Those that were not deleted before are recorded in the lineage as deleted now, with their assets; no event tells of it.
    """
    if not rows:
        return 0
    item_ids = [row["id"] for row in rows]
    live = [row for row in rows if row["deleted_at"] is None]
    assets = await store.assets_of(ctx.conn, ctx.organization_id, [row["id"] for row in live])
    for row in live:
        _record_end(ctx, row, assets[row["id"]])
    await erase_profiles_of(ctx, item_ids)
    given_up = await rows_of.give_up_objects_of(ctx.conn, ctx.organization_id, item_ids, call_id=ctx.invocation_id, at=ctx.now)
    if given_up:
        _erase_after_commit(ctx)
    return await rows_of.erase_rows(ctx.conn, ctx.organization_id, item_ids)


def _record_end(ctx: Context, row: Row, assets: Sequence[Row]) -> None:
    gone = {**row, "lifecycle_state": "deleted", "deleted_at": ctx.now}
    ctx.lineage.event(("item", row["id"]), before=item_state(row, assets), after=item_state(gone, ()))
    for asset in assets:
        after = asset_state({**asset, "deleted_at": ctx.now})
        ctx.lineage.event(("asset", asset["id"]), before=asset_state(asset), after=after)


async def give_up_objects(ctx: Context, organization_id: str, paths: Sequence[str]) -> None:
    """Has objects in own storage removed once the call has committed; one that an asset names by then is left alone."""
    if await rows_of.give_up_objects(ctx.conn, organization_id, paths, call_id=ctx.invocation_id, at=ctx.now):
        _erase_after_commit(ctx, organization_id)


def _erase_after_commit(ctx: Context, organization_id: str | None = None) -> None:
    if not any(job.kind == ERASE and job.entity_id == ctx.invocation_id for job in ctx.jobs):
        ctx.enqueue(ERASE, ctx.invocation_id, organization_id=organization_id)


async def erase_library_of_project(ctx: Context, project_id: str) -> int:
    """Removes all items and collections of a project that nobody else can reach, and returns how many counted bytes that frees.

    Whatever is left in the project's folder goes after the commit.
    """
    freed = 0
    for deleted in (True, False):
        while rows := await rows_of.items_of_project(ctx.conn, ctx.organization_id, project_id, deleted=deleted, limit=AT_ONCE):
            freed += await erase_items(ctx, rows)
    found = await collections.collections_to_erase(ctx.conn, ctx.organization_id, project_id)
    for row in found:
        if row["deleted_at"] is None:
            gone = {**row, "deleted_at": ctx.now}
            ctx.lineage.event(("collection", row["id"]), before=collection_state(row), after=collection_state(gone))
    await collections.erase_collections(ctx.conn, ctx.organization_id, [row["id"] for row in found])
    ctx.enqueue(ERASE, project_id, {"folder": f"projects/{project_id}"})
    return freed
