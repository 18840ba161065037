"""Collections: named, coloured and ordered groups of the items of one project."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from geopera_server.db.pool import Row
from geopera_server.domains.identity.access import require_project_admin, require_project_read, require_project_write
from geopera_server.domains.items.lineage import collection_state
from geopera_server.domains.items.presenting import as_collection_full, as_collection_response
from geopera_server.domains.items.registration import tell_of_collection
from geopera_server.domains.items.rules import MAX_COLLECTION_NAME
from geopera_server.domains.items.shapes import CollectionFull, CollectionList
from geopera_server.domains.items.store import collections as store
from geopera_server.domains.sharing.ending import end_shares_of
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.values.ids import is_id, new_id

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_COLLECTION_NAME)]
Description = Annotated[str, StringConstraints(max_length=10_000)]
Color = Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")]
LayerOrder = Annotated[int, Field(ge=-(2**31), lt=2**31)]

_EXAMPLE_PROJECT = {"project_id": "0192d3c4-0000-7000-8000-000000000000"}
_EXAMPLE = {**_EXAMPLE_PROJECT, "collection_id": "0192d3c4-0000-7000-8000-000000000001"}


class CollectionCreateInput(BaseModel):
    """A collection to be; `color` is #rrggbb."""

    project_id: str
    name: Name
    description: Description | None = None
    color: Color | None = None
    layer_order: LayerOrder = 0
    show_on_map: bool = True


class CollectionUpdateInput(BaseModel):
    """What to change; null clears the description and the colour."""

    project_id: str
    collection_id: str
    name: Name | None = None
    description: Description | None = None
    color: Color | None = None
    layer_order: LayerOrder | None = None
    show_on_map: bool | None = None


class CollectionsGetInput(BaseModel):
    """Which collection of which project."""

    project_id: str
    collection_id: str


class CollectionDeleteInput(CollectionsGetInput):
    """Which collection of which project."""


class CollectionRestoreInput(CollectionsGetInput):
    """Which deleted collection of which project."""


class CollectionsListInput(BaseModel):
    """Whose collections."""

    project_id: str


class CollectionResponse(BaseModel):
    """A collection with how many live items it holds."""

    id: str
    project_id: str
    name: str
    description: str | None = None
    color: str | None = None
    layer_order: int = 0
    show_on_map: bool = True
    auto_created: bool = False
    source_type: str | None = None
    source_id: str | None = None
    item_count: int = 0
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None


class CollectionDeleteOutput(BaseModel):
    """What was deleted."""

    id: str
    ok: bool = True


@operation(
    "collections.create",
    effect="compute",
    scope="collections:write",
    produces=("collection",),
    idempotent=True,
    example={**_EXAMPLE_PROJECT, "name": "Berths", "color": "#1f77b4"},
)
async def create(ctx: Context, given: CollectionCreateInput) -> CollectionResponse:
    """Makes a collection in a project; its name is the only one of its kind there, in whatever case."""
    project_id = await require_project_write(ctx.conn, ctx.principal, given.project_id, new_data=True)
    made = await store.insert_collection(
        ctx.conn,
        {
            **given.model_dump(),
            "id": new_id(),
            "organization_id": ctx.organization_id,
            "project_id": project_id,
            "auto_created": False,
            "source_type": None,
            "source_id": None,
            "at": ctx.now,
        },
    )
    if made is None:
        raise _name_taken()
    tell_of_collection(ctx, made)
    return _reply(made, item_count=0)


@operation("collections.get", effect="read", scope="collections:read", raw=True, snapshot=True, example=_EXAMPLE)
async def get(ctx: Context, given: CollectionsGetInput) -> CollectionFull:
    """Returns a collection with the area and the time that its items cover and what they take in storage."""
    project_id = await require_project_read(ctx.conn, ctx.principal, given.project_id)
    row = await store.collection_in(ctx.conn, project_id, given.collection_id) if is_id(given.collection_id) else None
    if row is None:
        raise NotFound("collection")
    ctx.touch("collection", row["id"])
    return as_collection_full(row, await store.figures_of_collection(ctx.conn, row["id"]))


@operation("collections.list", effect="read", scope="collections:read", raw=True, snapshot=True, example=_EXAMPLE_PROJECT)
async def list_(ctx: Context, given: CollectionsListInput) -> CollectionList:
    """Lists the collections of a project by layer order, then name, and counts the items that are in none."""
    project_id = await require_project_read(ctx.conn, ctx.principal, given.project_id)
    rows = await store.collections_of(ctx.conn, project_id)
    return CollectionList(
        collections=[as_collection_response(row, item_count=row["item_count"]) for row in rows],
        total=len(rows),
        uncollected_count=await store.uncollected_count(ctx.conn, project_id),
    )


