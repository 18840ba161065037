"""Deleting items and assets, and having items back."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from geopera_server.db.pool import Row
from geopera_server.domains.identity.access import require_project_write
from geopera_server.domains.items import rules, store
from geopera_server.domains.items.access import require_item_write
from geopera_server.domains.items.changing import about_to_change, changed
from geopera_server.domains.items.erasing import give_up_objects
from geopera_server.domains.items.lineage import asset_state, item_state
from geopera_server.domains.items.models import ItemResponse
from geopera_server.domains.items.presenting import as_item_response, storage_bytes
from geopera_server.domains.items.registration import spellings
from geopera_server.domains.items.removal import remove_items, require_idle
from geopera_server.domains.items.store import deleting
from geopera_server.domains.usage.quota import require_storage
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.values.ids import is_id

_ITEM_ID = "0192d3c4-0000-7000-8000-000000000000"
RESTORABLE_FOR = timedelta(days=30)
EXPIRING_FOR = timedelta(days=7)


class ItemDeleteInput(BaseModel):
    """Which item."""

    item_id: str


class ItemDeleteOutput(BaseModel):
    """What was deleted."""

    id: str
    ok: bool = True


@operation("items.delete", effect="destructive", scope="items:write", produces=("item",), example={"item_id": _ITEM_ID})
async def delete(ctx: Context, given: ItemDeleteInput) -> ItemDeleteOutput:
    """Deletes an item with its assets: storage is freed and shares end at once, items.restore has it back for 30 days."""
    row = await require_item_write(ctx.conn, ctx.principal, given.item_id)
    await remove_items(ctx, [row])
    return ItemDeleteOutput(id=row["id"])


class ItemRestoreInput(BaseModel):
    """Which deleted item."""

    item_id: str


@operation(
    "items.restore",
    effect="compute",
    scope="items:write",
    produces=("item",),
    extension=True,
    example={"item_id": _ITEM_ID},
)
async def restore(ctx: Context, given: ItemRestoreInput) -> ItemResponse:
    """Takes back an item that was deleted within 30 days, with the assets it had; shares that ended stay so.

    It is in no collection when its own is gone, and has a number behind its stac_id when that is taken by now. One whose time
    went by meanwhile comes back expired, and takes no storage.
    """
    before = await _deleted_item(ctx, given.item_id)
    assets = await deleting.assets_deleted_with(ctx.conn, ctx.organization_id, before["id"])
    row = await _taken_back(ctx, before)
    expires_now = row["lifecycle_state"] == rules.EXPIRED and any(_is_kept(asset) for asset in assets)
    if expires_now:
        await deleting.expire_deleted_assets(ctx.conn, ctx.organization_id, row["id"], ctx.now)
    else:
        await require_storage(ctx.conn, ctx.organization_id, storage_bytes(assets))
    back = await deleting.restore_assets(ctx.conn, ctx.organization_id, row["id"], ctx.now)
    ctx.lineage.event(("item", row["id"]), before=item_state(before, ()), after=item_state(row, back))
    for asset in assets:
        live = {**asset, "deleted_at": None}
        ctx.lineage.event(("asset", asset["id"]), before=asset_state(asset), after=asset_state(live))
    for event in ("item.created", "item.expired") if expires_now else ("item.created",):
        ctx.emit(event, ("item", row["id"]), as_item_response(row), project_id=row["project_id"])
    return ItemResponse.model_validate(as_item_response(row))


def _is_kept(asset: Row) -> bool:
    """Says whether a file is in own storage and has not expired with its item."""
    return not asset["external"] and asset["expired_at"] is None


async def _deleted_item(ctx: Context, item_id: str) -> Row:
    """Returns a deleted item that may be had back; raises NotFound, Denied, Conflict for a project that takes nothing."""
    if not is_id(item_id):
        raise NotFound("item")
    found = await store.item_of(ctx.conn, ctx.organization_id, item_id)
    if found is None or found["deleted_at"] is None:
        raise NotFound("item")
    if await deleting.project_is_gone(ctx.conn, ctx.organization_id, found["project_id"]):
        raise Conflict("The project of this item is deleted, and the item with it.", code="illegal_state")
    await require_project_write(ctx.conn, ctx.principal, found["project_id"], new_data=True)
    since = ctx.now - RESTORABLE_FOR
    row = await deleting.lock_deleted_item(ctx.conn, ctx.organization_id, item_id, since=since)
    if row is None:
        raise NotFound("item")
    return row


async def _taken_back(ctx: Context, before: Row) -> Row:
    values = {"id": before["id"], "organization_id": ctx.organization_id, "at": ctx.now}
    values["lifecycle_state"] = _state_by_date(before, ctx.now)
    for stac_id in spellings(before["stac_id"]):
        row = await deleting.restore_item(ctx.conn, {**values, "stac_id": stac_id})
        if row is not None:
            return row
    raise AssertionError("unreachable: spellings never end")


def _state_by_date(row: Row, at: datetime) -> str:
    """Returns the state that an item has when it comes back: time went on while it was deleted."""
    if row["expires_at"] is not None and row["expires_at"] <= at:
        return rules.EXPIRED
    if row["archived_at"] is not None:
        return "archived"
    expires_soon = row["expires_at"] is not None and row["expires_at"] - EXPIRING_FOR <= at
    return "expiring" if expires_soon else "active"


class AssetDeleteInput(BaseModel):
    """Which file of which item."""

    asset_id: str
    item_id: str


class AssetDeleteOutput(BaseModel):
    """What was deleted, and how much storage that gives back."""

    model_config = ConfigDict(extra="allow")

    id: str | None = None
    item_id: str
    ok: bool = True
    storage_freed_bytes: int


@operation(
    "assets.delete",
    effect="destructive",
    scope="items:write",
    produces=("asset",),
    example={"item_id": _ITEM_ID, "asset_id": "0192d3c4-0000-7000-8000-000000000001"},
)
async def delete_asset(ctx: Context, given: AssetDeleteInput) -> AssetDeleteOutput:
    """Deletes one file of an item for good and frees its storage."""
    item = await require_item_write(ctx.conn, ctx.principal, given.item_id)
    before = await about_to_change(ctx, item["organization_id"], item["id"])
    asset = next((each for each in before.assets if each["id"] == given.asset_id.lower()), None)
    if asset is None:
        raise NotFound("asset")
    await require_idle(ctx, item["organization_id"], [item["id"]], [asset["id"]])
    gone = await deleting.mark_asset_deleted(ctx.conn, item["organization_id"], asset["id"], ctx.now)
    assert gone is not None, "the item is locked"
    ctx.lineage.event(("asset", asset["id"]), before=asset_state(asset), after=asset_state(gone))
    await changed(ctx, before)
    if not asset["external"] and asset["erased_at"] is None:
        await give_up_objects(ctx, item["organization_id"], [asset["href"]])
    freed = 0 if asset["external"] or asset["expired_at"] is not None else asset["file_size_bytes"]
    return AssetDeleteOutput(id=asset["id"], item_id=item["id"], storage_freed_bytes=freed)
