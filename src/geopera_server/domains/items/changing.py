"""Changing what an item is or holds: one at a time, with the lineage and the event that tell of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from geopera_server.db.pool import Row
from geopera_server.domains.items import store
from geopera_server.domains.items.lineage import item_state
from geopera_server.domains.items.presenting import as_item_response
from geopera_server.domains.items.store import changing
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """A live item before a change, kept from other changes until the transaction ends."""

    row: Row
    assets: list[Row]
    state: dict[str, Any]


async def about_to_change(ctx: Context, organization_id: str, item_id: str) -> Before:
    """Keeps everybody else from changing a live item, and returns what it is; raises NotFound when it is gone."""
    row = await changing.lock_item(ctx.conn, organization_id, item_id)
    if row is None:
        raise NotFound("item")
    assets = (await store.assets_of(ctx.conn, organization_id, [item_id]))[item_id]
    return Before(row=row, assets=assets, state=item_state(row, assets))


async def changed(ctx: Context, before: Before, row: Row | None = None) -> Row:
    """Records that an item changed, tells of it by item.updated, and returns it; `row` is what the change left, if known."""
    organization_id, item_id = before.row["organization_id"], before.row["id"]
    if row is None:
        row = await changing.touch_item(ctx.conn, organization_id, item_id, ctx.now)
    assets = (await store.assets_of(ctx.conn, organization_id, [item_id]))[item_id]
    ctx.lineage.event(("item", item_id), before=before.state, after=item_state(row, assets))
    ctx.emit("item.updated", ("item", item_id), as_item_response(row), project_id=row["project_id"])
    return row
