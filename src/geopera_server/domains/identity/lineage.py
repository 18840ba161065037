"""What of this domain's artifacts the lineage holds digests of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.identity.store import projects

LiveState = Callable[[Connection, str, str], Awaitable[dict[str, Any] | None]]


def project_state(row: Row) -> dict[str, Any]:
    """Returns the content of a project that a record's digest covers."""
    return {
        "id": row["id"],
        "organization_id": row["organization_id"],
        "name": row["name"],
        "description": row["description"],
        "region": row["region"],
        "storage_prefix": row["storage_prefix"],
        "is_archived": row["is_archived"],
        "is_deleted": row["deleted_at"] is not None,
    }


async def _live_project(conn: Connection, organization_id: str, entity_id: str) -> dict[str, Any] | None:
    row = await projects.project_of(conn, organization_id, entity_id)
    return None if row is None else project_state(row)


artifact_states: dict[str, LiveState] = {"project": _live_project}
