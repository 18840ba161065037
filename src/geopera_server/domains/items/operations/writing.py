"""Registering items by hand and changing what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime as Time  # noqa: N812  (a field has that name)
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from geopera_server.domains.billing.limits import require_room
from geopera_server.domains.identity.access import require_project_write
from geopera_server.domains.items.access import require_collection_in, require_item_write
from geopera_server.domains.items.changing import about_to_change, changed
from geopera_server.domains.items.copies.describing import as_new_asset
from geopera_server.domains.items.models import (
    CloudCover,
    Description,
    ExtensionUrl,
    Gsd,
    ItemName,
    ItemResponse,
    ItemType,
    LifecycleState,
    Name,
    StacId,
)
from geopera_server.domains.items.origins import origins_named
from geopera_server.domains.items.outside_files import file_name_of, stored_file
from geopera_server.domains.items.patching import patched
from geopera_server.domains.items.places import place_of
from geopera_server.domains.items.presenting import as_item_response
from geopera_server.domains.items.registration import NewAsset, NewItem, register_item
from geopera_server.domains.items.store import writing as store
from geopera_server.domains.usage.quota import require_storage
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import InvalidInput
from geopera_server.kernel.geometry import read_time
from geopera_server.kernel.operation import operation
from geopera_server.values.ids import new_id

_ID = "0192d3c4-0000-7000-8000-000000000000"
MAX_ASSETS = 1_000


class ItemAssetInput(BaseModel):
    """A file of an item that lies elsewhere, or in own storage already."""

    key: Name
    href: Annotated[str, StringConstraints(min_length=1, max_length=2_000)]
    media_type: Name
    roles: list[Name] = Field(default_factory=list, max_length=20)
    band_names: list[Name] | None = Field(None, max_length=1_000)
    title: Annotated[str, StringConstraints(max_length=500)] | None = None


class ItemCreateInput(BaseModel):
    """An item to register."""

    project_id: str
    name: ItemName
    type: ItemType
    geometry: dict[str, Any] | None = None
    bbox: list[Annotated[float, Field(allow_inf_nan=False)]] | None = None
    datetime: str | None = Field(None, description="or start_datetime with end_datetime")
    start_datetime: str | None = None
    end_datetime: str | None = None
    collection_id: str | None = None
    properties: dict[str, Any] = Field(default_factory=dict)
    stac_extensions: list[ExtensionUrl] = Field(default_factory=list, max_length=100)
    stac_id: StacId | None = Field(None, description="unique in the project; a new one by default")
    gsd: Gsd | None = None
    cloud_cover: CloudCover | None = None
    order_id: str | None = None
    job_id: str | None = None
    upload_id: str | None = None
    description: Description | None = None
    assets: list[ItemAssetInput] = Field(default_factory=list, max_length=MAX_ASSETS)


@operation(
    "items.create",
    effect="compute",
    scope="items:write",
    produces=("item",),
    idempotent=True,
    example={
        "project_id": _ID,
        "name": "Harbour, June",
        "type": "external_reference",
        "datetime": "2024-06-12T10:10:00Z",
        "bbox": [11.2, 46.4, 11.3, 46.5],
        "properties": {"platform": "sentinel-2a"},
    },
)
async def create(ctx: Context, given: ItemCreateInput) -> ItemResponse:
    """Registers an item for data that lies elsewhere or will be attached later.

    The href of an asset is an https address that this deployment reads from, or the path of a file of yours in own storage.
    """
    project_id = await require_project_write(ctx.conn, ctx.principal, given.project_id, new_data=True)
    collection_id = given.collection_id and await require_collection_in(ctx.conn, project_id, given.collection_id)
    parents = await origins_named(ctx, order_id=given.order_id, job_id=given.job_id, upload_id=given.upload_id)
    geometry, bbox = place_of(given.geometry, given.bbox)
    at, start, end = _times(given)
    assets = await _new_assets(ctx, given.assets)
    await require_storage(ctx.conn, ctx.organization_id, sum(asset.file_size_bytes for asset in assets if not asset.external))
    new = NewItem(
        project_id=project_id,
        collection_id=collection_id,
        stac_id=given.stac_id or new_id(),
        type=given.type.value,
        name=given.name,
        description=given.description,
        datetime=at,
        start_datetime=start,
        end_datetime=end,
        geometry=geometry,
        bbox=bbox,
        gsd=given.gsd,
        cloud_cover=given.cloud_cover,
        properties=given.properties,
        stac_extensions=given.stac_extensions,
        order_id=given.order_id,
        job_id=given.job_id,
        upload_id=given.upload_id,
    )
    row = await register_item(ctx, new, assets, parents=parents, renumber=False)
    return ItemResponse.model_validate(as_item_response(row))


def _times(given: ItemCreateInput) -> tuple[Time | None, Time | None, Time | None]:
    """Returns moment, start and end; raises InvalidInput for an item without a time and for one that ends before it starts."""
    texts = {name: getattr(given, name) for name in ("datetime", "start_datetime", "end_datetime")}
    at, start, end = (None if text is None else read_time(text, loc=(name,)) for name, text in texts.items())
    if (start is None) != (end is None):
        missing = "start_datetime" if start is None else "end_datetime"
        raise InvalidInput("start_datetime and end_datetime come together: send both, or datetime alone.", loc=(missing,))
    if at is None and start is None:
        raise InvalidInput("An item has a datetime, or a start_datetime and an end_datetime.", loc=("datetime",))
    if start is not None and end is not None and end < start:
        raise InvalidInput("The item ends before it starts.", loc=("end_datetime",))
    return at, start, end


async def _new_assets(ctx: Context, given: Sequence[ItemAssetInput]) -> list[NewAsset]:
    keys = [asset.key for asset in given]
    if len(set(keys)) < len(keys):
        raise InvalidInput("Every asset of an item has a key of its own.", loc=("assets",))
    if given:
        await require_room(ctx.conn, ctx.organization_id, "max_item_assets", len(given) - 1)
    return [await _new_asset(ctx, asset, number) for number, asset in enumerate(given)]


async def _new_asset(ctx: Context, given: ItemAssetInput, number: int) -> NewAsset:
    """Returns an asset with what is known of its file; of outside files nothing is, and they take no storage."""
    loc = ("assets", number)
    stored = await stored_file(ctx, given.href, (*loc, "href"))
    names = given.band_names
    if names is not None and len(set(names)) < len(names):
        raise InvalidInput("Every band has a name of its own.", loc=(*loc, "band_names"))
    if stored is None:
        return NewAsset(
            key=given.key,
            href=given.href,
            media_type=given.media_type,
            title=given.title,
            roles=given.roles or ["data"],
            file_name=file_name_of(given.href, given.key),
            file_size_bytes=0,
            band_names=names or (),
            band_count=None if names is None else len(names),
            external=True,
        )
    bands = stored["band_count"] or 0
    if names is not None and len(names) != bands:
        raise InvalidInput(f"The file has {bands} bands, not {len(names)}.", loc=(*loc, "band_names"))
    return as_new_asset(
        stored,
        key=given.key,
        media_type=given.media_type,
        title=given.title,
        roles=given.roles or stored["roles"],
        band_names=stored["band_names"] if names is None else names,
    )


class ItemUpdateInput(BaseModel):
    """What to change of an item; what is absent stays, and null clears what can be empty."""

    item_id: str
    name: ItemName | None = None
    description: Description | None = Field(None, description="null clears it")
    geometry: dict[str, Any] | None = Field(None, description="null clears it")
    bbox: list[Annotated[float, Field(allow_inf_nan=False)]] | None = None
    datetime: str | None = Field(None, description="null clears it from an item with start and end")
    gsd: Gsd | None = Field(None, description="null clears it")
    cloud_cover: CloudCover | None = Field(None, description="null clears it")
    properties: dict[str, Any] | None = Field(None, description="replaces all properties")
    collection_id: str | None = Field(None, description="null takes the item out of its collection")
    lifecycle_state: LifecycleState | None = Field(None, description="active or archived")


@operation(
    "items.update",
    effect="compute",
    scope="items:write",
    produces=("item",),
    example={"item_id": _ID, "description": "Clear sky over the harbour"},
)
async def update(ctx: Context, given: ItemUpdateInput) -> ItemResponse:
    """Changes what is known of an item, files it elsewhere, archives it or takes it back into use.

    What is left out stays as it is; properties are replaced as a whole.
    """
    await require_item_write(ctx.conn, ctx.principal, given.item_id, new_data=True)
    before = await about_to_change(ctx, ctx.organization_id, given.item_id)
    if given.collection_id is not None:
        await require_collection_in(ctx.conn, before.row["project_id"], given.collection_id)
    patch = {name: getattr(given, name) for name in given.model_fields_set - {"item_id"}}
    row = await store.update_item(ctx.conn, patched(before.row, patch, at=ctx.now))
    return ItemResponse.model_validate(as_item_response(await changed(ctx, before, row)))
