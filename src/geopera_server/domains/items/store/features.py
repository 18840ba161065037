"""What STAC features of items are made of."""

from __future__ import annotations

from collections.abc import Sequence

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.items.store import ITEM


async def live_items(conn: Connection, organization_id: str, item_ids: Sequence[str]) -> list[Row]:
    """Those of some items that are there."""
    cursor = await conn.execute(
        "SELECT " + ITEM + " FROM item i WHERE i.organization_id = %s AND i.id = ANY (%s::uuid[]) AND i.deleted_at IS NULL",
        (organization_id, list(item_ids)),
    )
    return await cursor.fetchall()
