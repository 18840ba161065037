"""What is under way in a project."""

from __future__ import annotations

from geopera_server.db.pool import Connection
from geopera_server.domains.projects import store


async def open_jobs(conn: Connection, organization_id: str, project_id: str) -> int:
    """Returns how many pieces of background work wait or run for a project, or read its items."""
    return await store.open_jobs(conn, organization_id, project_id)
