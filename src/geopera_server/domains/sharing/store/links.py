"""The rows of share links, for those who make and look after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row

_COLUMNS = (
    "l.id, l.organization_id, l.project_id, l.target_type, l.target_id, l.permission, l.token_prefix, l.created_by,"
    " l.created_at, l.expires_at, l.revoked_at, coalesce(u.access_count, 0) AS access_count, u.last_accessed_at,"
    " coalesce(u.tile_requests, 0) AS tile_requests, coalesce(u.egress_bytes, 0) AS egress_bytes"
)
_FROM = " FROM share_link l LEFT JOIN share_use u ON u.link_id = l.id"


async def insert_link(conn: Connection, row: Mapping[str, Any]) -> None:
    """Adds a link with its counters."""
    await conn.execute(
        "INSERT INTO share_link (id, organization_id, project_id, target_type, target_id, permission, token_hash,"
        " token_prefix, password_hash, created_by, created_at, expires_at) VALUES (%(id)s, %(organization_id)s,"
        " %(project_id)s, %(target_type)s, %(target_id)s, %(permission)s, %(token_hash)s, %(token_prefix)s,"
        " %(password_hash)s, %(created_by)s, %(created_at)s, %(expires_at)s)",
        row,
    )
    await conn.execute("INSERT INTO share_use (link_id) VALUES (%s)", (row["id"],))


async def live_link_count(conn: Connection, organization_id: str, at: datetime) -> int:
    """How many links of the organization work; makers of links take turns until the transaction ends."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('share_link:' || %s, 0))", (organization_id,))
    cursor = await conn.execute(
        "SELECT count(*) AS live FROM share_link WHERE organization_id = %s AND revoked_at IS NULL AND expires_at > %s",
        (organization_id, at),
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row["live"])


async def link_of(conn: Connection, link_id: str, *, organization_id: str | None, everywhere: bool) -> Row | None:
    """A link of a project that is there, if it is the organization's or `everywhere` is asked."""
    cursor = await conn.execute(
        "SELECT " + _COLUMNS + _FROM + " JOIN project p ON p.id = l.project_id AND p.deleted_at IS NULL"
        " WHERE l.id = %(link)s AND (l.organization_id = %(organization)s OR %(everywhere)s)",
        {"link": link_id, "organization": organization_id, "everywhere": everywhere},
    )
    return await cursor.fetchone()


async def link_state_of(conn: Connection, organization_id: str, link_id: str) -> Row | None:
    """A link of the organization, whatever became of its project."""
    cursor = await conn.execute(
        "SELECT " + _COLUMNS + _FROM + " WHERE l.organization_id = %s AND l.id = %s", (organization_id, link_id)
    )
    return await cursor.fetchone()


_WANTED = (
    " JOIN project p ON p.id = l.project_id AND p.deleted_at IS NULL"
    " WHERE (l.organization_id = %(organization)s OR %(everywhere)s)"
    " AND (%(project)s::uuid IS NULL OR l.project_id = %(project)s)"
    " AND (%(target_type)s::text IS NULL OR l.target_type = %(target_type)s)"
    " AND (%(target)s::uuid IS NULL OR l.target_id = %(target)s)"
    " AND (%(status)s::text IS NULL OR %(status)s = CASE WHEN l.revoked_at IS NOT NULL THEN 'revoked'"
    "  WHEN l.expires_at <= %(at)s THEN 'expired' ELSE 'active' END)"
)


async def links_page(conn: Connection, wanted: Mapping[str, Any], *, limit: int, offset: int) -> list[Row]:
    """One page of links, newest first."""
    cursor = await conn.execute(
        "SELECT " + _COLUMNS + _FROM + _WANTED + " ORDER BY l.created_at DESC, l.id DESC LIMIT %(limit)s OFFSET %(offset)s",
        {**wanted, "limit": limit, "offset": offset},
    )
    return await cursor.fetchall()


