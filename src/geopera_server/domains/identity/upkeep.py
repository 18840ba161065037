"""Removes what can no longer serve anybody; run now and then in the background."""

from __future__ import annotations

from datetime import datetime

from geopera_server.db.pool import Connection
from geopera_server.domains.identity.store import grants, sessions


async def forget_what_is_over(conn: Connection, *, before: datetime) -> None:
    """Removes codes, refresh tokens and sessions that were over by then, and dynamic clients nobody signed in through."""
    await grants.forget_dead_grants(conn, before=before)
    await sessions.forget_dead_sessions(conn, before=before)
