"""What uploads change of the items that came of them, inside the domain's own change of an item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from geopera_server.db.pool import Connection


async def file_under(conn: Connection, organization_id: str, item_id: str, collection_id: str) -> bool:
    """Files an item under a collection unless it is in one; says whether it did."""
    cursor = await conn.execute(
        "UPDATE item SET collection_id = %s WHERE organization_id = %s AND id = %s AND collection_id IS NULL",
        (collection_id, organization_id, item_id),
    )
    return cursor.rowcount > 0


async def note_on_item(conn: Connection, organization_id: str, item_id: str, note: Mapping[str, Any]) -> None:
    """Adds to the properties of an item."""
    await conn.execute(
        "UPDATE item SET properties = properties || %s WHERE organization_id = %s AND id = %s",
        (Jsonb(note), organization_id, item_id),
    )
