"""Writes what a call has recorded besides its own rows: lineage, events and queued jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from geopera_server.kernel.chain import write_records
from geopera_server.kernel.context import Context, Event
from geopera_server.values.ids import new_id


async def write_recorded(ctx: Context) -> None:
    """Writes lineage, outbox and job rows of the call into its transaction."""
    if ctx.lineage.records:
        await write_records(ctx)
    for event in ctx.events:
        # Named before it is asked for: an operator who acts on another organization may have none.
        organization_id = event.organization_id or ctx.organization_id
        await write_event(ctx.conn, event, organization_id=organization_id, invocation_id=ctx.invocation_id, at=ctx.now)
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
    await conn.execute(
        "INSERT INTO outbox_event (id, organization_id, type, entity_type, entity_id, project_id, data,"
        " invocation_id, occurred_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            new_id(), event.organization_id or organization_id, event.type, event.entity_type, event.entity_id,
            event.project_id, Jsonb(event.data), invocation_id, at,
        ),
    )  # fmt: skip
