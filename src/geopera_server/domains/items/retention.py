"""How long items and files are kept: they near their end, expire, and are purged when nobody has wanted them back.

What an item takes is free as soon as it expires or is deleted. Its objects stay for 30 days more, in which it can be had back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from geopera_server.db.pool import Row
from geopera_server.domains.items import store
from geopera_server.domains.items.erasing import erase_items, give_up_objects
from geopera_server.domains.items.lineage import item_state
from geopera_server.domains.items.presenting import as_item_response
from geopera_server.domains.items.rules import EXPIRED
from geopera_server.domains.items.store import retention as rows_of
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict

NEAR = timedelta(days=7)
KEPT_FOR = timedelta(days=30)
AT_ONCE = 500


async def expire_some(ctx: Context) -> tuple[int, int]:
    """Moves some of the caller's organization's items on that are due; returns how many expired and how many near it.

    Fewer than AT_ONCE of each means that no more are due.
    """
    over = await rows_of.lock_due(ctx.conn, ctx.organization_id, ctx.now, AT_ONCE)
    if over:
        await _move(ctx, over, EXPIRED, "item.expired")
        await rows_of.expire_assets(ctx.conn, ctx.organization_id, [row["id"] for row in over], ctx.now)
    near = await rows_of.lock_near(ctx.conn, ctx.organization_id, at=ctx.now, near=ctx.now + NEAR, limit=AT_ONCE)
    if near:
        await _move(ctx, near, "expiring", "item.expiring")
    return len(over), len(near)


async def _move(ctx: Context, before: Sequence[Row], state: str, event: str) -> None:
    ids = [row["id"] for row in before]
    assets = await store.assets_of(ctx.conn, ctx.organization_id, ids)
    after = {row["id"]: row for row in await rows_of.move(ctx.conn, ctx.organization_id, ids, state, ctx.now)}
    for row in before:
        _record(ctx, row, after[row["id"]], assets[row["id"]])
        ctx.emit(event, ("item", row["id"]), as_item_response(after[row["id"]]), project_id=row["project_id"])


def _record(ctx: Context, before: Row, after: Row, assets: Sequence[Row]) -> None:
    ctx.lineage.event(
        ("item", before["id"]),
        before=item_state(before, assets),
        after=item_state(after, assets),
        organization_id=before["organization_id"],
    )


async def purge_some(ctx: Context) -> tuple[int, int, int]:
    """Removes some of what the caller's organization deleted or lost by expiry too long ago to have back.

    Returns how many items went, and of items that stay how many deleted and how many expired files. Fewer than AT_ONCE of each
    means that no more are due.
    """
    before = ctx.now - KEPT_FOR
    items = await rows_of.lock_to_purge(ctx.conn, ctx.organization_id, before, AT_ONCE)
    await erase_items(ctx, items)
    deleted = await rows_of.purge_deleted_assets(ctx.conn, ctx.organization_id, before, AT_ONCE)
    paths = [row["href"] for row in deleted if not row["external"] and row["erased_at"] is None]
    expired = await rows_of.mark_erased(ctx.conn, ctx.organization_id, before=before, at=ctx.now, limit=AT_ONCE)
    if paths or expired:
        await give_up_objects(ctx, ctx.organization_id, [*paths, *expired])
    return len(items), len(deleted), len(expired)


async def set_retention(ctx: Context, rows: Sequence[Row], expires_at: datetime | None) -> int:
    """Keeps locked, live items of anybody until then, or for ever, and returns how many those are.

    An expired item comes back to life if that is later; raises Conflict when its files are gone for good.
    """
    for organization_id, theirs in _by_organization(rows).items():
        await _retain(ctx, organization_id, theirs, expires_at)
    return len(rows)


def _by_organization(rows: Sequence[Row]) -> Mapping[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["organization_id"], []).append(row)
    return found


async def _retain(ctx: Context, organization_id: str, before: Sequence[Row], expires_at: datetime | None) -> None:
    ids = [row["id"] for row in before]
    assets = await store.assets_of(ctx.conn, organization_id, ids)
    revived = [row["id"] for row in before if row["lifecycle_state"] == EXPIRED and _state(row, ctx.now, expires_at) != EXPIRED]
    if revived:
        await _revive(ctx, organization_id, revived)
    for state in sorted({_state(row, ctx.now, expires_at) for row in before}):
        chosen = [row["id"] for row in before if _state(row, ctx.now, expires_at) == state]
        after = await rows_of.retain(ctx.conn, organization_id, chosen, expires_at=expires_at, state=state, at=ctx.now)
        changed = {row["id"]: row for row in after}
        for row in before:
            if row["id"] in changed:
                _record(ctx, row, changed[row["id"]], assets[row["id"]])
                _tell(ctx, changed[row["id"]])


async def _revive(ctx: Context, organization_id: str, item_ids: Sequence[str]) -> None:
    gone = await rows_of.items_with_erased_files(ctx.conn, organization_id, item_ids)
    if gone:
        raise Conflict(
            f"The files of {len(gone)} of these items expired more than {KEPT_FOR.days} days ago and are gone,"
            f" as those of {min(gone)}. Leave them out.",
            code="illegal_state",
        )
    await rows_of.take_assets_back(ctx.conn, organization_id, item_ids)


def _tell(ctx: Context, row: Row) -> None:
    ctx.emit(
        "item.updated",
        ("item", row["id"]),
        as_item_response(row),
        project_id=row["project_id"],
        organization_id=row["organization_id"],
    )


def _state(row: Row, at: datetime, expires_at: datetime | None) -> str:
    """Returns the state of an item that is kept until then; what is due is moved on by the clock, with its events."""
    now = str(row["lifecycle_state"])
    if now == EXPIRED:
        return EXPIRED if expires_at is not None and expires_at <= at else "active"
    if now == "expiring" and (expires_at is None or expires_at > at + NEAR):
        return "active"
    return now
