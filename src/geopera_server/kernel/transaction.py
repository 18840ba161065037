"""The transaction of a call, opened in one round trip; the block commits as part of its last statements."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg.pq import TransactionStatus

from geopera_server.db.pool import Connection

_OPEN = frozenset({TransactionStatus.INTRANS, TransactionStatus.INERROR})


@asynccontextmanager
async def begun(conn: Connection) -> AsyncIterator[None]:
    """Opens a transaction with the savepoint `call`; whatever leaves the block with it still open takes all of it back."""
    await conn.execute("BEGIN; SAVEPOINT call")
    try:
        yield
    finally:
        if not conn.broken and conn.info.transaction_status in _OPEN:
            await conn.execute("ROLLBACK")
