"""Works out everything that is kept about money once more, from its entries, and says where the two differ."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from geopera_server.db.pool import Connection
from geopera_server.ledger.proofs import PROOFS
from geopera_server.values.clock import now

# A card that was charged becomes credits in a transaction of its own, a moment later.
GRANTED_WITHIN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One figure that is not what the entries say, and the first entry that shows it, where there is one."""

    organization_id: str
    proof: str
    subject: str
    what: str
    found: str
    expected: str
    first_entry: int | None
    others: int

    def __str__(self) -> str:
        """Returns the difference as one line for people."""
        line = f"{self.organization_id}: {self.subject}: {self.what} is {self.found}, expected {self.expected}"
        if self.first_entry is not None and self.subject != f"entry {self.first_entry}":
            line += f" (see entry {self.first_entry})"
        return line + (f" and wrong in {self.others} later ones" if self.others else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much was looked at, and how many charges became money a moment ago and are still to be granted."""

    accounts: int
    entries: int
    waiting: int


@asynccontextmanager
async def one_moment(conn: Connection) -> AsyncIterator[None]:
    """Shows everything within the block as it was at one moment, however long it takes and whatever others write."""
    async with conn.transaction():
        await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        await conn.execute("SET LOCAL statement_timeout = 0")
        await conn.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        # These are sums over whole tables; sorting a million entries on disk takes twice as long.
        await conn.execute("SET LOCAL work_mem = '128MB'")
        yield


async def differences(conn: Connection, organization_id: str | None = None) -> AsyncIterator[Difference]:
    """Yields what is wrong with the money of one organization or, by default, of all; nothing when all is well.

    Run it in a transaction that sees one moment. Rows are read as they are asked for, so that any number of differences fits.
    """
    given = {"organization": organization_id, "granted_by": now() - GRANTED_WITHIN}
    for proof in PROOFS:
        async with conn.cursor() as cursor:
            async for row in cursor.stream(PROOFS[proof], given):
                yield Difference(proof=proof, **row)


async def extent_of(conn: Connection, organization_id: str | None = None) -> Extent:
    """Returns how many accounts and entries there are to look at."""
    cursor = await conn.execute(
        "SELECT (SELECT count(*) FROM ledger_account"
        " WHERE %(organization)s::uuid IS NULL OR organization_id = %(organization)s) AS accounts,"
        " (SELECT count(*) FROM ledger_entry"
        " WHERE %(organization)s::uuid IS NULL OR organization_id = %(organization)s) AS entries,"
        " (SELECT count(*) FROM topup WHERE state = 'succeeded' AND ledger_entry_id IS NULL"
        " AND updated_at > %(granted_by)s"
        " AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s)) AS waiting",
        {"organization": organization_id, "granted_by": now() - GRANTED_WITHIN},
    )
    row = await cursor.fetchone()
    assert row is not None
    return Extent(**row)
