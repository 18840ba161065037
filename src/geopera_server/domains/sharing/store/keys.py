"""The rows of tile keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row


async def insert_key(conn: Connection, row: Mapping[str, Any]) -> Row:
    """Adds a key."""
    cursor = await conn.execute(
        "INSERT INTO tile_key (id, organization_id, project_id, target_type, target_id, name, created_by, created_at,"
        " expires_at) VALUES (%(id)s, %(organization_id)s, %(project_id)s, %(target_type)s, %(target_id)s, %(name)s,"
        " %(created_by)s, %(created_at)s, %(expires_at)s) RETURNING *",
        row,
    )
    made = await cursor.fetchone()
    assert made is not None
    return made


_WANTED = (
    " FROM tile_key k JOIN project p ON p.id = k.project_id AND p.deleted_at IS NULL"
    " WHERE k.organization_id = %(organization)s AND (%(project)s::uuid IS NULL OR k.project_id = %(project)s)"
    " AND (%(target)s::uuid IS NULL OR k.target_id = %(target)s)"
)


async def keys_page(conn: Connection, wanted: Mapping[str, Any], *, limit: int, offset: int) -> list[Row]:
    """One page of the organization's keys, newest first."""
    cursor = await conn.execute(
        "SELECT k.*" + _WANTED + " ORDER BY k.created_at DESC, k.id DESC LIMIT %(limit)s OFFSET %(offset)s",
        {**wanted, "limit": limit, "offset": offset},
    )
    return await cursor.fetchall()


async def keys_total(conn: Connection, wanted: Mapping[str, Any]) -> int:
    """How many keys all pages together hold."""
    cursor = await conn.execute("SELECT count(*) AS total" + _WANTED, wanted)
    row = await cursor.fetchone()
    assert row is not None
    return int(row["total"])


async def key_of(conn: Connection, organization_id: str | None, key_id: str) -> Row | None:
    """A key of the organization, of a project that is there."""
    cursor = await conn.execute(
        "SELECT k.* FROM tile_key k JOIN project p ON p.id = k.project_id AND p.deleted_at IS NULL"
        " WHERE k.organization_id = %s AND k.id = %s",
        (organization_id, key_id),
    )
    return await cursor.fetchone()


async def shown_key(conn: Connection, organization_id: str, key_id: str) -> Row | None:
    """A key that somebody shows, with what decides whether it opens anything."""
    cursor = await conn.execute(
        "SELECT k.*, o.standing, o.purge_started_at,"
        " p.id IS NOT NULL AND coalesce(i.id, c.id) IS NOT NULL AS target_lives"
        " FROM tile_key k JOIN organization o ON o.id = k.organization_id"
        " LEFT JOIN project p ON p.id = k.project_id AND p.deleted_at IS NULL"
        " LEFT JOIN item i ON k.target_type = 'item' AND i.id = k.target_id AND i.project_id = k.project_id"
        "  AND i.deleted_at IS NULL"
        " LEFT JOIN collection c ON k.target_type = 'collection' AND c.id = k.target_id AND c.project_id = k.project_id"
        "  AND c.deleted_at IS NULL"
        " WHERE k.organization_id = %s AND k.id = %s",
        (organization_id, key_id),
    )
    return await cursor.fetchone()


async def revoke_key(conn: Connection, organization_id: str, key_id: str, at: datetime) -> None:
    """Ends a key for good; one that has ended stays as it is."""
    await conn.execute(
        "UPDATE tile_key SET revoked_at = %s WHERE organization_id = %s AND id = %s AND revoked_at IS NULL",
        (at, organization_id, key_id),
    )


async def revoke_keys_of(conn: Connection, target_type: str, target_ids: Sequence[str], at: datetime) -> None:
    """Ends the keys of targets."""
    await conn.execute(
        "UPDATE tile_key SET revoked_at = %s WHERE target_type = %s AND target_id = ANY(%s::uuid[]) AND revoked_at IS NULL",
        (at, target_type, list(target_ids)),
    )


async def delete_keys_of_project(conn: Connection, project_id: str) -> None:
    """Removes the keys of a project."""
    await conn.execute("DELETE FROM tile_key WHERE project_id = %s", (project_id,))


async def live_key_count(conn: Connection, organization_id: str, at: datetime) -> int:
    """How many keys of the organization work; makers of keys take turns until the transaction ends."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('tile_key:' || %s, 0))", (organization_id,))
    cursor = await conn.execute(
        "SELECT count(*) AS live FROM tile_key WHERE organization_id = %s AND revoked_at IS NULL AND expires_at > %s",
        (organization_id, at),
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row["live"])
