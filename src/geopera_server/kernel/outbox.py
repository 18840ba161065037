"""Writes what a call has recorded besides its own rows: lineage, events and queued jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from geopera_server.kernel.chain import write_records
from geopera_server.kernel.context import Context, Event
from geopera_server.values.batches import batched
from geopera_server.values.encoding import dumps
from geopera_server.values.ids import new_id

TOLD_AT_ONCE = 1_000

_TELL = (
    "INSERT INTO outbox_event (id, organization_id, type, entity_type, entity_id, project_id, data, invocation_id,"
    " occurred_at) "
)
_TELL_ONE = (
    _TELL + "VALUES (%(id)s, %(organization_id)s, %(type)s, %(entity_type)s, %(entity_id)s, %(project_id)s, %(data)s,"
    " %(invocation_id)s, %(at)s)"
)
# One document for several events: subscribers hear of them in the order in which they were told. For one it is the slower way.
_TELL_SEVERAL = (
    _TELL
    + "SELECT e.id, e.organization_id, e.type, e.entity_type, e.entity_id, e.project_id, e.data, %(invocation_id)s, %(at)s"
    " FROM ROWS FROM (json_to_recordset(%(events)s::json) AS (id uuid, organization_id uuid, type text, entity_type text,"
    " entity_id text, project_id uuid, data jsonb)) WITH ORDINALITY AS e"
    " (id, organization_id, type, entity_type, entity_id, project_id, data, number) ORDER BY e.number"
)


async def write_recorded(ctx: Context) -> None:
    """Writes lineage, outbox and job rows of the call into its transaction."""
    if ctx.lineage.records:
        await write_records(ctx)
    # Named before it is asked for: an operator who acts on another organization may have none.
    events = [_event_row(event, event.organization_id or ctx.organization_id) for event in ctx.events]
    await _tell(ctx.conn, events, invocation_id=ctx.invocation_id, at=ctx.now)
    for job in ctx.jobs:
        await ctx.conn.execute(
            "INSERT INTO job (id, kind, organization_id, entity_id, payload, run_after, invocation_id, created_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (kind, entity_id) WHERE state IN ('queued', 'running') DO NOTHING",
            (
                job.id, job.kind, job.organization_id or ctx.organization_id, job.entity_id, Jsonb(job.payload),
                job.run_after or ctx.now, ctx.invocation_id, ctx.now,
            ),
        )  # fmt: skip


async def write_event(
    conn: AsyncConnection[Any], event: Event, *, organization_id: str, invocation_id: str, at: datetime
) -> None:
    """Writes one event into the caller's transaction; the event's own organization goes before the given one."""
    row = _event_row(event, event.organization_id or organization_id)
    await _tell(conn, [row], invocation_id=invocation_id, at=at)


async def _tell(conn: AsyncConnection[Any], events: Sequence[Mapping[str, Any]], *, invocation_id: str, at: datetime) -> None:
    about = {"invocation_id": invocation_id, "at": at}
    for some in batched(events, TOLD_AT_ONCE):
        if len(some) == 1:
            await conn.execute(_TELL_ONE, {**about, **some[0], "data": Jsonb(some[0]["data"])})
        else:
            await conn.execute(_TELL_SEVERAL, {**about, "events": dumps(some).decode()})


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
