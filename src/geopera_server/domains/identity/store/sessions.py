"""Sessions and the refresh tokens that prolong them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row


async def admit(
    conn: Connection,
    *,
    key_hash: bytes | None,
    session_id: str | None,
    requested_organization_id: str | None,
    rate_class: str | None,
    at: datetime,
) -> Row | None:
    """Who a credential stands for, counted under the rate class if one is given; None when it is not good."""
    cursor = await conn.execute(
        "SELECT * FROM admit(%s, %s, %s, %s, %s)", (key_hash, session_id, requested_organization_id, rate_class, at)
    )
    return await cursor.fetchone()


async def count_call(conn: Connection, bucket: str, at: datetime) -> Row:
    """Counts a call whose credential is known already, and says whether anything was taken from anybody since."""
    cursor = await conn.execute(
        "INSERT INTO rate_window AS w VALUES (%s, date_trunc('minute', %s::timestamptz), 1)"
        " ON CONFLICT (bucket, window_start) DO UPDATE SET used = w.used + 1"
        " RETURNING w.used, (SELECT epoch FROM credential_epoch) AS epoch",
        (bucket, at),
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def insert_session(conn: Connection, row: dict[str, Any]) -> Row:
    """Opens a session."""
    cursor = await conn.execute(
        "INSERT INTO auth_session (id, user_id, api_key_id, organization_id, client_id, scopes, resource, ip, user_agent,"
        " created_at, last_used_at) VALUES (%(id)s, %(user_id)s, %(api_key_id)s, %(organization_id)s, %(client_id)s,"
        " %(scopes)s, %(resource)s, %(ip)s, %(user_agent)s, %(at)s, %(at)s) RETURNING *",
        row,
    )
    made = await cursor.fetchone()
    assert made is not None
    return made


async def session_of(conn: Connection, session_id: str) -> Row | None:
    """The session of that id, ended or not."""
    cursor = await conn.execute("SELECT * FROM auth_session WHERE id = %s", (session_id,))
    return await cursor.fetchone()


async def end_session(conn: Connection, session_id: str, *, reason: str, at: datetime) -> None:
    """Ends a session for good; the first reason stays."""
    await conn.execute(
        "UPDATE auth_session SET ended_at = %s, ended_reason = %s WHERE id = %s AND ended_at IS NULL", (at, reason, session_id)
    )


async def insert_refresh_token(
    conn: Connection, token_hash: bytes, session_id: str, *, parent_hash: bytes | None, at: datetime, expires_at: datetime
) -> None:
    """Adds a refresh token to a session's family."""
    await conn.execute(
        "INSERT INTO refresh_token (token_hash, session_id, parent_hash, created_at, expires_at) VALUES (%s, %s, %s, %s, %s)",
        (token_hash, session_id, parent_hash, at, expires_at),
    )


async def lock_refresh_token(conn: Connection, token_hash: bytes) -> Row | None:
    """The token and its session; users of the same token take turns from here on."""
    cursor = await conn.execute(
        "SELECT t.*, s.client_id, s.ended_at FROM refresh_token t JOIN auth_session s ON s.id = t.session_id"
        " WHERE t.token_hash = %s FOR UPDATE OF t",
        (token_hash,),
    )
    return await cursor.fetchone()


async def refresh_token_of(conn: Connection, token_hash: bytes) -> Row | None:
    """The token with its session's client."""
    cursor = await conn.execute(
        "SELECT t.*, s.client_id, s.ended_at FROM refresh_token t JOIN auth_session s ON s.id = t.session_id"
        " WHERE t.token_hash = %s",
        (token_hash,),
    )
    return await cursor.fetchone()


async def successor_of(conn: Connection, token_hash: bytes) -> Row | None:
    """The token that took this one's place."""
    cursor = await conn.execute("SELECT * FROM refresh_token WHERE parent_hash = %s", (token_hash,))
    return await cursor.fetchone()


async def mark_used(conn: Connection, token_hash: bytes, at: datetime) -> None:
    """Notes when a refresh token was exchanged."""
    await conn.execute("UPDATE refresh_token SET used_at = %s WHERE token_hash = %s", (at, token_hash))


async def forget_dead_sessions(conn: Connection, *, before: datetime) -> None:
    """Removes refresh tokens that expired before then, and sessions that nothing can prolong or is left of."""
    await conn.execute("DELETE FROM refresh_token WHERE expires_at < %s", (before,))
    await conn.execute(
        "DELETE FROM auth_session s WHERE s.last_used_at < %(before)s AND s.created_at < %(before)s"
        " AND NOT EXISTS (SELECT 1 FROM refresh_token t WHERE t.session_id = s.id)",
        {"before": before},
    )
