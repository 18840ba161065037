"""What other domains do to the profiles of items, each in the transaction of whoever changes the item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.items.resolving import data_asset, is_data, is_raster
from geopera_server.domains.visualization import store
from geopera_server.domains.visualization.bands import Bands
from geopera_server.domains.visualization.configs import picture_of
from geopera_server.domains.visualization.found import Found, found_in
from geopera_server.domains.visualization.offering import offer_of
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import InvalidInput, NotFound
from geopera_server.values.ids import new_id

LAYERS = ("sensor", "auto", "user")
MOST_ASSETS = 32
_ASSETS_APART = 100


async def auto_profiles(ctx: Context, item: Mapping[str, Any], assets: Sequence[Mapping[str, Any]]) -> None:
    """Gives an item the profiles that follow from its rasters' sensors, names and statistics, and a default if it has none.

    `assets` are those that are new or have changed; others of the item are looked at too, since names depend on how many there
    are. Again it brings them up to date; profiles that users made stay as they are.
    """
    if any(is_raster(asset) for asset in assets):
        await _find_anew(ctx, item, await store.rasters_of(ctx.conn, item["organization_id"], item["id"]))


async def _find_anew(ctx: Context, item: Mapping[str, Any], assets: Sequence[Row]) -> None:
    rasters = [asset for asset in assets if is_raster(asset) and is_data(asset)][:MOST_ASSETS]
    await store.lock_profiles(ctx.conn, item["organization_id"], item["id"])
    rows = [
        _found_row(ctx, item, found, alone=len(rasters) == 1, first=position * _ASSETS_APART)
        for position, asset in enumerate(rasters)
        for found in found_in(asset, item["properties"])
    ]
    await store.delete_found_but(ctx.conn, item["id"], [row["name"] for row in rows])
    for row in rows:
        await store.save_found(ctx.conn, row)
    await ensure_default(ctx, item["organization_id"], item["id"])


def _found_row(ctx: Context, item: Mapping[str, Any], found: Found, *, alone: bool, first: int) -> dict[str, Any]:
    name = found.name if alone else f"{found.asset_key}: {found.name}"
    return {
        "id": new_id(),
        "organization_id": item["organization_id"],
        "item_id": item["id"],
        "name": name[:255],
        "layer": found.layer,
        "type": found.type,
        "config": Jsonb(found.config),
        "asset_key": found.asset_key,
        "sort_order": first + found.place,
        "at": ctx.now,
    }


async def ensure_default(ctx: Context, organization_id: str, item_id: str, *, among: Sequence[Row] | None = None) -> None:
    """Makes the first profile of layer sensor, then auto, then user the default of an item that has none."""
    if await store.default_profile(ctx.conn, item_id) is not None:
        return
    rows = await store.profiles_of(ctx.conn, organization_id, item_id) if among is None else among
    if rows:
        first = min(rows, key=lambda row: LAYERS.index(row["layer"]))
        await store.make_default(ctx.conn, item_id, first["id"])


async def copy_profiles(ctx: Context, source_item_id: str, target_item: Mapping[str, Any]) -> None:
    """Gives a copied item the profiles of what it was copied from, which is of the same organization; it must have none yet."""
    await store.copy_profiles(
        ctx.conn,
        target_item["organization_id"],
        source_item_id,
        {"item": target_item["id"], "created_by": ctx.principal.user_id, "at": ctx.now},
    )


async def profiles_of(conn: Connection, organization_id: str, item_id: str) -> list[Row]:
    """Returns the profiles of an item, which the caller has been let into, in the order in which they are shown."""
    return await store.profiles_of(conn, organization_id, item_id)


async def default_profile_of(conn: Connection, item_id: str) -> Row | None:
    """Returns the profile that an item, which the caller has been let into, is shown by when nobody asks for another."""
    return await store.default_profile(conn, item_id)


async def erase_profiles_of(ctx: Context, item_ids: Sequence[str]) -> None:
    """Removes the profiles of items of the caller's organization that are erased."""
    await store.delete_profiles_of(ctx.conn, ctx.organization_id, item_ids)


async def revalidate_profiles(ctx: Context, item: Mapping[str, Any], asset: Mapping[str, Any]) -> None:
    """Looks again at the profiles of an item one of whose assets has other bands or band names than before.

    What rules and statistics found is found anew. A user's profile that names a band which is no longer there is kept, answers
    422 until it is changed, and is the default no more.
    """
    rasters = await store.rasters_of(ctx.conn, item["organization_id"], item["id"])
    await _find_anew(ctx, item, rasters)
    rows = await store.profiles_of(ctx.conn, item["organization_id"], item["id"])
    fitting = [row for row in rows if _fits(row, item, rasters)]
    broken = {row["id"] for row in rows} - {row["id"] for row in fitting}
    if any(row["is_default"] for row in rows if row["id"] in broken):
        await store.clear_default(ctx.conn, item["id"])
        await ensure_default(ctx, item["organization_id"], item["id"], among=fitting)
    ctx.touch("asset", asset["id"])


def shown_bands(item: Mapping[str, Any], assets: Sequence[Row], asset_key: str | None) -> Bands:
    """Returns the bands that a profile for this asset of an item speaks of; raises NotFound or InvalidInput without any."""
    return offer_of(data_asset(assets, asset_key), item["properties"]).bands


def _fits(row: Row, item: Mapping[str, Any], assets: Sequence[Row]) -> bool:
    try:
        picture_of(row["type"], row["config"], shown_bands(item, assets, row["asset_key"]))
    except (InvalidInput, NotFound):
        return False
    return True
