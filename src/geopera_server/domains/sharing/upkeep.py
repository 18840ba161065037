"""Removes what can no longer count against anybody; run now and then in the background."""

from __future__ import annotations

from datetime import datetime

from geopera_server.db.pool import Connection
from geopera_server.domains.sharing.rules import TRIES_COUNT_FOR
from geopera_server.domains.sharing.store import visits


async def forget_tries(conn: Connection, at: datetime) -> None:
    """Removes the wrong passwords that are too long ago to count."""
    await visits.forget_tries(conn, at - TRIES_COUNT_FOR)
