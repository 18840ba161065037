"""API keys: only a keyed digest of the secret is kept."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row


async def insert_key(conn: Connection, row: dict[str, Any]) -> Row:
    """Adds a key."""
    cursor = await conn.execute(
        "INSERT INTO api_key (id, organization_id, name, prefix, secret_hash, permissions, rate_limit, created_by,"
        " created_at, expires_at) VALUES (%(id)s, %(organization_id)s, %(name)s, %(prefix)s, %(secret_hash)s,"
        " %(permissions)s, %(rate_limit)s, %(created_by)s, %(at)s, %(expires_at)s) RETURNING *",
        row,
    )
    made = await cursor.fetchone()
    assert made is not None
    return made


async def keys_of(conn: Connection, organization_id: str, *, ended_after: datetime) -> list[Row]:
    """The organization's keys, newest first, without those whose end is longer ago."""
    cursor = await conn.execute(
        "SELECT * FROM api_key WHERE organization_id = %s AND coalesce(least(revoked_at, expires_at), 'infinity') > %s"
        " ORDER BY created_at DESC, id DESC",
        (organization_id, ended_after),
    )
    return await cursor.fetchall()


async def key_of(conn: Connection, organization_id: str, key_id: str) -> Row | None:
    """One key of the organization."""
    cursor = await conn.execute("SELECT * FROM api_key WHERE organization_id = %s AND id = %s", (organization_id, key_id))
    return await cursor.fetchone()


async def live_key_with(conn: Connection, secret_hash: bytes, at: datetime) -> Row | None:
    """The key of that secret, if it is neither revoked nor expired."""
    cursor = await conn.execute(
        "SELECT * FROM api_key WHERE secret_hash = %s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > %s)",
        (secret_hash, at),
    )
    return await cursor.fetchone()


async def live_key_count(conn: Connection, organization_id: str, at: datetime) -> int:
    """How many keys of the organization work; makers of keys take turns until the transaction ends."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('api_key:' || %s, 0))", (organization_id,))
    cursor = await conn.execute(
        "SELECT count(*) AS live FROM api_key WHERE organization_id = %s AND revoked_at IS NULL"
        " AND (expires_at IS NULL OR expires_at > %s)",
        (organization_id, at),
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row["live"])


async def revoke_key(conn: Connection, organization_id: str, key_id: str, at: datetime) -> Row | None:
    """Ends a key with its sessions and returns it as it was before; None when the organization has no such key."""
    cursor = await conn.execute(
        "WITH before AS (SELECT * FROM api_key WHERE organization_id = %(organization)s AND id = %(key)s FOR UPDATE),"
        " revoked AS (UPDATE api_key k SET revoked_at = %(at)s FROM before b WHERE k.id = b.id AND b.revoked_at IS NULL),"
        " ended AS (UPDATE auth_session s SET ended_at = %(at)s, ended_reason = 'key_revoked' FROM before b"
        " WHERE s.api_key_id = b.id AND s.ended_at IS NULL)"
        " SELECT * FROM before",
        {"organization": organization_id, "key": key_id, "at": at},
    )
    return await cursor.fetchone()
