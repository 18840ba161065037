"""Reading items, their assets, and where they came from."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from geopera_server.domains.identity.access import require_project_read
from geopera_server.domains.items import store
from geopera_server.domains.items.access import require_collection_in, require_collection_read, require_item_read
from geopera_server.domains.items.family import FAMILY_DEPTH, as_family, ids_in
from geopera_server.domains.items.presenting import as_asset, as_item_full, as_item_response, storage_bytes
from geopera_server.domains.items.shapes import AssetList, CollectionItemPage, ItemFamily, ItemPage
from geopera_server.domains.items.stac import as_stac
from geopera_server.domains.provenance.graph import walk
from geopera_server.domains.visualization.profiles import default_profile_of
from geopera_server.kernel.addresses import checked_base_url
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import InvalidInput
from geopera_server.kernel.operation import operation
from geopera_server.kernel.paging import MAX_OFFSET, clamped

GEOJSON = "application/geo+json"
_EXAMPLE = {"item_id": "0192d3c4-0000-7000-8000-000000000000"}
_EXAMPLE_PROJECT = {"project_id": "0192d3c4-0000-7000-8000-000000000000", "limit": 20}


class ItemGetInput(BaseModel):
    """Which item."""

    item_id: str


class ItemGetOutput(BaseModel):
    """The item with its assets and figures."""

    item: dict[str, Any]


@operation("items.get", effect="read", scope="items:read", example=_EXAMPLE)
async def get(ctx: Context, given: ItemGetInput) -> ItemGetOutput:
    """Returns one item with its assets, its collection's name and what it takes in storage."""
    row = await require_item_read(ctx.conn, ctx.principal, given.item_id)
    ctx.touch("item", row["id"])
    assets = (await store.assets_of(ctx.conn, row["organization_id"], [row["id"]]))[row["id"]]
    shown_by = await default_profile_of(ctx.conn, row["id"])
    return ItemGetOutput(item={**as_item_full(row, assets, default_profile_id=None if shown_by is None else shown_by["id"])})


class ItemsListInput(BaseModel):
    """Which project, and which of its items."""

    project_id: str
    collection_id: str | None = None
    uncollected: bool = False
    limit: int = Field(100, ge=1)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)


@operation("items.list", effect="read", scope="items:read", raw=True, snapshot=True, example=_EXAMPLE_PROJECT)
async def list_(ctx: Context, given: ItemsListInput) -> ItemPage:
    """Lists a project's items, newest first: all, those of one collection, or those of none."""
    if given.collection_id is not None and given.uncollected:
        raise InvalidInput("Ask for one collection or for the items of none, not both.", loc=("uncollected",))
    project_id = await require_project_read(ctx.conn, ctx.principal, given.project_id)
    collection_id = given.collection_id and await require_collection_in(ctx.conn, project_id, given.collection_id)
    limit = clamped(given.limit)
    rows = await store.items_page(
        ctx.conn,
        project_id,
        collection_id=collection_id,
        uncollected=given.uncollected,
        limit=limit,
        offset=given.offset,
    )
    total = await store.items_total(ctx.conn, project_id, collection_id=collection_id, uncollected=given.uncollected)
    return ItemPage(items=[as_item_response(row) for row in rows], total=total, limit=limit, offset=given.offset)


class ItemsByCollectionInput(BaseModel):
    """Which collection's items."""

    collection_id: str
    limit: int = Field(100, ge=1)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)


@operation(
    "items.list_by_collection",
    effect="read",
    scope="items:read",
    raw=True,
    snapshot=True,
    example={"collection_id": "0192d3c4-0000-7000-8000-000000000000", "limit": 20},
)
async def list_by_collection(ctx: Context, given: ItemsByCollectionInput) -> CollectionItemPage:
    """Lists the items of a collection, newest first."""
    collection_id, project_id = await require_collection_read(ctx.conn, ctx.principal, given.collection_id)
    ctx.touch("collection", collection_id)
    limit = clamped(given.limit)
    rows = await store.items_page(
        ctx.conn, project_id, collection_id=collection_id, uncollected=False, limit=limit, offset=given.offset
    )
    total = await store.items_total(ctx.conn, project_id, collection_id=collection_id, uncollected=False)
    return CollectionItemPage(
        items=[as_item_response(row) for row in rows],
        total=total,
        limit=limit,
        offset=given.offset,
        collection_id=collection_id,
        project_id=project_id,
    )


class ItemAssetsInput(BaseModel):
    """Which item's files."""

    item_id: str


@operation("items.list_assets", effect="read", scope="items:read", raw=True, example=_EXAMPLE)
async def list_assets(ctx: Context, given: ItemAssetsInput) -> AssetList:
    """Lists the files of an item; items.asset.download gives addresses to fetch them from."""
    row = await require_item_read(ctx.conn, ctx.principal, given.item_id)
    ctx.touch("item", row["id"])
    assets = (await store.assets_of(ctx.conn, row["organization_id"], [row["id"]]))[row["id"]]
    return AssetList(assets=[as_asset(asset) for asset in assets], total=len(assets), storage_bytes=storage_bytes(assets))


class ItemStacInput(BaseModel):
    """Which item, and the address that links begin with; without one, this server's."""

    item_id: str
    base_url: str | None = Field(None, max_length=2_000)


@operation("items.get_stac", effect="read", scope="items:read", raw=True, json_media_type=GEOJSON, example=_EXAMPLE)
async def get_stac(ctx: Context, given: ItemStacInput) -> dict[str, Any]:
    """Returns an item as a STAC 1.0.0 feature whose assets link to the files for 15 minutes."""
    base_url = ctx.links.base_url if given.base_url is None else checked_base_url(given.base_url)
    row = await require_item_read(ctx.conn, ctx.principal, given.item_id)
    ctx.touch("item", row["id"])
    assets = (await store.assets_of(ctx.conn, row["organization_id"], [row["id"]]))[row["id"]]
    origins = await store.provenance_of(ctx.conn, row["organization_id"], [row["id"]])
    return as_stac(row, assets, origin=origins.get(row["id"]), links=ctx.links, base_url=base_url, at=ctx.now)


class ItemLineageInput(BaseModel):
    """Which item's relatives."""

    item_id: str


@operation("items.lineage", effect="read", scope="items:read", raw=True, snapshot=True, example=_EXAMPLE)
async def lineage(ctx: Context, given: ItemLineageInput) -> ItemFamily:
    """Returns what an item was made from and what was made from it, as two trees of at most ten levels.

    A relative that is reached on several ways is followed on the shortest only.
    """
    row = await require_item_read(ctx.conn, ctx.principal, given.item_id)
    ctx.touch("item", row["id"])
    organization_id, root = row["organization_id"], ("item", row["id"])
    ups = await walk(ctx.conn, organization_id, root, up=True, max_depth=FAMILY_DEPTH)
    downs = await walk(ctx.conn, organization_id, root, up=False, max_depth=FAMILY_DEPTH)
    names = await store.names_of(ctx.conn, organization_id, ids_in([*ups, *downs]))
    return ItemFamily(
        item_id=row["id"],
        parents=as_family(root, ups, up=True, names=names),
        children=as_family(root, downs, up=False, names=names),
    )
