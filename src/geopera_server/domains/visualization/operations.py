"""How items are shown: the pictures that data offers, and the profiles that items keep of theirs."""

from __future__ import annotations

from typing import Annotated, Any

from psycopg.types.json import Jsonb
from pydantic import BaseModel, Field, StringConstraints

from geopera_server.db.pool import Row
from geopera_server.domains.items.access import require_item_read, require_item_write
from geopera_server.domains.visualization import store
from geopera_server.domains.visualization.configs import picture_of
from geopera_server.domains.visualization.pictures import pictures
from geopera_server.domains.visualization.profiles import ensure_default, shown_bands
from geopera_server.domains.visualization.shapes import (
    OkOutput,
    ProfileBody,
    ProfileLayer,
    ProfileList,
    ProfileResponse,
    ProfileType,
    VisualizationListOutput,
)
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, InvalidInput, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.values.ids import is_id, new_id

_ID = "0198f1c2-0000-7000-8000-000000000000"
_EXAMPLE_CONFIG = {"band": 1, "colormap": "viridis", "rescale": [0, 3000]}
_EXAMPLE_PROFILE = {"item_id": _ID, "profile_id": _ID}
_INT4 = 2**31 - 1

ProfileName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]
BandNumber = Annotated[int, Field(ge=-_INT4, le=_INT4)]
SortOrder = Annotated[int, Field(ge=-_INT4, le=_INT4)]


class VisualizationListInput(BaseModel):
    """What kind of data it is, and which 1-based band shows what."""

    asset: str | None = Field(None, max_length=255)
    data_type: str = Field("raster", description="raster, elevation, categorical or vector")
    band_roles: dict[str, BandNumber] = Field(default_factory=dict, description="role, as red or nir, to 1-based band")
    render_params: dict[str, Any] = Field(default_factory=dict, description="rescale, colormap, scale and offset")


@operation(
    "visualization.list_for",
    effect="read",
    scope="tiles:read",
    example={"data_type": "raster", "band_roles": {"red": 1, "green": 2, "blue": 3, "nir": 4}},
)
async def list_for(_ctx: Context, given: VisualizationListInput) -> VisualizationListOutput:
    """Lists the pictures that data of a kind offers, the default first: composites, indices, heights, single bands."""
    found = pictures(given.data_type, given.band_roles, asset=given.asset, render_params=given.render_params)
    return VisualizationListOutput(visualizations=found, default_id=found[0].id if found else "")


class ProfileCreateInput(BaseModel):
    """A picture of an item."""

    item_id: str
    name: ProfileName
    type: ProfileType
    config: dict[str, Any]
    layer: ProfileLayer = ProfileLayer.user
    asset_key: str | None = Field(None, max_length=255)
    is_default: bool = False
    sort_order: SortOrder = 0


@operation(
    "visualization.profile.create",
    effect="compute",
    scope="items:write",
    idempotent=True,
    example={"item_id": _ID, "name": "Heat", "type": "singleband", "config": _EXAMPLE_CONFIG},
)
async def create(ctx: Context, given: ProfileCreateInput) -> ProfileResponse:
    """Keeps a way to show an item; tiles of it are asked for by the profile's name or id."""
    if given.layer is not ProfileLayer.user and ctx.principal.kind != "service":
        raise InvalidInput("Profiles of layer sensor and auto are made by the platform; leave layer out.", loc=("layer",))
    item = await require_item_write(ctx.conn, ctx.principal, given.item_id)
    await store.lock_profiles(ctx.conn, item["organization_id"], item["id"])
    await _require_fit(ctx, item, given.type, given.config, given.asset_key)
    if given.is_default:
        await store.clear_default(ctx.conn, item["id"])
    values = {
        "id": new_id(),
        "organization_id": item["organization_id"],
        "item_id": item["id"],
        "name": given.name,
        "layer": given.layer.value,
        "type": given.type.value,
        "config": Jsonb(given.config),
        "asset_key": given.asset_key,
        "is_default": given.is_default,
        "sort_order": given.sort_order,
        "created_by": ctx.principal.user_id,
        "at": ctx.now,
    }
    made = await store.insert_profile(ctx.conn, values)
    if made is None:
        raise _name_taken(given.name)
    ctx.touch("item", item["id"])
    return _response(made)


class ProfileGetInput(BaseModel):
    """Which profile of which item."""

    item_id: str
    profile_id: str


@operation("visualization.profile.get", effect="read", scope="items:read", raw=True, example=_EXAMPLE_PROFILE)
async def get(ctx: Context, given: ProfileGetInput) -> ProfileBody:
    """Returns one of an item's profiles."""
    item = await require_item_read(ctx.conn, ctx.principal, given.item_id)
    return _body(await _found(ctx, item, given.profile_id))


class ProfilesListInput(BaseModel):
    """Which item's profiles."""

    item_id: str


@operation("visualization.profiles.list", effect="read", scope="items:read", raw=True, example={"item_id": _ID})
async def list_(ctx: Context, given: ProfilesListInput) -> ProfileList:
    """Lists the profiles of an item in the order in which they are shown."""
    item = await require_item_read(ctx.conn, ctx.principal, given.item_id)
    rows = await store.profiles_of(ctx.conn, item["organization_id"], item["id"])
    default_id = next((row["id"] for row in rows if row["is_default"]), None)
    return ProfileList(profiles=[_body(row) for row in rows], total=len(rows), default_id=default_id)


