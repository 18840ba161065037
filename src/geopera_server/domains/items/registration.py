"""Makes items, their assets and the collections they are filed under, in the transaction of whoever delivers data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime as Time  # noqa: N812  (a field has that name)
from typing import Any, Literal

from psycopg.types.json import Jsonb
from shapely.geometry import shape

from geopera_server.db.pool import Row
from geopera_server.domains.billing.limits import require_room
from geopera_server.domains.items import rules, store
from geopera_server.domains.items.changing import about_to_change, changed
from geopera_server.domains.items.lineage import asset_state, collection_state, item_state
from geopera_server.domains.items.presenting import as_collection_response, as_item_response
from geopera_server.domains.items.store import changing, collections
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, NotFound
from geopera_server.kernel.geometry import extents
from geopera_server.values.ids import new_id

_NUMBERS_TRIED = 20


@dataclass(frozen=True, kw_only=True)
class NewAsset:
    """A file that is already where `href` says: a path in own storage, or an outside address when `external`.

    `checksum` is `sha256:<hex>`; `nodata` may be "nan", "inf" or "-inf"; `statistics` has one entry per band; `raster` holds
    transform, wkt2, bbox and what else STAC's projection fields are made of. `copied_from_id` is the asset that a copy is of.
    """

    key: str
    href: str
    media_type: str
    roles: Sequence[str]
    file_name: str
    file_size_bytes: int
    checksum: str | None = None
    band_names: Sequence[str] = ()
    band_count: int | None = None
    dtype: str | None = None
    nodata: float | str | None = None
    epsg: int | None = None
    width: int | None = None
    height: int | None = None
    gsd: float | None = None
    is_cog: bool | None = None
    statistics: Sequence[Mapping[str, Any]] | None = None
    raster: Mapping[str, Any] | None = None
    title: str | None = None
    external: bool = False
    copied_from_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class NewItem:
    """An item to be, in a project that the caller has checked; `geometry` is valid GeoJSON, `gsd` in metres.

    `bbox` is that of the geometry unless it is given; `id` is a new one unless files have been stored under it already.
    """

    project_id: str
    stac_id: str
    type: str
    name: str
    datetime: Time | None
    geometry: dict[str, Any] | None
    gsd: float | None = None
    cloud_cover: float | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)
    order_id: str | None = None
    job_id: str | None = None
    upload_id: str | None = None
    duplicated_from_id: str | None = None
    collection_id: str | None = None
    stac_extensions: Sequence[str] = ()
    description: str | None = None
    start_datetime: Time | None = None
    end_datetime: Time | None = None
    created_by: str | None = None
    expires_at: Time | None = None
    bbox: Sequence[float] | None = None
    id: str | None = None


async def register_item(
    ctx: Context, new: NewItem, assets: Sequence[NewAsset], *, parents: Sequence[tuple[str, str]], renumber: bool = True
) -> Row:
    """Adds an item with its assets, their lineage and the event item.created; returns the item's row.

    A stac_id that is taken in the project gets a number behind it, or raises Conflict without `renumber`. Raises ValueError for
    an item without a time.
    """
    item = await _insert_item(ctx, new, renumber=renumber)
    files = [await store.insert_asset(ctx.conn, _asset_row(ctx, item, asset)) for asset in assets]
    ctx.lineage.edge(("item", item["id"]), state=item_state(item, files), parents=parents)
    for file, asset in zip(files, assets, strict=True):
        origins = [] if asset.copied_from_id is None else [("asset", asset.copied_from_id)]
        ctx.lineage.edge(("asset", file["id"]), state=asset_state(file), parents=[("item", item["id"]), *origins])
    ctx.emit("item.created", ("item", item["id"]), as_item_response(item), project_id=item["project_id"])
    return item


async def attach_asset(ctx: Context, item: Row, asset: NewAsset, *, parents: Sequence[tuple[str, str]] | None = None) -> Row:
    """Adds a file to a live item, with its lineage (from the item, unless `parents` say otherwise) and item.updated.

    Raises NotFound when the item is gone, Conflict when the key is taken, PaymentRequired when the plan allows no more files.
    """
    before = await about_to_change(ctx, item["organization_id"], item["id"])
    if any(each["key"] == asset.key for each in before.assets):
        raise Conflict(f"This item has an asset {asset.key!r} already. Choose another key, or delete that asset first.")
    await require_room(ctx.conn, item["organization_id"], "max_item_assets", len(before.assets))
    made = await store.insert_asset(ctx.conn, _asset_row(ctx, before.row, asset))
    ctx.lineage.edge(("asset", made["id"]), state=asset_state(made), parents=parents or [("item", item["id"])])
    await changed(ctx, before)
    return made


async def replace_asset(ctx: Context, asset: Row, new: NewAsset) -> Row:
    """Gives an asset another file and all that describes it, with lineage and item.updated; its id and its key stay.

    The old object stays where it is. Raises NotFound when the asset or its item is gone.
    """
    before = await about_to_change(ctx, asset["organization_id"], asset["item_id"])
    old = next((each for each in before.assets if each["id"] == asset["id"]), None)
    if old is None:
        raise NotFound("asset")
    row = {**_asset_row(ctx, before.row, new), "id": old["id"]}
    made = await changing.replace_asset(ctx.conn, row)
    assert made is not None, "the item is locked"
    ctx.lineage.event(("asset", made["id"]), before=asset_state(old), after=asset_state(made))
    await changed(ctx, before)
    return made


async def _insert_item(ctx: Context, new: NewItem, *, renumber: bool) -> Row:
    values = _item_row(ctx, new)
    for stac_id in spellings(new.stac_id):
        made = await store.insert_item(ctx.conn, {**values, "stac_id": stac_id})
        if made is not None:
            return made
        if not renumber:
            raise Conflict(f"This project has an item with the stac_id {stac_id!r}. Choose another one, or leave it out.")
    raise AssertionError("unreachable: spellings never end")


def spellings(wanted: str, *, longest: int | None = None) -> Iterator[str]:
    """Yields the name, then numbered ones, then, where those are all taken, ones that nobody can have."""
    yield from (rules.numbered(wanted, number, longest=longest) for number in range(1, _NUMBERS_TRIED + 1))
    while True:
        mark = new_id().rpartition("-")[2]
        yield f"{wanted[: None if longest is None else longest - len(mark) - 1]}-{mark}"


def _item_row(ctx: Context, new: NewItem) -> dict[str, Any]:
    start, end = rules.period_of(new.datetime, new.start_datetime, new.end_datetime)
    return {
        **{name: getattr(new, name) for name in NewItem.__dataclass_fields__},
        **place_columns(new.geometry, new.bbox),
        "id": new.id or new_id(),
        "organization_id": ctx.organization_id,
        "period_start": start,
        "period_end": end,
        "properties": Jsonb(new.properties),
        "stac_extensions": list(new.stac_extensions),
        "created_by": new.created_by or ctx.principal.user_id,
        "at": ctx.now,
    }


def place_columns(geometry: dict[str, Any] | None, bbox: Sequence[float] | None = None) -> dict[str, Any]:
    """Returns the columns that say where an item is; searches go by its extents."""
    if geometry is None:
        return {"geometry": None, "bbox": None, "extent": None, "extent_across": None}
    found = shape(geometry)
    extent, extent_across = extents(found)
    return {
        "geometry": Jsonb(geometry),
        "bbox": rules.bbox_of(found) if bbox is None else list(bbox),
        "extent": extent,
        "extent_across": extent_across,
    }


def _asset_row(ctx: Context, item: Row, new: NewAsset) -> dict[str, Any]:
    return {
        **{name: getattr(new, name) for name in NewAsset.__dataclass_fields__},
        "id": new_id(),
        "organization_id": item["organization_id"],
        "project_id": item["project_id"],
        "item_id": item["id"],
        "roles": list(new.roles),
        "band_names": list(new.band_names),
        "nodata": None if new.nodata is None else float(new.nodata),
        "statistics": None if new.statistics is None else Jsonb(new.statistics),
        "raster": None if new.raster is None else Jsonb(new.raster),
        "at": ctx.now,
    }


async def ensure_collection_for(
    ctx: Context, *, project_id: str, source_type: Literal["order", "upload", "job"], source_id: str, name: str
) -> str:
    """Returns the live collection for what an order, an upload or a job makes, made on the first call and kept to the commit.

    A taken name gets a number.
    """
    wanted = {"project_id": project_id, "source_type": source_type, "source_id": source_id}
    for spelling in spellings(name, longest=rules.MAX_COLLECTION_NAME):
        found = await collections.keep_collection_of(ctx.conn, ctx.organization_id, source_type, source_id)
        if found is not None:
            return found
        values = {"organization_id": ctx.organization_id, **wanted, "name": spelling, "auto_created": True, "at": ctx.now}
        made = await collections.insert_collection(ctx.conn, {**collections.PLAIN, **values, "id": new_id()})
        if made is not None:
            tell_of_collection(ctx, made)
            return str(made["id"])
    raise AssertionError("unreachable: spellings never end")


async def ensure_order_collection(ctx: Context, *, project_id: str, order_id: str, name: str) -> str:
    """Returns the collection that holds what an order delivers, made on the first call."""
    return await ensure_collection_for(ctx, project_id=project_id, source_type="order", source_id=order_id, name=name)


def tell_of_collection(ctx: Context, made: Row) -> None:
    """Records how a new collection came about, and tells of it by collection.created."""
    ctx.lineage.edge(("collection", made["id"]), state=collection_state(made), parents=[("project", made["project_id"])])
    ctx.emit(
        "collection.created",
        ("collection", made["id"]),
        as_collection_response(made, item_count=0),
        project_id=made["project_id"],
    )
