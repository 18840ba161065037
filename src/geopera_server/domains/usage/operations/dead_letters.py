"""Counts that the database refused, and recording them after all."""

from __future__ import annotations

from pydantic import BaseModel, Field

from geopera_server.domains.usage.metering import REFUSED
from geopera_server.domains.usage.shapes import DeadLetterGroup, DeadLetters, Replayed
from geopera_server.domains.usage.store import counters as store
from geopera_server.kernel.context import Context, Outside
from geopera_server.kernel.operation import operation
from geopera_server.kernel.paging import clamped


class _Empty(BaseModel):
    """Nothing to say."""


@operation("billing.dlq.list_pending", effect="read", scope="admin:read", raw=True, example={})
async def list_pending(ctx: Context, given: _Empty) -> DeadLetters:  # noqa: ARG001
    """Lists the usage counts that could not be recorded, in groups by what they are of."""
    rows = await store.pending_groups(ctx.conn)
    groups = [
        DeadLetterGroup(storage_type=row["storage_type"], source=row["source"], count=row["count"], oldest_at=row["oldest_at"])
        for row in rows
    ]
    return DeadLetters(groups=groups, total=sum(group["count"] for group in groups))


class ReplayInput(BaseModel):
    """How many to try at most."""

    batch_size: int = Field(100, ge=1)


async def _replayed(outside: Outside, given: ReplayInput) -> Replayed:
    """Records waiting counts, oldest first and each in a transaction of its own: whatever ends the call, none counts twice."""
    attempted = resolved = 0
    async with outside.connection() as conn:
        for event_id in await store.pending_events(conn, clamped(given.batch_size)):
            try:
                async with conn.transaction():
                    event = await store.claim_event(conn, event_id)
                    if event is None:
                        continue
                    attempted += 1
                    await store.add(conn, [store.as_count(event)])
            except REFUSED as error:
                await store.note_refusal(conn, event_id, str(error))
            else:
                resolved += 1
        remaining = await store.pending_total(conn)
    return Replayed(attempted=attempted, resolved=resolved, failed=attempted - resolved, remaining=remaining)


@operation(
    "billing.dlq.replay",
    effect="compute",
    scope="admin:write",
    raw=True,
    while_suspended=True,
    prepare=_replayed,
    example={"batch_size": 100},
)
async def replay(ctx: Context, given: ReplayInput, replayed: Replayed) -> Replayed:  # noqa: ARG001
    """Records usage counts that were refused before, oldest first; those refused again keep waiting, behind the others."""
    return replayed