class ProfileUpdateInput(BaseModel):
    """What to change of a profile; what is left out stays."""

    item_id: str
    profile_id: str
    name: ProfileName | None = None
    type: ProfileType | None = None
    config: dict[str, Any] | None = None
    asset_key: str | None = Field(None, max_length=255, description="null is the item's first raster")
    is_default: bool | None = None
    sort_order: SortOrder | None = None


@operation("visualization.profile.update", effect="compute", scope="items:write", example={**_EXAMPLE_PROFILE, "sort_order": 3})
async def update(ctx: Context, given: ProfileUpdateInput) -> ProfileResponse:
    """Changes a profile; a new config raises its version, and tiles show it at once.

    One that a sensor's rules or statistics had found is of layer user once somebody has named it or drawn it anew: it is not
    brought up to date with its file any more.
    """
    item = await require_item_write(ctx.conn, ctx.principal, given.item_id)
    await store.lock_profiles(ctx.conn, item["organization_id"], item["id"])
    row = await _found(ctx, item, given.profile_id)
    changes = _changes(given)
    after = {**row, **changes}
    redrawn = any(after[name] != row[name] for name in ("type", "config", "asset_key"))
    if redrawn:
        await _require_fit(ctx, item, ProfileType(after["type"]), after["config"], after["asset_key"])
    if await store.name_is_taken(ctx.conn, item["id"], after["name"], but_by=row["id"]):
        raise _name_taken(after["name"])
    if after["is_default"] and not row["is_default"]:
        await store.clear_default(ctx.conn, item["id"])
    if (redrawn or after["name"] != row["name"]) and ctx.principal.kind != "service":
        after["layer"] = ProfileLayer.user.value
    ctx.touch("item", item["id"])
    return _response(
        await store.update_profile(ctx.conn, {**after, "config": Jsonb(after["config"]), "more": int(redrawn), "at": ctx.now})
    )


def _changes(given: ProfileUpdateInput) -> dict[str, Any]:
    """Returns what was given; null is a value of asset_key only, and elsewhere stands for leaving things alone."""
    said = given.model_dump(exclude_unset=True, exclude={"item_id", "profile_id"}, mode="json")
    return {name: value for name, value in said.items() if value is not None or name == "asset_key"}


class ProfileRef(BaseModel):
    """Which profile of which item."""

    item_id: str
    profile_id: str


@operation("visualization.profile.set_default", effect="compute", scope="items:write", example=_EXAMPLE_PROFILE)
async def set_default(ctx: Context, given: ProfileRef) -> ProfileResponse:
    """Makes a profile the one that its item is shown by when nobody asks for another."""
    item = await require_item_write(ctx.conn, ctx.principal, given.item_id)
    await store.lock_profiles(ctx.conn, item["organization_id"], item["id"])
    row = await _found(ctx, item, given.profile_id)
    ctx.touch("item", item["id"])
    if row["is_default"]:
        return _response(row)
    await store.clear_default(ctx.conn, item["id"])
    await store.make_default(ctx.conn, item["id"], row["id"])
    return _response({**row, "is_default": True})


@operation("visualization.profile.delete", effect="destructive", scope="items:write", example=_EXAMPLE_PROFILE)
async def delete(ctx: Context, given: ProfileRef) -> OkOutput:
    """Removes a profile; when it was the default, the next of layer sensor, then auto, then user becomes it."""
    item = await require_item_write(ctx.conn, ctx.principal, given.item_id)
    await store.lock_profiles(ctx.conn, item["organization_id"], item["id"])
    row = await _found(ctx, item, given.profile_id)
    await store.delete_profile(ctx.conn, item["organization_id"], item["id"], row["id"])
    if row["is_default"]:
        await ensure_default(ctx, item["organization_id"], item["id"])
    ctx.touch("item", item["id"])
    return OkOutput(id=row["id"])


async def _found(ctx: Context, item: Row, profile_id: str) -> Row:
    row = None
    if is_id(profile_id):
        row = await store.profile_of(ctx.conn, item["organization_id"], item["id"], profile_id)
    if row is None:
        raise NotFound("profile")
    return row


async def _require_fit(ctx: Context, item: Row, kind: ProfileType, config: dict[str, Any], asset_key: str | None) -> None:
    rasters = await store.rasters_of(ctx.conn, item["organization_id"], item["id"])
    picture_of(kind.value, config, shown_bands(item, rasters, asset_key))


def _name_taken(name: str) -> Conflict:
    return Conflict(f"The item has a profile named {name!r} already. Change that one, or choose another name.")


def _response(row: Row) -> ProfileResponse:
    return ProfileResponse(**_body(row))


def _body(row: Row) -> ProfileBody:
    return ProfileBody(
        id=row["id"],
        item_id=row["item_id"],
        name=row["name"],
        layer=row["layer"],
        type=row["type"],
        config=row["config"],
        asset_key=row["asset_key"],
        is_default=row["is_default"],
        sort_order=row["sort_order"],
        version=row["version"],
        created_by=row["created_by"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
