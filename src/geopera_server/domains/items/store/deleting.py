"""Deleting items and assets, having items back, and the work that keeps them from being deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.items.store import ITEM


async def lock_items(conn: Connection, organization_id: str, item_ids: Sequence[str]) -> list[Row]:
    """Those items that are live, kept from other changes until the transaction ends, in the order of their ids."""
    cursor = await conn.execute(
        "SELECT " + ITEM + " FROM item i WHERE i.organization_id = %s AND i.id = ANY(%s::uuid[]) AND i.deleted_at IS NULL"
        " ORDER BY i.id FOR NO KEY UPDATE",
        (organization_id, list(item_ids)),
    )
    return await cursor.fetchall()


async def read_by_work(conn: Connection, organization_id: str, item_ids: Sequence[str], asset_ids: Sequence[str]) -> bool:
    """Whether open work is about one of the items or assets, or names one of the items as what it reads."""
    cursor = await conn.execute(
        "SELECT 1 FROM job WHERE organization_id = %(organization)s AND state IN ('queued', 'running')"
        " AND (entity_id = ANY(%(entities)s::uuid[]) OR payload -> 'item_ids' ?| %(items)s::text[]) LIMIT 1",
        {"organization": organization_id, "entities": [*item_ids, *asset_ids], "items": list(item_ids)},
    )
    return await cursor.fetchone() is not None


async def mark_items_deleted(conn: Connection, organization_id: str, item_ids: Sequence[str], at: datetime) -> list[Row]:
    """Deletes live items, to be had back for a while; the database frees what their assets took."""
    await conn.execute(
        "UPDATE asset SET deleted_at = %s, deleted_with_item = true, updated_at = %s"
        " WHERE organization_id = %s AND item_id = ANY(%s::uuid[]) AND deleted_at IS NULL",
        (at, at, organization_id, list(item_ids)),
    )
    cursor = await conn.execute(
        "UPDATE item AS i SET lifecycle_state = 'deleted', deleted_at = %s, updated_at = %s"
        " WHERE i.organization_id = %s AND i.id = ANY(%s::uuid[]) AND i.deleted_at IS NULL RETURNING " + ITEM,
        (at, at, organization_id, list(item_ids)),
    )
    return await cursor.fetchall()


async def mark_asset_deleted(conn: Connection, organization_id: str, asset_id: str, at: datetime) -> Row | None:
    """Deletes a live asset for good, whose object is to be erased; None when it is gone."""
    cursor = await conn.execute(
        "UPDATE asset SET deleted_at = %s, erased_at = %s, updated_at = %s"
        " WHERE organization_id = %s AND id = %s AND deleted_at IS NULL RETURNING *",
        (at, at, at, organization_id, asset_id),
    )
    return await cursor.fetchone()


async def lock_deleted_item(conn: Connection, organization_id: str, item_id: str, *, since: datetime) -> Row | None:
    """An item that was deleted since then, kept so until the transaction ends."""
    cursor = await conn.execute(
        "SELECT " + ITEM + " FROM item i WHERE i.organization_id = %s AND i.id = %s AND i.deleted_at > %s FOR NO KEY UPDATE",
        (organization_id, item_id, since),
    )
    return await cursor.fetchone()


async def project_is_gone(conn: Connection, organization_id: str, project_id: str) -> bool:
    """Whether a project of the organization was deleted."""
    cursor = await conn.execute(
        "SELECT 1 FROM project WHERE organization_id = %s AND id = %s AND deleted_at IS NOT NULL", (organization_id, project_id)
    )
    return await cursor.fetchone() is not None


async def assets_deleted_with(conn: Connection, organization_id: str, item_id: str) -> list[Row]:
    """The assets that went with an item."""
    cursor = await conn.execute(
        "SELECT * FROM asset WHERE organization_id = %s AND item_id = %s AND deleted_with_item ORDER BY created_at, key, id",
        (organization_id, item_id),
    )
    return await cursor.fetchall()


async def restore_item(conn: Connection, row: Mapping[str, Any]) -> Row | None:
    """Takes an item back as it was, in no collection that is gone; None when its stac_id is taken by now."""
    cursor = await conn.execute(
        "UPDATE item AS i SET deleted_at = NULL, lifecycle_state = %(lifecycle_state)s, stac_id = %(stac_id)s,"
        " collection_id = (SELECT c.id FROM collection c WHERE c.id = i.collection_id AND c.deleted_at IS NULL),"
        " updated_at = %(at)s WHERE i.organization_id = %(organization_id)s AND i.id = %(id)s AND NOT EXISTS (SELECT 1"
        " FROM item o WHERE o.project_id = i.project_id AND o.stac_id = %(stac_id)s AND o.deleted_at IS NULL) RETURNING "
        + ITEM,
        row,
    )
    return await cursor.fetchone()


async def expire_deleted_assets(conn: Connection, organization_id: str, item_id: str, at: datetime) -> None:
    """Notes that the files which went with an item have expired since."""
    await conn.execute(
        "UPDATE asset SET expired_at = %s WHERE organization_id = %s AND item_id = %s AND deleted_with_item"
        " AND expired_at IS NULL AND NOT external",
        (at, organization_id, item_id),
    )


async def restore_assets(conn: Connection, organization_id: str, item_id: str, at: datetime) -> list[Row]:
    """Takes back the assets that went with an item; the database counts what they take."""
    cursor = await conn.execute(
        "UPDATE asset SET deleted_at = NULL, deleted_with_item = false, updated_at = %s"
        " WHERE organization_id = %s AND item_id = %s AND deleted_with_item RETURNING *",
        (at, organization_id, item_id),
    )
    return await cursor.fetchall()
