"""Keys that let maps load the tiles of one item, or of a collection's items, without signing in.

A key is a sealed ticket that names its row: it can be neither guessed nor altered, a wrong one is refused without asking the
database, and nothing is stored that a reader of the database could use. Its row can be revoked, and then it opens nothing.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, Field, StringConstraints

from geopera_server.db.pool import Row
from geopera_server.domains.billing.limits import require_room
from geopera_server.domains.identity.access import require_project_read
from geopera_server.domains.sharing import rules
from geopera_server.domains.sharing.presenting import as_tile_key
from geopera_server.domains.sharing.shapes import NewTileKey, TileKeyPage
from geopera_server.domains.sharing.store import keys as store
from geopera_server.domains.sharing.targets import TargetType, require_change, require_sharable
from geopera_server.kernel import tickets
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import InvalidInput, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.kernel.paging import MAX_OFFSET, clamped
from geopera_server.values.ids import is_id, new_id

_EXAMPLE_ID = "0192d3c4-0000-7000-8000-000000000000"


class TileKeyCreateInput(BaseModel):
    """A name to know the key by, the item or the collection it is for, and its end; a year ahead if none is given."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    item_id: str | None = None
    collection_id: str | None = None
    expires_at: AwareDatetime | None = None


@operation(
    "items.tile_keys.create",
    effect="share_export",
    scope="shares:write",
    raw=True,
    extension=True,
    idempotent=True,
    secret_id_field="id",  # noqa: S106  (the field that names the made key)
    example={"name": "Site map in QGIS", "item_id": _EXAMPLE_ID},
)
async def create(ctx: Context, given: TileKeyCreateInput) -> NewTileKey:
    """Makes a key for the tiles of one item or of a collection's items, and shows it, this one time.

    Whoever has it sees these tiles, which count as the organization's own, and nothing else, until it ends or is revoked.
    """
    target_type, target_id = _target(given)
    expires_at = given.expires_at or ctx.now + rules.KEY_LIFE
    if refusal := rules.expiry_refusal(expires_at, ctx.now, longest=rules.LONGEST_KEY_LIFE):
        raise InvalidInput(refusal, loc=("expires_at",))
    target = await require_sharable(ctx.conn, ctx.principal, target_type, target_id)
    organization_id = target["organization_id"]
    used = await store.live_key_count(ctx.conn, organization_id, ctx.now)
    await require_room(ctx.conn, organization_id, "tile_keys", used)
    row = await store.insert_key(
        ctx.conn,
        {
            "id": new_id(),
            "organization_id": organization_id,
            "project_id": target["project_id"],
            "target_type": target_type,
            "target_id": target["id"],
            "name": given.name,
            "created_by": ctx.principal.user_id,
            "created_at": ctx.now,
            "expires_at": expires_at.replace(microsecond=0),
        },
    )
    ctx.touch("tile_key", row["id"])
    ctx.touch(target_type, target["id"])
    key = _sealed(ctx, row)
    # A collection's items are for the holder to name, as braces are for a map to fill in.
    item = target["id"] if target_type == "item" else "{item_id}"
    tile_url = f"{ctx.links.base_url}/api/v1/items/{item}/tiles/k/{key}/{{z}}/{{x}}/{{y}}.webp"
    return NewTileKey(**as_tile_key(row, ctx.now), key=key, tile_url=tile_url)


class TileKeyListInput(BaseModel):
    """Which keys: of one project, item or collection; all of the organization without any of these."""

    project_id: str | None = None
    target_id: str | None = None
    limit: int = Field(50, ge=1)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)


@operation(
    "items.tile_keys.list",
    effect="read",
    scope="shares:read",
    raw=True,
    snapshot=True,
    extension=True,
    example={"project_id": _EXAMPLE_ID},
)
async def list_(ctx: Context, given: TileKeyListInput) -> TileKeyPage:
    """Lists the organization's tile keys, newest first, without what they are."""
    limit = clamped(given.limit)
    project_id = given.project_id and await require_project_read(ctx.conn, ctx.principal, given.project_id)
    if given.target_id is not None and not is_id(given.target_id):
        return TileKeyPage(tile_keys=[], total=0, limit=limit, offset=given.offset)
    wanted = {"organization": ctx.principal.organization_id, "project": project_id, "target": given.target_id}
    rows = await store.keys_page(ctx.conn, wanted, limit=limit, offset=given.offset)
    return TileKeyPage(
        tile_keys=[as_tile_key(row, ctx.now) for row in rows],
        total=await store.keys_total(ctx.conn, wanted),
        limit=limit,
        offset=given.offset,
    )


class TileKeyRevokeInput(BaseModel):
    """Which key."""

    key_id: str


class TileKeyRevokeOutput(BaseModel):
    """The key that is no more."""

    id: str
    ok: bool = True


@operation(
    "items.tile_keys.revoke",
    effect="destructive",
    scope="shares:write",
    extension=True,
    example={"key_id": _EXAMPLE_ID},
)
async def revoke(ctx: Context, given: TileKeyRevokeInput) -> TileKeyRevokeOutput:
    """Ends a tile key for good, as of the next tile. Revoking twice is no error."""
    row = await store.key_of(ctx.conn, ctx.principal.organization_id, given.key_id) if is_id(given.key_id) else None
    if row is None:
        raise NotFound("tile key")
    await require_change(ctx.conn, ctx.principal, row["project_id"])
    await store.revoke_key(ctx.conn, row["organization_id"], row["id"], ctx.now)
    ctx.touch("tile_key", row["id"])
    return TileKeyRevokeOutput(id=row["id"])


def _target(given: TileKeyCreateInput) -> tuple[TargetType, str]:
    if given.item_id is not None and given.collection_id is None:
        return "item", given.item_id
    if given.collection_id is not None and given.item_id is None:
        return "collection", given.collection_id
    raise InvalidInput("A tile key is for one item or for one collection. Give one of the two.", loc=("item_id",))


def _sealed(ctx: Context, row: Row) -> str:
    is_item = row["target_type"] == "item"
    return tickets.issue(
        ctx.links,
        kind="key",
        organization_id=row["organization_id"],
        item_id=row["target_id"] if is_item else None,
        collection_id=None if is_item else row["target_id"],
        expires_at=row["expires_at"],
        key_id=row["id"],
    )
