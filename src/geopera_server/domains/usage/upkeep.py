"""What usage leaves behind and nobody needs any more."""

from __future__ import annotations

from datetime import datetime

from geopera_server.db.pool import Connection
from geopera_server.domains.usage.store import counters


async def forget_idle_writers(conn: Connection, before: datetime) -> None:
    """Forgets processes that have stored no counters since; one of them that still ran would only begin anew."""
    await counters.forget_writers(conn, before)
