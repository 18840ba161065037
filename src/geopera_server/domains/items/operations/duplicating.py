"""Copying an item with its files and profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.identity.access import require_project_write
from geopera_server.domains.items import rules, store
from geopera_server.domains.items.access import require_collection_in, require_item_read
from geopera_server.domains.items.copies.describing import as_new_asset
from geopera_server.domains.items.copies.storing import FORGET_COPIES, ONE_COPY_WITHIN, store_copies, took_too_long
from geopera_server.domains.items.models import ItemName, ItemResponse
from geopera_server.domains.items.presenting import as_item_response
from geopera_server.domains.items.registration import NewItem, register_item
from geopera_server.domains.items.store import changing, copies
from geopera_server.domains.usage.quota import require_storage
from geopera_server.domains.visualization.profiles import copy_profiles
from geopera_server.kernel.context import Context, Outside
from geopera_server.kernel.crashing import crash_point
from geopera_server.kernel.errors import Conflict, Gone, InvalidInput, NotFound
from geopera_server.kernel.jobs import call_off
from geopera_server.kernel.operation import operation
from geopera_server.kernel.principal import Principal
from geopera_server.values.ids import is_id, new_id

COPY_SUFFIX = " (copy)"
_MAX_NAME = 500


class ItemDuplicateInput(BaseModel):
    """Which item, and where its copy goes: by default into the same project and collection."""

    item_id: str
    new_name: ItemName | None = Field(None, description='by default the name with " (copy)"')
    target_project_id: str | None = None
    target_collection_id: str | None = Field(None, description="null puts the copy in no collection")


class CopiesBegun(BaseModel):
    """Where copies will lie, and the item that will name them."""

    item_id: str
    paths: list[str]


class CopiesAwaited(TypedDict):
    """The item that will name copies."""

    item_id: str


@operation("items.copies.begin", effect="compute", scope="items:write", raw=True, internal=True)
async def begin(ctx: Context, given: CopiesBegun) -> CopiesAwaited:
    """Queues the removal of copies that are about to be made, for the case that nothing comes to name them."""
    ctx.enqueue(FORGET_COPIES, given.item_id, {"paths": given.paths}, run_after=ctx.now + ONE_COPY_WITHIN)
    return CopiesAwaited(item_id=given.item_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """An item to copy, and where to."""

    source: Row
    project_id: str
    collection_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """The files of an item as they were copied, for the item of this id."""

    item_id: str
    assets: Sequence[Row]
    paths: dict[str, str]

    def has(self, assets: Sequence[Row]) -> bool:
        """Says whether these assets are still those that were copied."""
        return [_identity(each) for each in assets] == [_identity(each) for each in self.assets]


def _identity(asset: Row) -> tuple[str, str, str | None]:
    return asset["id"], asset["href"], asset["checksum"]


async def _copy_files(outside: Outside, given: ItemDuplicateInput) -> Copied:
    """Copies the files of an item whose copy would be allowed as things stand."""
    async with outside.connection() as conn:
        wanted = await _wanted(conn, outside.principal, given)
        organization_id, source_id = wanted.source["organization_id"], wanted.source["id"]
        assets = (await store.assets_of(conn, organization_id, [source_id]))[source_id]
        await require_storage(conn, organization_id, _stored_bytes(assets))
    item_id = new_id()
    folder = f"projects/{wanted.project_id}/items/{item_id}"
    own = [asset for asset in assets if not asset["external"]]
    paths = {asset["id"]: f"{folder}/{number:02d}-{_name_of(asset)}" for number, asset in enumerate(own)}
    if own:
        await outside.run(begin, {"item_id": item_id, "paths": list(paths.values())}, outside.principal)
        crash_point("copy-begun")
        await store_copies(outside, item_id, {paths[asset["id"]]: asset["href"] for asset in own})
    return Copied(item_id=item_id, assets=assets, paths=paths)


@operation(
    "items.duplicate",
    effect="compute",
    scope="items:write",
    produces=("item",),
    idempotent=True,
    prepare=_copy_files,
    example={"item_id": "0192d3c4-0000-7000-8000-000000000000", "new_name": "Harbour, to draw on"},
)
async def duplicate(ctx: Context, given: ItemDuplicateInput, copied: Copied) -> ItemResponse:
    """Copies an item with its files and visualization profiles, into the same project or another one.

    The copy takes storage of its own, keeps the original's date of expiry, and comes from the item it is a copy of.
    """
    wanted = await _wanted(ctx.conn, ctx.principal, given)
    source = wanted.source
    if not await changing.keep_item(ctx.conn, source["organization_id"], source["id"]):
        raise NotFound("item")
    if not copied.has((await store.assets_of(ctx.conn, source["organization_id"], [source["id"]]))[source["id"]]):
        raise Conflict("The files of this item changed while they were copied. Send the same request again.")
    if copied.paths and not await call_off(ctx.conn, FORGET_COPIES, copied.item_id):
        raise took_too_long()
    await require_storage(ctx.conn, source["organization_id"], _stored_bytes(copied.assets))
    assets = [as_new_asset(asset, href=copied.paths.get(asset["id"], asset["href"])) for asset in copied.assets]
    row = await register_item(ctx, _new_item(wanted, given, copied.item_id), assets, parents=[("item", source["id"])])
    await copy_profiles(ctx, source["id"], row)
    crash_point("copy-before-commit")
    return ItemResponse.model_validate(as_item_response(row))


async def _wanted(conn: Connection, principal: Principal, given: ItemDuplicateInput) -> _Wanted:
    """Returns what to copy and where to; raises NotFound, Denied, Gone, Conflict, InvalidInput."""
    source = await require_item_read(conn, principal, given.item_id)
    project_id = await require_project_write(conn, principal, given.target_project_id or source["project_id"], new_data=True)
    if source["organization_id"] != principal.organization_id:
        # Operators read everybody's items, and still take none with them.
        raise NotFound("item")
    if source["lifecycle_state"] == rules.EXPIRED:
        raise Gone("This item has expired, and its files with it. Order it again to have them back.", code="retention_expired")
    return _Wanted(
        source=source, project_id=project_id, collection_id=await _collection(conn, principal, given, source, project_id)
    )


async def _collection(
    conn: Connection, principal: Principal, given: ItemDuplicateInput, source: Row, project_id: str
) -> str | None:
    if "target_collection_id" not in given.model_fields_set:
        return source["collection_id"] if project_id == source["project_id"] else None
    wanted, organization_id = given.target_collection_id, principal.organization_id
    if wanted is None:
        return None
    try:
        return await require_collection_in(conn, project_id, wanted)
    except NotFound:
        if not is_id(wanted) or organization_id is None or not await copies.has_collection(conn, organization_id, wanted):
            raise
        raise InvalidInput(
            "This collection is in another project than the copy will be.", loc=("target_collection_id",)
        ) from None


def _new_item(wanted: _Wanted, given: ItemDuplicateInput, item_id: str) -> NewItem:
    source = wanted.source
    same = (
        "type", "description", "datetime", "start_datetime", "end_datetime", "geometry", "bbox", "gsd", "cloud_cover",
        "properties", "stac_extensions", "expires_at",
    )  # fmt: skip
    return NewItem(
        **{name: source[name] for name in same},
        id=item_id,
        project_id=wanted.project_id,
        collection_id=wanted.collection_id,
        stac_id=f"{source['stac_id']}-copy",
        name=given.new_name or source["name"][: _MAX_NAME - len(COPY_SUFFIX)] + COPY_SUFFIX,
        duplicated_from_id=source["id"],
    )


def _stored_bytes(assets: Sequence[Row]) -> int:
    return sum(asset["file_size_bytes"] for asset in assets if not asset["external"])


def _name_of(asset: Row) -> str:
    return str(asset["href"]).rpartition("/")[2]
