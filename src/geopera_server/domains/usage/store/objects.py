"""Which stored objects belong to assets, and which are still being worked on."""

from __future__ import annotations

from collections.abc import Sequence

from geopera_server.db.pool import Connection, Row


async def projects(conn: Connection, project_id: str | None) -> list[Row]:
    """One project or all of them, deleted ones included, with their organizations."""
    cursor = await conn.execute(
        "SELECT id, organization_id FROM project WHERE (%(project)s::uuid IS NULL OR id = %(project)s) ORDER BY id",
        {"project": project_id},
    )
    return await cursor.fetchall()


async def kept_assets(conn: Connection, organization_id: str, project_id: str, *, after: str | None, limit: int) -> list[Row]:
    """A page of a project's live assets in own storage, without those of items that were kept for their time only."""
    cursor = await conn.execute(
        "SELECT a.id, a.item_id, a.project_id, a.href, a.file_size_bytes FROM asset a JOIN item i ON i.id = a.item_id"
        " WHERE a.organization_id = %(organization)s AND a.project_id = %(project)s AND a.deleted_at IS NULL"
        " AND NOT a.external AND i.deleted_at IS NULL AND i.lifecycle_state NOT IN ('expired', 'deleted')"
        " AND (%(after)s::uuid IS NULL OR a.id > %(after)s) ORDER BY a.id LIMIT %(limit)s",
        {"organization": organization_id, "project": project_id, "after": after, "limit": limit},
    )
    return await cursor.fetchall()


async def known_paths(conn: Connection, paths: Sequence[str]) -> set[str]:
    """Those paths that an asset names, a deleted one too: its objects are kept for as long as it can be restored."""
    cursor = await conn.execute("SELECT DISTINCT href FROM asset WHERE href = ANY(%s::text[]) AND NOT external", (list(paths),))
    return {row["href"] for row in await cursor.fetchall()}


async def open_work(conn: Connection, ids: Sequence[str]) -> set[str]:
    """Those ids that name an order, an upload or a piece of background work which has not ended."""
    cursor = await conn.execute(
        "SELECT id::text FROM orders WHERE id = ANY(%(ids)s::uuid[]) AND status NOT IN ('fulfilled', 'failed', 'cancelled')"
        " UNION SELECT id::text FROM upload WHERE id = ANY(%(ids)s::uuid[]) AND status NOT IN ('completed', 'failed')"
        " UNION SELECT entity_id::text FROM job WHERE entity_id = ANY(%(ids)s::uuid[]) AND state IN ('queued', 'running')"
        " UNION SELECT id::text FROM job WHERE id = ANY(%(ids)s::uuid[]) AND state IN ('queued', 'running')",
        {"ids": list(ids)},
    )
    return {row["id"] for row in await cursor.fetchall()}