@operation(
    "collections.update",
    effect="compute",
    scope="collections:write",
    produces=("collection",),
    example={**_EXAMPLE, "layer_order": 2, "show_on_map": False},
)
async def update(ctx: Context, given: CollectionUpdateInput) -> CollectionResponse:
    """Changes a collection's name, description, colour, layer order or visibility; what is left out stays as it is."""
    project_id = await require_project_write(ctx.conn, ctx.principal, given.project_id)
    before = await _locked(ctx, project_id, given.collection_id)
    if given.name is not None and await store.name_is_taken(ctx.conn, project_id, given.name, besides=before["id"]):
        raise _name_taken()
    after = await store.update_collection(ctx.conn, ctx.organization_id, {**before, **_changes(given), "at": ctx.now})
    ctx.lineage.event(("collection", after["id"]), before=collection_state(before), after=collection_state(after))
    return await _told(ctx, "collection.updated", after)


def _changes(given: CollectionUpdateInput) -> dict[str, Any]:
    """Returns what is to be written: whatever was sent, but null only where there may be nothing."""
    sent = given.model_dump(exclude_unset=True, exclude={"project_id", "collection_id"})
    return {name: value for name, value in sent.items() if value is not None or name in {"description", "color"}}


@operation("collections.delete", effect="destructive", scope="collections:write", produces=("collection",), example=_EXAMPLE)
async def delete(ctx: Context, given: CollectionDeleteInput) -> CollectionDeleteOutput:
    """Deletes a collection, to be had back by collections.restore; its items stay in the project, its share links end."""
    project_id = await require_project_admin(ctx.conn, ctx.principal, given.project_id)
    before = await _locked(ctx, project_id, given.collection_id)
    await end_shares_of(ctx, "collection", [before["id"]])
    await store.unlink_items(ctx.conn, ctx.organization_id, before["id"])
    after = await store.mark_deleted(ctx.conn, ctx.organization_id, before["id"], ctx.now, ctx.now)
    ctx.lineage.event(("collection", after["id"]), before=collection_state(before), after=collection_state(after))
    await _told(ctx, "collection.deleted", after)
    return CollectionDeleteOutput(id=after["id"])


@operation(
    "collections.restore",
    effect="compute",
    scope="collections:write",
    produces=("collection",),
    extension=True,
    example=_EXAMPLE,
)
async def restore(ctx: Context, given: CollectionRestoreInput) -> CollectionResponse:
    """Takes back the deletion of a collection; the items that were in it are not filed under it again."""
    project_id = await require_project_write(ctx.conn, ctx.principal, given.project_id, new_data=True)
    before = await _locked(ctx, project_id, given.collection_id, deleted=True)
    if before["deleted_at"] is None:
        raise Conflict("This collection is not deleted.", code="illegal_state")
    if await store.name_is_taken(ctx.conn, project_id, before["name"], besides=before["id"]):
        raise Conflict("Another collection of this project has the name now. Rename that one, then restore.")
    if await store.source_is_taken(ctx.conn, before):
        raise Conflict("What this collection was made for has got another one since. Use that one.")
    after = await store.mark_deleted(ctx.conn, ctx.organization_id, before["id"], None, ctx.now)
    ctx.lineage.event(("collection", after["id"]), before=collection_state(before), after=collection_state(after))
    return await _told(ctx, "collection.created", after)


async def _locked(ctx: Context, project_id: str, collection_id: str, *, deleted: bool = False) -> Row:
    row = await store.lock_collection(ctx.conn, project_id, collection_id) if is_id(collection_id) else None
    if row is None or (row["deleted_at"] is not None and not deleted):
        raise NotFound("collection")
    return row


async def _told(ctx: Context, event: str, row: Row) -> CollectionResponse:
    count = await store.item_count(ctx.conn, row["id"])
    ctx.emit(event, ("collection", row["id"]), as_collection_response(row, item_count=count), project_id=row["project_id"])
    return _reply(row, item_count=count)


def _reply(row: Row, *, item_count: int) -> CollectionResponse:
    return CollectionResponse.model_validate(as_collection_response(row, item_count=item_count))


def _name_taken() -> Conflict:
    return Conflict("This project has a collection of this name. Choose another name.")
