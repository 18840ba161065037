"""The daily counters, and what could not be added to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from geopera_server.db.pool import Connection, Row


@dataclass(frozen=True, slots=True)
class Count:
    """What was used of one kind on one UTC day; without an organization it is that of the project."""

    organization_id: str | None
    project_id: str | None
    kind: str
    day: date
    amount: int


_TAKEN = (
    "INSERT INTO usage_writer AS w (id, batch, at) VALUES (%(writer)s, %(batch)s, now()) ON CONFLICT (id) DO UPDATE"
    " SET batch = EXCLUDED.batch, at = EXCLUDED.at WHERE w.batch < EXCLUDED.batch RETURNING w.batch"
)
# Everybody adds in the same order, so that no two wait for each other.
_ADD = (
    " INSERT INTO usage_day AS d (organization_id, day, kind, project_id, amount)"
    " SELECT coalesce(c.organization_id, p.organization_id), c.day, c.kind, c.project_id, sum(c.amount)"
    " FROM unnest(%(organizations)s::uuid[], %(days)s::date[], %(kinds)s::text[], %(projects)s::uuid[], %(amounts)s::bigint[])"
    "  AS c (organization_id, day, kind, project_id, amount)"
    " LEFT JOIN project p ON c.organization_id IS NULL AND p.id = c.project_id"
)
_ONCE = " WHERE EXISTS (SELECT FROM fresh)"
_SUM = (
    " GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
    " ON CONFLICT (organization_id, day, kind, project_id) DO UPDATE SET amount = d.amount + EXCLUDED.amount"
)
_ADD_ONCE = "WITH fresh AS (" + _TAKEN + ")" + _ADD + _ONCE + _SUM


async def add_batch(conn: Connection, writer: str, batch: int, counts: Sequence[Count]) -> None:
    """Adds a writer's batch; one that was added before, or is older than one that was, changes nothing."""
    await conn.execute(_ADD_ONCE, {"writer": writer, "batch": batch, **_columns(counts)})


async def take_batch(conn: Connection, writer: str, batch: int) -> bool:
    """Whether a batch was not added before; from here on it counts as added."""
    cursor = await conn.execute(_TAKEN, {"writer": writer, "batch": batch})
    return await cursor.fetchone() is not None


async def add(conn: Connection, counts: Sequence[Count]) -> None:
    """Adds counts to the days they are of."""
    await conn.execute(_ADD + _SUM, _columns(counts))


def _columns(counts: Sequence[Count]) -> dict[str, list[Any]]:
    return {
        "organizations": [count.organization_id for count in counts],
        "projects": [count.project_id for count in counts],
        "kinds": [count.kind for count in counts],
        "days": [count.day for count in counts],
        "amounts": [count.amount for count in counts],
    }


async def forget_writers(conn: Connection, before: datetime) -> None:
    """Forgets processes that have added nothing since."""
    await conn.execute("DELETE FROM usage_writer WHERE at < %s", (before,))


async def insert_dead_letter(conn: Connection, event_id: str, count: Count, *, error: str) -> None:
    """Keeps a count that was refused, with the reason."""
    await conn.execute(
        "INSERT INTO usage_dead_letter (event_id, storage_type, source, organization_id, project_id, day, amount, error,"
        " created_at) VALUES (%s, 'usage_day', %s, %s, %s, %s, %s, %s, now()) ON CONFLICT (event_id) DO NOTHING",
        (event_id, count.kind, count.organization_id, count.project_id, count.day, count.amount, error),
    )


async def pending_groups(conn: Connection) -> list[Row]:
    """How many counts wait to be added again, by where they belong and what they are of, those waiting longest first."""
    cursor = await conn.execute(
        "SELECT storage_type, source, count(*) AS count, min(created_at) AS oldest_at FROM usage_dead_letter"
        " WHERE resolved_at IS NULL GROUP BY 1, 2 ORDER BY 4, 1, 2"
    )
    return await cursor.fetchall()


async def pending_events(conn: Connection, limit: int) -> list[str]:
    """The counts to add next: oldest first, those that were refused again behind those not tried."""
    cursor = await conn.execute(
        "SELECT event_id FROM usage_dead_letter WHERE resolved_at IS NULL ORDER BY attempts, created_at, event_id LIMIT %s",
        (limit,),
    )
    return [row["event_id"] for row in await cursor.fetchall()]


async def pending_total(conn: Connection) -> int:
    """How many counts wait to be added again."""
    cursor = await conn.execute("SELECT count(*) AS total FROM usage_dead_letter WHERE resolved_at IS NULL")
    row = await cursor.fetchone()
    return 0 if row is None else int(row["total"])


async def claim_event(conn: Connection, event_id: str) -> Row | None:
    """A waiting count, marked as added and locked until the transaction ends; None when somebody else has it."""
    cursor = await conn.execute(
        "UPDATE usage_dead_letter SET resolved_at = now(), attempts = attempts + 1 WHERE event_id ="
        " (SELECT event_id FROM usage_dead_letter WHERE event_id = %s AND resolved_at IS NULL FOR UPDATE SKIP LOCKED)"
        " RETURNING source, organization_id, project_id, day, amount",
        (event_id,),
    )
    return await cursor.fetchone()


async def note_refusal(conn: Connection, event_id: str, error: str) -> None:
    """Notes that a waiting count was refused again, and why."""
    await conn.execute(
        "UPDATE usage_dead_letter SET attempts = attempts + 1, error = %s WHERE event_id = %s AND resolved_at IS NULL",
        (error, event_id),
    )


def as_count(row: Mapping[str, Any]) -> Count:
    """Returns the count that a dead letter holds."""
    return Count(row["organization_id"], row["project_id"], row["source"], row["day"], int(row["amount"]))
