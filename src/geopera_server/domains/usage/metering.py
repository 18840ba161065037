"""Counts what organizations use: in memory, stored every few seconds in one statement, and once more at a clean stop.

Batches carry a number that grows with each one of a process, and the database keeps the last number it took. So a batch
whose answer was lost is sent again as it was and counts once, and while the database is away everything new gathers in the
next batch. A kill loses what was counted since the last batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import psycopg
from psycopg_pool import PoolTimeout

from geopera_server.db.pool import Connection
from geopera_server.domains.usage.store import counters as store
from geopera_server.domains.usage.store.counters import Count
from geopera_server.ports import Connect
from geopera_server.ports.meter import UsageKind
from geopera_server.values.clock import now
from geopera_server.values.ids import new_id

logger = logging.getLogger(__name__)

FLUSH_EVERY_S = 2.0
LAST_FLUSH_WITHIN_S = 5.0
LAST_FLUSH_TRIES = 3
KEPT_AT_MOST = 50_000
REFUSED = (psycopg.errors.IntegrityError, psycopg.errors.DataError)
"""What trying again does not help against; anything else is the database's trouble and passes."""

_Key = tuple[str | None, str | None, str, date]


@dataclass(frozen=True, slots=True)
class _Batch:
    number: int
    counts: list[Count]


class Meter:
    """One process's counters."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._writer = new_id()
        self._counts: dict[_Key, int] = {}
        self._sent: _Batch | None = None
        self._number = 0
        self._waits = False
        self._flushing = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def count(self, organization_id: str | None, kind: UsageKind, amount: int = 1, project_id: str | None = None) -> None:
        """Adds to today's counter; without an organization it is that of the project."""
        key = (organization_id, project_id, kind, now().date())
        self._counts[key] = self._counts.get(key, 0) + amount

    def start(self) -> None:
        """Begins storing in the background."""
        self._task = asyncio.create_task(self._run(), name="meter")

    async def stop(self) -> None:
        """Stores what was counted and ends; what cannot be stored in a few seconds is lost, and told."""
        self._stopping.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_FLUSH_WITHIN_S):
                if self._task is not None:
                    await self._task
                for _ in range(LAST_FLUSH_TRIES):
                    if await self.flush():
                        return
        logger.error("what was used and could not be stored is lost: %s", self.waiting())

    def waiting(self) -> dict[str, int]:
        """Returns what is counted and not known to be stored, by kind."""
        waiting = [(count.kind, count.amount) for count in (self._sent.counts if self._sent else ())]
        waiting += [(key[2], amount) for key, amount in self._counts.items()]
        sums: dict[str, int] = {}
        for kind, amount in waiting:
            sums[kind] = sums.get(kind, 0) + amount
        return sums

    async def flush(self) -> bool:
        """Stores what is counted by now; False when the database does not take it, which keeps it for the next time."""
        async with self._flushing:
            try:
                while (batch := self._next()) is not None:
                    await self._store(batch)
                    self._sent = None
            except (psycopg.Error, PoolTimeout, OSError) as error:
                if not self._waits:
                    logger.warning("usage counters wait: the database does not take them (%s)", error)
                self._waits = True
                self._counts = _without_projects(self._counts)
                return False
            self._waits = False
            return True

    async def _run(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), FLUSH_EVERY_S)
            try:
                await self.flush()
            except Exception:
                logger.exception("storing usage counters broke and is tried again")

    def _next(self) -> _Batch | None:
        """Returns the batch to send: the one in doubt as it was, else what has gathered."""
        if self._sent is None and self._counts:
            self._number += 1
            self._sent = _Batch(self._number, [Count(*key, amount) for key, amount in self._counts.items()])
            self._counts = {}
        return self._sent

    async def _store(self, batch: _Batch) -> None:
        async with self._connect() as conn:
            try:
                await store.add_batch(conn, self._writer, batch.number, batch.counts)
            except REFUSED:
                async with conn.transaction():
                    if await store.take_batch(conn, self._writer, batch.number):
                        await _add_what_is_good(conn, batch.counts)


async def _add_what_is_good(conn: Connection, counts: Sequence[Count]) -> None:
    """Adds counts, halving them until those that are refused stand alone; these become dead letters."""
    try:
        async with conn.transaction():
            await store.add(conn, counts)
    except REFUSED as error:
        if len(counts) > 1:
            middle = len(counts) // 2
            await _add_what_is_good(conn, counts[:middle])
            await _add_what_is_good(conn, counts[middle:])
            return
        logger.error("a usage counter was refused and kept as a dead letter: %s (%s)", counts[0], error)  # noqa: TRY400
        await store.insert_dead_letter(conn, new_id(), counts[0], error=str(error))


def _without_projects(counts: Mapping[_Key, int]) -> dict[_Key, int]:
    """Returns counts that take bounded room: too many are kept by organization only, which is what plans go by."""
    if len(counts) <= KEPT_AT_MOST:
        return dict(counts)
    folded: dict[_Key, int] = {}
    for (organization_id, project_id, kind, day), amount in counts.items():
        key = (organization_id, None if organization_id else project_id, kind, day)
        folded[key] = folded.get(key, 0) + amount
    return folded
