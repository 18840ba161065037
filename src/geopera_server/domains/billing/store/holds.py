"""Holds of jobs that are still open."""

from __future__ import annotations

from datetime import datetime

from geopera_server.db.pool import Connection, Row


async def open_holds_of_jobs(conn: Connection, organization_id: str | None, before: datetime, limit: int) -> list[Row]:
    """Open holds that name a job and were made before then, oldest first; of one organization, or of all."""
    cursor = await conn.execute(
        "SELECT organization_id, job_id FROM ledger_hold WHERE remaining > 0 AND job_id IS NOT NULL AND created_at < %s"
        " AND (%s::uuid IS NULL OR organization_id = %s::uuid) ORDER BY created_at, id LIMIT %s",
        (before, organization_id, organization_id, limit),
    )
    return await cursor.fetchall()


async def is_under_way(conn: Connection, job_id: str) -> bool:
    """Whether there is such background work, waiting or running."""
    cursor = await conn.execute("SELECT FROM job WHERE id = %s AND state IN ('queued', 'running')", (job_id,))
    return await cursor.fetchone() is not None
