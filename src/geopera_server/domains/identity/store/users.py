"""Humans, and how often somebody guessed at their passwords."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row


async def insert_user(conn: Connection, row: dict[str, Any]) -> Row:
    """Adds a human."""
    cursor = await conn.execute(
        "INSERT INTO app_user (id, email, username, display_name, password_hash, operator, created_at, updated_at)"
        " VALUES (%(id)s, %(email)s, %(username)s, %(display_name)s, %(password_hash)s, %(operator)s, %(at)s, %(at)s)"
        " RETURNING *",
        row,
    )
    made = await cursor.fetchone()
    assert made is not None
    return made


async def user_of(conn: Connection, user_id: str) -> Row | None:
    """The human of that id."""
    cursor = await conn.execute("SELECT * FROM app_user WHERE id = %s", (user_id,))
    return await cursor.fetchone()


async def user_named(conn: Connection, login: str) -> Row | None:
    """The human whose mail address or user name this is, in whatever case; the address wins."""
    cursor = await conn.execute(
        "SELECT *, lower(email) = lower(%(login)s) AS by_email FROM app_user"
        " WHERE lower(email) = lower(%(login)s) OR lower(username) = lower(%(login)s) ORDER BY by_email DESC LIMIT 1",
        {"login": login},
    )
    return await cursor.fetchone()


async def count_guess(conn: Connection, subject: bytes, *, at: datetime, forgotten_before: datetime) -> int | None:
    """Counts one more try before it is checked and returns how many there were in a row; None while locked."""
    cursor = await conn.execute(
        "INSERT INTO signin_failure AS f (subject, failures, last_at) VALUES (%(subject)s, 1, %(at)s)"
        " ON CONFLICT (subject) DO UPDATE SET last_at = %(at)s, locked_until = NULL,"
        " failures = CASE WHEN f.last_at < %(forgotten_before)s THEN 1 ELSE f.failures + 1 END"
        " WHERE f.locked_until IS NULL OR f.locked_until <= %(at)s RETURNING failures",
        {"subject": subject, "at": at, "forgotten_before": forgotten_before},
    )
    row = await cursor.fetchone()
    return None if row is None else int(row["failures"])


async def lock_until(conn: Connection, subject: bytes, until: datetime) -> None:
    """Refuses further tries for a while."""
    await conn.execute("UPDATE signin_failure SET locked_until = %s WHERE subject = %s", (until, subject))


async def locked_until(conn: Connection, subject: bytes) -> datetime | None:
    """When tries are taken again."""
    cursor = await conn.execute("SELECT locked_until FROM signin_failure WHERE subject = %s", (subject,))
    row = await cursor.fetchone()
    return None if row is None else row["locked_until"]


async def forget_guesses(conn: Connection, subject: bytes) -> None:
    """Starts the count anew, after a right password."""
    await conn.execute("DELETE FROM signin_failure WHERE subject = %s", (subject,))
