"""What making and changing items asks of the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.items.store import ITEM


async def asset_at(conn: Connection, organization_id: str, path: str) -> Row | None:
    """A live asset of the organization whose file lies at a path in own storage, where it stays until the transaction ends."""
    cursor = await conn.execute(
        "SELECT a.* FROM asset a JOIN item i ON i.id = a.item_id AND i.deleted_at IS NULL AND i.lifecycle_state <> 'expired'"
        " WHERE a.href = %s AND NOT a.external AND a.organization_id = %s AND a.deleted_at IS NULL ORDER BY a.id LIMIT 1"
        " FOR SHARE OF a",
        (path, organization_id),
    )
    return await cursor.fetchone()


async def order_is_of(conn: Connection, organization_id: str, order_id: str) -> bool:
    """Whether the organization placed an order."""
    cursor = await conn.execute("SELECT 1 FROM orders WHERE organization_id = %s AND id = %s", (organization_id, order_id))
    return await cursor.fetchone() is not None


async def upload_is_of(conn: Connection, organization_id: str, upload_id: str) -> bool:
    """Whether the organization began an upload."""
    cursor = await conn.execute("SELECT 1 FROM upload WHERE organization_id = %s AND id = %s", (organization_id, upload_id))
    return await cursor.fetchone() is not None


async def is_in_lineage(conn: Connection, organization_id: str, kind: str, entity_id: str) -> bool:
    """Whether the organization's lineage knows an entity, by a record of its own or as where something came from."""
    cursor = await conn.execute(
        "SELECT 1 FROM lineage_record WHERE organization_id = %(organization)s AND entity_type = %(kind)s"
        " AND entity_id = %(id)s UNION ALL SELECT 1 FROM lineage_edge WHERE organization_id = %(organization)s"
        " AND dst_type = %(kind)s AND dst_id = %(id)s LIMIT 1",
        {"organization": organization_id, "kind": kind, "id": entity_id},
    )
    return await cursor.fetchone() is not None


async def update_item(conn: Connection, row: Mapping[str, Any]) -> Row:
    """Gives a live item what may change about it."""
    cursor = await conn.execute(
        "UPDATE item AS i SET name = %(name)s, description = %(description)s, collection_id = %(collection_id)s,"
        " datetime = %(datetime)s, period = tstzrange(%(period_start)s, %(period_end)s, '[]'), geometry = %(geometry)s,"
        " bbox = %(bbox)s, extent = %(extent)s::box, extent_across = %(extent_across)s::box, gsd = %(gsd)s,"
        " cloud_cover = %(cloud_cover)s, properties = %(properties)s, lifecycle_state = %(lifecycle_state)s,"
        " archived_at = %(archived_at)s, updated_at = %(at)s"
        " WHERE i.organization_id = %(organization_id)s AND i.id = %(id)s AND i.deleted_at IS NULL RETURNING " + ITEM,
        row,
    )
    made = await cursor.fetchone()
    assert made is not None
    return made
