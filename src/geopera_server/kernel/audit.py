"""One row per call, whoever made it and however it ended.

Changes write theirs in their own transaction. Reads hand theirs to a writer that stores them in batches, since a row per
read in its own transaction would cost more than the read.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from geopera_server.ports import Connect

logger = logging.getLogger(__name__)

FLUSH_EVERY_S = 0.5
KEPT_AT_MOST = 100_000

_INSERT = (
    "INSERT INTO audit_event (invocation_id, at, operation_id, side_effect, scope, principal_type, principal_id,"
    " api_key_id, organization_id, status, code, outcome, duration_ms, ip, user_agent, entities, input_digest,"
    " idempotency_key_hash, replayed)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
    " ON CONFLICT (invocation_id) DO NOTHING"
)


# A copy cannot pass over rows that are there already, as when a connection was lost after the commit: it goes by a table.
_BATCH = "CREATE TEMPORARY TABLE IF NOT EXISTS audit_batch (LIKE audit_event) ON COMMIT DELETE ROWS"
_COPY = (
    "COPY audit_batch (invocation_id, at, operation_id, side_effect, scope, principal_type, principal_id, api_key_id,"
    " organization_id, status, code, outcome, duration_ms, ip, user_agent, entities, input_digest, idempotency_key_hash,"
    " replayed) FROM STDIN"
)
_MERGE = "INSERT INTO audit_event SELECT * FROM audit_batch ON CONFLICT (invocation_id) DO NOTHING"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """What is kept of one call; holds digests where inputs or keys could be secret."""

    invocation_id: str
    at: datetime
    operation_id: str
    side_effect: str
    scope: str
    principal_type: str
    principal_id: str | None
    api_key_id: str | None
    organization_id: str | None
    status: int
    code: str | None
    duration_ms: float
    ip: str | None
    user_agent: str | None
    entities: tuple[tuple[str, str], ...] = ()
    input_digest: str | None = None
    idempotency_key: str | None = None
    replayed: bool = False

    @property
    def outcome(self) -> str:
        if self.status < 400:
            return "ok"
        return "denied" if self.status in {401, 403, 404, 429} else "failed"

    def row(self) -> tuple[Any, ...]:
        key_hash = hashlib.sha256(self.idempotency_key.encode()).hexdigest() if self.idempotency_key else None
        entities = [{"type": kind, "id": entity_id} for kind, entity_id in self.entities]
        return (
            self.invocation_id, self.at, self.operation_id, self.side_effect, self.scope, self.principal_type,
            self.principal_id, self.api_key_id, self.organization_id, self.status, self.code, self.outcome,
            self.duration_ms, self.ip, (self.user_agent or "")[:300] or None, Jsonb(entities), self.input_digest,
            key_hash, self.replayed,
        )  # fmt: skip


async def write(conn: AsyncConnection[Any], event: AuditEvent) -> None:
    """Writes one row in the caller's transaction."""
    await conn.execute(_INSERT, event.row())


class AuditWriter:
    """Stores the rows of reads in batches; what a crash loses is at most the last half second of them."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._waiting: deque[AuditEvent] = deque(maxlen=KEPT_AT_MOST)
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    def add(self, event: AuditEvent) -> None:
        """Takes a row to be written soon."""
        if len(self._waiting) == KEPT_AT_MOST:
            logger.error("audit rows of reads are being lost: %d wait and the database does not take them", KEPT_AT_MOST)
        self._waiting.append(event)

    def start(self) -> None:
        """Begins writing in the background."""
        self._task = asyncio.create_task(self._run(), name="audit-writer")

    async def stop(self) -> None:
        """Writes what waits and ends."""
        self._stopping.set()
        if self._task is not None:
            await self._task
        await self.flush()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), FLUSH_EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Writes what waits now; keeps it for the next time when the database does not answer."""
        if not self._waiting:
            return
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            async with self._connect() as conn, conn.transaction(), conn.cursor() as cursor:
                await cursor.execute(_BATCH)
                async with cursor.copy(_COPY) as copy:
                    for event in batch:
                        await copy.write_row(event.row())
                await cursor.execute(_MERGE)
        except psycopg.Error:
            logger.warning("audit rows wait: the database does not answer", exc_info=True)
            self._waiting.extendleft(reversed(batch))
