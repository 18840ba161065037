"""Rows of items and assets that are about to change, and their changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.items.store import ITEM


async def lock_item(conn: Connection, organization_id: str, item_id: str) -> Row | None:
    """A live item, kept from other changes until the transaction ends."""
    cursor = await conn.execute(
        "SELECT " + ITEM + " FROM item i WHERE i.organization_id = %s AND i.id = %s AND i.deleted_at IS NULL FOR NO KEY UPDATE",
        (organization_id, item_id),
    )
    return await cursor.fetchone()


async def keep_item(conn: Connection, organization_id: str, item_id: str) -> bool:
    """Keeps a live item as it is until the transaction ends; False when there is none."""
    cursor = await conn.execute(
        "SELECT 1 FROM item WHERE organization_id = %s AND id = %s AND deleted_at IS NULL FOR SHARE", (organization_id, item_id)
    )
    return await cursor.fetchone() is not None


async def touch_item(conn: Connection, organization_id: str, item_id: str, at: datetime) -> Row:
    """Notes that something of a live item changed, and returns it."""
    cursor = await conn.execute(
        "UPDATE item AS i SET updated_at = %s WHERE i.organization_id = %s AND i.id = %s RETURNING " + ITEM,
        (at, organization_id, item_id),
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def replace_asset(conn: Connection, row: Mapping[str, Any]) -> Row | None:
    """Gives a live asset another file and all that describes it; its id and key stay. None when it is gone."""
    cursor = await conn.execute(
        "UPDATE asset SET title = %(title)s, href = %(href)s, external = %(external)s, media_type = %(media_type)s,"
        " roles = %(roles)s, file_name = %(file_name)s, file_size_bytes = %(file_size_bytes)s, checksum = %(checksum)s,"
        " band_names = %(band_names)s, band_count = %(band_count)s, dtype = %(dtype)s, nodata = %(nodata)s, epsg = %(epsg)s,"
        " width = %(width)s, height = %(height)s, gsd = %(gsd)s, is_cog = %(is_cog)s, statistics = %(statistics)s,"
        " raster = %(raster)s, updated_at = %(at)s"
        " WHERE organization_id = %(organization_id)s AND id = %(id)s AND deleted_at IS NULL RETURNING *",
        row,
    )
    return await cursor.fetchone()


async def set_band_names(conn: Connection, organization_id: str, asset_id: str, names: Sequence[str], at: datetime) -> Row:
    """Names the bands of a live asset."""
    cursor = await conn.execute(
        "UPDATE asset SET band_names = %(names)s, updated_at = %(at)s"
        " WHERE organization_id = %(organization)s AND id = %(asset)s AND deleted_at IS NULL RETURNING *",
        {"names": list(names), "at": at, "organization": organization_id, "asset": asset_id},
    )
    row = await cursor.fetchone()
    assert row is not None
    return row
