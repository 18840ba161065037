"""The people who run the deployment."""

from __future__ import annotations

from geopera_server.db.pool import Connection

_BOOTSTRAP_LOCK = 0x6F70657261746F72


async def claim_bootstrap(conn: Connection) -> None:
    """Lets only one transaction at a time look for operators and make one."""
    await conn.execute("SELECT pg_advisory_xact_lock(%s::bigint)", (_BOOTSTRAP_LOCK,))


async def operator_exists(conn: Connection) -> bool:
    """Whether anybody may act for the platform."""
    cursor = await conn.execute("SELECT EXISTS (SELECT FROM app_user WHERE operator) AS found")
    row = await cursor.fetchone()
    return row is not None and bool(row["found"])
