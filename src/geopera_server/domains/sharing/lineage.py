"""What of share links the lineage holds digests of: what they open and until when, never how."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from geopera_server.db.pool import Connection
from geopera_server.domains.sharing.store import links as store

LiveState = Callable[[Connection, str, str], Awaitable[dict[str, Any] | None]]
_FIELDS = ("id", "organization_id", "project_id", "target_type", "target_id", "permission", "expires_at")


def link_state(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of a share link that a record's digest covers."""
    return {name: row[name] for name in _FIELDS} | {"is_revoked": row["revoked_at"] is not None}


async def _live_link(conn: Connection, organization_id: str, entity_id: str) -> dict[str, Any] | None:
    row = await store.link_state_of(conn, organization_id, entity_id)
    return None if row is None else link_state(row)


artifact_states: dict[str, LiveState] = {"share_link": _live_link}
