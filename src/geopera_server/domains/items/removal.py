"""Taking items out of use: they can be had back for a while, and take no storage meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from geopera_server.db.pool import Row
from geopera_server.domains.items import store
from geopera_server.domains.items.lineage import asset_state, item_state
from geopera_server.domains.items.presenting import as_item_response
from geopera_server.domains.items.store import deleting
from geopera_server.domains.sharing.ending import end_shares_of
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict


async def remove_items(ctx: Context, rows: Sequence[Row]) -> None:
    """Soft-deletes items of one organization with their assets, ends their shares, and tells of it by lineage and item.deleted.

    Those that are deleted already are left alone. Raises Conflict (`resource_busy`) while work reads one of them.
    """
    if not rows:
        return
    organization_id = rows[0]["organization_id"]
    before = await deleting.lock_items(ctx.conn, organization_id, [row["id"] for row in rows])
    item_ids = [row["id"] for row in before]
    assets = await store.assets_of(ctx.conn, organization_id, item_ids)
    await require_idle(ctx, organization_id, item_ids, [asset["id"] for item_id in item_ids for asset in assets[item_id]])
    await end_shares_of(ctx, "item", item_ids)
    gone = {row["id"]: row for row in await deleting.mark_items_deleted(ctx.conn, organization_id, item_ids, ctx.now)}
    for row in before:
        _tell_of_end(ctx, row, gone[row["id"]], assets[row["id"]])


def _tell_of_end(ctx: Context, before: Row, after: Row, assets: Sequence[Row]) -> None:
    ctx.lineage.event(("item", before["id"]), before=item_state(before, assets), after=item_state(after, ()))
    for asset in assets:
        gone = {**asset, "deleted_at": ctx.now}
        ctx.lineage.event(("asset", asset["id"]), before=asset_state(asset), after=asset_state(gone))
    ctx.emit("item.deleted", ("item", before["id"]), as_item_response(after), project_id=before["project_id"])


async def require_idle(ctx: Context, organization_id: str, item_ids: Sequence[str], asset_ids: Sequence[str]) -> None:
    """Raises Conflict (`resource_busy`) while open work reads one of the items or is about one of them or of the assets.

    Work names the items that it reads as `item_ids` in its payload. Whoever queues it keeps them as they are meanwhile.
    """
    if await deleting.read_by_work(ctx.conn, organization_id, item_ids, asset_ids):
        raise Conflict(
            "A job still reads this item. Wait until it has ended, or cancel it, then delete the item again.",
            code="resource_busy",
            retry_after_s=10,
        )
