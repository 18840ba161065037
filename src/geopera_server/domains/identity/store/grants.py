"""OAuth clients, and the one-time codes on the way to a session."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row


async def insert_client(conn: Connection, row: dict[str, Any]) -> Row:
    """Adds a client."""
    cursor = await conn.execute(
        "INSERT INTO oauth_client (id, name, secret_hash, redirect_uris, grant_types, dynamic, created_at) VALUES (%(id)s,"
        " %(name)s, %(secret_hash)s, %(redirect_uris)s, %(grant_types)s, %(dynamic)s, %(at)s) RETURNING *",
        row,
    )
    made = await cursor.fetchone()
    assert made is not None
    return made


async def client_of(conn: Connection, client_id: str) -> Row | None:
    """The client of that id."""
    cursor = await conn.execute("SELECT * FROM oauth_client WHERE id = %s", (client_id,))
    return await cursor.fetchone()


async def insert_code(conn: Connection, row: dict[str, Any]) -> None:
    """Adds an authorization code."""
    await conn.execute(
        "INSERT INTO authorization_code (code_hash, client_id, redirect_uri, code_challenge, scopes, resource, user_id,"
        " organization_id, created_at, expires_at) VALUES (%(code_hash)s, %(client_id)s, %(redirect_uri)s,"
        " %(code_challenge)s, %(scopes)s, %(resource)s, %(user_id)s, %(organization_id)s, %(at)s, %(expires_at)s)",
        row,
    )


async def lock_code(conn: Connection, code_hash: bytes) -> Row | None:
    """The authorization code; whoever else has it waits."""
    cursor = await conn.execute("SELECT * FROM authorization_code WHERE code_hash = %s FOR UPDATE", (code_hash,))
    return await cursor.fetchone()


async def use_code(conn: Connection, code_hash: bytes, session_id: str, at: datetime) -> None:
    """Notes that a code was exchanged, and for which session."""
    await conn.execute(
        "UPDATE authorization_code SET used_at = %s, session_id = %s WHERE code_hash = %s", (at, session_id, code_hash)
    )


async def insert_device_grant(conn: Connection, row: dict[str, Any]) -> bool:
    """Adds a device's request; False when its user code is in use."""
    cursor = await conn.execute(
        "INSERT INTO device_grant (device_code_hash, user_code, client_id, scopes, code_challenge, interval_s, created_at,"
        " expires_at) VALUES (%(device_code_hash)s, %(user_code)s, %(client_id)s, %(scopes)s, %(code_challenge)s,"
        " %(interval_s)s, %(at)s, %(expires_at)s) ON CONFLICT (user_code) DO NOTHING",
        row,
    )
    return cursor.rowcount == 1


async def lock_device_grant(conn: Connection, device_code_hash: bytes) -> Row | None:
    """The device's request; a second poll waits for the first."""
    cursor = await conn.execute("SELECT * FROM device_grant WHERE device_code_hash = %s FOR UPDATE", (device_code_hash,))
    return await cursor.fetchone()


async def note_poll(conn: Connection, device_code_hash: bytes, *, interval_s: int, at: datetime) -> None:
    """Notes when the device last asked and how long it must wait until it asks again."""
    await conn.execute(
        "UPDATE device_grant SET last_polled_at = %s, interval_s = %s WHERE device_code_hash = %s",
        (at, interval_s, device_code_hash),
    )


async def redeem_device_grant(conn: Connection, device_code_hash: bytes) -> None:
    """Ends a device's request that has had its tokens."""
    await conn.execute("UPDATE device_grant SET status = 'redeemed' WHERE device_code_hash = %s", (device_code_hash,))


async def waiting_device_grant(conn: Connection, user_code: str, at: datetime) -> Row | None:
    """The undecided request behind a user code, with the client's name."""
    cursor = await conn.execute(
        "SELECT g.*, c.name AS client_name FROM device_grant g JOIN oauth_client c ON c.id = g.client_id"
        " WHERE g.user_code = %s AND g.status = 'pending' AND g.expires_at > %s",
        (user_code, at),
    )
    return await cursor.fetchone()


async def decide_device_grant(
    conn: Connection, user_code: str, *, status: str, user_id: str, organization_id: str | None, at: datetime
) -> bool:
    """Approves or denies an undecided request; False when it is no longer undecided."""
    cursor = await conn.execute(
        "UPDATE device_grant SET status = %s, user_id = %s, organization_id = %s"
        " WHERE user_code = %s AND status = 'pending' AND expires_at > %s",
        (status, user_id, organization_id, user_code, at),
    )
    return cursor.rowcount == 1


async def forget_dead_grants(conn: Connection, *, before: datetime) -> None:
    """Removes codes and device requests that expired before then, and dynamic clients that nobody used."""
    await conn.execute("DELETE FROM authorization_code WHERE expires_at < %s", (before,))
    await conn.execute("DELETE FROM device_grant WHERE expires_at < %s", (before,))
    await conn.execute(
        "DELETE FROM oauth_client c WHERE c.dynamic AND c.created_at < %(before)s AND c.last_used_at IS NULL",
        {"before": before},
    )


async def note_client_used(conn: Connection, client_id: str, at: datetime) -> None:
    """Notes that somebody signed in through the client."""
    await conn.execute("UPDATE oauth_client SET last_used_at = %s WHERE id = %s", (at, client_id))
