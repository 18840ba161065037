"""Writes what a call has recorded besides its own rows: lineage, events and queued jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from geopera_server.kernel.chain import write_records
from geopera_server.kernel.context import Context, Event, QueuedJob
from geopera_server.values.batches import batched
from geopera_server.values.encoding import dumps
from geopera_server.values.ids import new_id

WRITTEN_AT_ONCE = 1_000

# One document for all events: subscribers hear of them in the order in which they were told.
_EVENTS = (
    "INSERT INTO outbox_event (id, organization_id, type, entity_type, entity_id, project_id, data, invocation_id, occurred_at)"
    " SELECT e.id, e.organization_id, e.type, e.entity_type, e.entity_id, e.project_id, e.data, %(invocation_id)s, %(at)s"
    " FROM ROWS FROM (json_to_recordset(%(rows)s::json) AS (id uuid, organization_id uuid, type text, entity_type text,"
    " entity_id text, project_id uuid, data jsonb)) WITH ORDINALITY AS e"
    " (id, organization_id, type, entity_type, entity_id, project_id, data, number) ORDER BY e.number"
)
_JOBS = (
    "INSERT INTO job (id, kind, organization_id, entity_id, payload, run_after, invocation_id, created_at)"
    " SELECT j.id, j.kind, j.organization_id, j.entity_id, j.payload, j.run_after, %(invocation_id)s, %(at)s"
    " FROM json_to_recordset(%(rows)s::json) AS j (id uuid, kind text, organization_id uuid, entity_id uuid, payload jsonb,"
    " run_after timestamptz)"
    " ON CONFLICT (kind, entity_id) WHERE state IN ('queued', 'running') DO NOTHING"
)


async def write_recorded(ctx: Context) -> None:
    """Writes lineage, outbox and job rows of the call into its transaction."""
    if ctx.lineage.records:
        await write_records(ctx)
    # Named before it is asked for: an operator who acts on another organization may have none.
    events = [_event_row(event, event.organization_id or ctx.organization_id) for event in ctx.events]
    await _write(ctx.conn, _EVENTS, events, invocation_id=ctx.invocation_id, at=ctx.now)
    jobs = [_job_row(job, job.organization_id or ctx.organization_id, ctx.now) for job in ctx.jobs]
    await _write(ctx.conn, _JOBS, jobs, invocation_id=ctx.invocation_id, at=ctx.now)


async def write_event(
    conn: AsyncConnection[Any], event: Event, *, organization_id: str, invocation_id: str, at: datetime
) -> None:
    """Writes one event into the caller's transaction; the event's own organization goes before the given one."""
    row = _event_row(event, event.organization_id or organization_id)
    await _write(conn, _EVENTS, [row], invocation_id=invocation_id, at=at)


async def _write(
    conn: AsyncConnection[Any], statement: str, rows: Sequence[Mapping[str, Any]], *, invocation_id: str, at: datetime
) -> None:
    for some in batched(rows, WRITTEN_AT_ONCE):
        await conn.execute(statement, {"invocation_id": invocation_id, "at": at, "rows": dumps(some).decode()})


def _event_row(event: Event, organization_id: str) -> dict[str, Any]:
    return {
        "id": new_id(),
        "organization_id": organization_id,
        "type": event.type,
        "entity_type": event.entity_type,
        "entity_id": event.entity_id,
        "project_id": event.project_id,
        "data": event.data,
    }


def _job_row(job: QueuedJob, organization_id: str, at: datetime) -> dict[str, Any]:
    return {
        "id": job.id,
        "kind": job.kind,
        "organization_id": organization_id,
        "entity_id": job.entity_id,
        "payload": job.payload,
        # With its microseconds, which the wire does without.
        "run_after": (job.run_after or at).isoformat(),
    }
