"""What ran by the clock, and what is running."""

from __future__ import annotations

from datetime import datetime

from geopera_server.db.pool import Connection


async def is_done(conn: Connection, name: str, due_at: datetime, at: datetime) -> bool:
    """Whether a due time is done, or has failed and waits for its next try."""
    cursor = await conn.execute(
        "SELECT FROM cron_run WHERE name = %s AND due_at = %s AND (done_at IS NOT NULL OR next_try_at > %s)", (name, due_at, at)
    )
    return await cursor.fetchone() is not None


async def take_turn(conn: Connection, name: str) -> bool:
    """Keeps others from running it until given back, or until this session ends; False when somebody is at it."""
    cursor = await conn.execute("SELECT pg_try_advisory_lock(hashtextextended('cron:' || %s, 0)) AS taken", (name,))
    row = await cursor.fetchone()
    return row is not None and bool(row["taken"])


async def give_turn(conn: Connection, name: str) -> None:
    """Lets others run it."""
    await conn.execute("SELECT pg_advisory_unlock(hashtextextended('cron:' || %s, 0))", (name,))


async def begin(conn: Connection, name: str, due_at: datetime, at: datetime) -> int:
    """Notes one more try of a due time and returns how many there were."""
    cursor = await conn.execute(
        "INSERT INTO cron_run AS c (name, due_at, tries, next_try_at) VALUES (%(name)s, %(due_at)s, 1, %(at)s)"
        " ON CONFLICT (name, due_at) DO UPDATE SET tries = c.tries + 1 RETURNING tries",
        {"name": name, "due_at": due_at, "at": at},
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row["tries"])


async def finish(conn: Connection, name: str, due_at: datetime, at: datetime) -> None:
    """Notes that a due time is done, and forgets what was due long before."""
    await conn.execute("UPDATE cron_run SET done_at = %s, outcome = 'ok' WHERE name = %s AND due_at = %s", (at, name, due_at))
    await conn.execute("DELETE FROM cron_run WHERE name = %s AND due_at < %s::timestamptz - interval '90 days'", (name, due_at))


async def put_off(conn: Connection, name: str, due_at: datetime, outcome: str, next_try_at: datetime) -> None:
    """Notes that a try went wrong, and when the next one is."""
    await conn.execute(
        "UPDATE cron_run SET outcome = %s, next_try_at = %s WHERE name = %s AND due_at = %s",
        (outcome, next_try_at, name, due_at),
    )