async def links_total(conn: Connection, wanted: Mapping[str, Any]) -> int:
    """How many links all pages together hold."""
    cursor = await conn.execute("SELECT count(*) AS total" + _FROM + _WANTED, wanted)
    row = await cursor.fetchone()
    assert row is not None
    return int(row["total"])


async def lock_link(conn: Connection, organization_id: str, link_id: str) -> Row | None:
    """A link, which nobody else ends before the transaction does."""
    cursor = await conn.execute(
        "SELECT " + _COLUMNS + _FROM + " WHERE l.organization_id = %s AND l.id = %s FOR UPDATE OF l",
        (organization_id, link_id),
    )
    return await cursor.fetchone()


async def lock_live_links(conn: Connection, target_type: str, target_ids: Sequence[str], at: datetime) -> list[Row]:
    """The links of targets that work, which nobody else ends before the transaction does."""
    cursor = await conn.execute(
        "SELECT " + _COLUMNS + _FROM + " WHERE l.target_type = %s AND l.target_id = ANY(%s::uuid[])"
        " AND l.revoked_at IS NULL AND l.expires_at > %s ORDER BY l.id FOR UPDATE OF l",
        (target_type, list(target_ids), at),
    )
    return await cursor.fetchall()


async def lock_links_of_project(conn: Connection, project_id: str) -> list[Row]:
    """All links of a project, which nobody else ends before the transaction does."""
    cursor = await conn.execute(
        "SELECT " + _COLUMNS + _FROM + " WHERE l.project_id = %s ORDER BY l.id FOR UPDATE OF l", (project_id,)
    )
    return await cursor.fetchall()


async def revoke_links(conn: Connection, link_ids: Sequence[str], at: datetime) -> None:
    """Ends links for good."""
    await conn.execute(
        "UPDATE share_link SET revoked_at = %s WHERE id = ANY(%s::uuid[]) AND revoked_at IS NULL", (at, list(link_ids))
    )


async def delete_links(conn: Connection, link_ids: Sequence[str]) -> None:
    """Removes links with all that was counted of them."""
    await conn.execute("DELETE FROM share_link WHERE id = ANY(%s::uuid[])", (list(link_ids),))


async def accesses_of(conn: Connection, link_id: str, limit: int) -> list[Row]:
    """The last accesses of a link, newest first."""
    cursor = await conn.execute(
        "SELECT at, ip_prefix, kind FROM share_access WHERE link_id = %s ORDER BY id DESC LIMIT %s", (link_id, limit)
    )
    return await cursor.fetchall()


async def item_to_share(conn: Connection, item_id: str, *, organization_id: str | None, everywhere: bool) -> Row | None:
    """A live item, which nobody deletes before the transaction ends."""
    cursor = await conn.execute(
        "SELECT i.id, i.organization_id, i.project_id, i.lifecycle_state, i.expires_at FROM item i"
        " JOIN project p ON p.id = i.project_id AND p.deleted_at IS NULL"
        " WHERE i.id = %(id)s AND i.deleted_at IS NULL AND (i.organization_id = %(organization)s OR %(everywhere)s)"
        " FOR SHARE OF i",
        {"id": item_id, "organization": organization_id, "everywhere": everywhere},
    )
    return await cursor.fetchone()


async def collection_to_share(
    conn: Connection, collection_id: str, *, organization_id: str | None, everywhere: bool
) -> Row | None:
    """A live collection, which nobody deletes before the transaction ends."""
    cursor = await conn.execute(
        "SELECT c.id, c.organization_id, c.project_id, NULL AS lifecycle_state, NULL AS expires_at FROM collection c"
        " JOIN project p ON p.id = c.project_id AND p.deleted_at IS NULL"
        " WHERE c.id = %(id)s AND c.deleted_at IS NULL AND (c.organization_id = %(organization)s OR %(everywhere)s)"
        " FOR SHARE OF c",
        {"id": collection_id, "organization": organization_id, "everywhere": everywhere},
    )
    return await cursor.fetchone()
