"""Which copied files are named by assets."""

from __future__ import annotations

from collections.abc import Sequence

from geopera_server.db.pool import Connection


async def named_paths(conn: Connection, paths: Sequence[str]) -> set[str]:
    """Those paths in own storage that an asset names, deleted or not."""
    cursor = await conn.execute("SELECT DISTINCT href FROM asset WHERE href = ANY(%s::text[]) AND NOT external", (list(paths),))
    return {row["href"] for row in await cursor.fetchall()}


async def has_collection(conn: Connection, organization_id: str, collection_id: str) -> bool:
    """Whether the organization has a live collection of that id at all."""
    cursor = await conn.execute(
        "SELECT 1 FROM collection WHERE organization_id = %s AND id = %s AND deleted_at IS NULL",
        (organization_id, collection_id),
    )
    return await cursor.fetchone() is not None
