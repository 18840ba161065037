"""What other domains do to shares and tile keys when what they open goes away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from geopera_server.db.pool import Row
from geopera_server.domains.sharing.lineage import link_state
from geopera_server.domains.sharing.presenting import as_share_link
from geopera_server.domains.sharing.rules import status_of
from geopera_server.domains.sharing.store import keys, links
from geopera_server.kernel.context import Context


async def end_shares_of(ctx: Context, target_type: Literal["item", "collection"], target_ids: Sequence[str]) -> int:
    """Ends the share links and tile keys of items or collections for good, and returns how many links that were.

    The caller has made sure that these targets are its own to end. A target that comes back has no share any more.
    """
    if not target_ids:
        return 0
    rows = await links.lock_live_links(ctx.conn, target_type, target_ids, ctx.now)
    await links.revoke_links(ctx.conn, [row["id"] for row in rows], ctx.now)
    await keys.revoke_keys_of(ctx.conn, target_type, target_ids, ctx.now)
    for row in rows:
        record_end(ctx, row)
    return len(rows)


async def erase_shares_of_project(ctx: Context, project_id: str) -> int:
    """Removes the share links and tile keys of a project that is erased, and returns how many links worked until then.

    Of those that were over already the lineage says that they are gone; no event tells of their end.
    """
    rows = await links.lock_links_of_project(ctx.conn, project_id)
    live = [row for row in rows if status_of(row, ctx.now) == "active"]
    for row in rows:
        _record_end(ctx, row)
    for row in live:
        _tell_of_end(ctx, row)
    await links.delete_links(ctx.conn, [row["id"] for row in rows])
    await keys.delete_keys_of_project(ctx.conn, project_id)
    return len(live)


def record_end(ctx: Context, row: Row) -> None:
    """Records that a link was ended, from the row as it was before, and tells of it by share_link.revoked."""
    _record_end(ctx, row)
    _tell_of_end(ctx, row)


def _record_end(ctx: Context, row: Row) -> None:
    before, after = link_state(row), link_state({**row, "revoked_at": ctx.now})
    ctx.lineage.event(("share_link", row["id"]), before=before, after=after, organization_id=row["organization_id"])


def _tell_of_end(ctx: Context, row: Row) -> None:
    ctx.emit(
        "share_link.revoked",
        ("share_link", row["id"]),
        as_share_link({**row, "revoked_at": ctx.now}, ctx.now),
        project_id=row["project_id"],
        organization_id=row["organization_id"],
    )
