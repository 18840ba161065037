"""Holds of jobs that are still open."""

from __future__ import annotations

from collections.abc import Sequence
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


async def background_states(conn: Connection, job_ids: Sequence[str]) -> dict[str, str]:
    """The states of background jobs, by id."""
    cursor = await conn.execute("SELECT id, state FROM job WHERE id = ANY(%s::uuid[])", (list(job_ids),))
    return {row["id"]: row["state"] for row in await cursor.fetchall()}
