"""Projects that go, their members, what runs in them, and what is counted about them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row

_MEMBER = (
    "SELECT m.id, m.project_id, m.user_id, m.role, u.email, u.display_name, m.added_by, m.created_at, m.updated_at"
    " FROM project_member m JOIN app_user u ON u.id = m.user_id"
)


async def lock_to_delete(conn: Connection, organization_id: str, project_id: str) -> Row | None:
    """The live project; nobody changes it or puts anything into it before the transaction ends."""
    cursor = await conn.execute(
        "SELECT * FROM project WHERE organization_id = %s AND id = %s AND deleted_at IS NULL FOR UPDATE",
        (organization_id, project_id),
    )
    return await cursor.fetchone()


async def lock_members(conn: Connection, organization_id: str, project_id: str) -> bool:
    """Makes changes to the members of a live project take turns until the transaction ends; False when it is gone."""
    cursor = await conn.execute(
        "SELECT 1 FROM project WHERE organization_id = %s AND id = %s AND deleted_at IS NULL FOR NO KEY UPDATE",
        (organization_id, project_id),
    )
    return await cursor.fetchone() is not None


# Work is about an order, an upload, an item or an asset, or names the items that it reads. What clears up afterwards hinders
# nobody.
_WORK = (
    "SELECT count(*) AS jobs FROM job j WHERE j.organization_id = %(organization)s AND j.state IN ('queued', 'running')"
    " AND NOT j.kind LIKE '%%.erase' AND (j.entity_id = %(project)s"
    " OR EXISTS (SELECT FROM orders o WHERE o.id = j.entity_id AND o.project_id = %(project)s)"
    " OR EXISTS (SELECT FROM upload u WHERE u.id = j.entity_id AND u.project_id = %(project)s)"
    " OR EXISTS (SELECT FROM item i WHERE i.id = j.entity_id AND i.project_id = %(project)s)"
    " OR EXISTS (SELECT FROM asset a WHERE a.id = j.entity_id AND a.project_id = %(project)s)"
    " OR EXISTS (SELECT FROM jsonb_array_elements_text(CASE jsonb_typeof(j.payload -> 'item_ids') WHEN 'array'"
    "  THEN j.payload -> 'item_ids' ELSE '[]' END) AS read (id) JOIN item i ON i.id::text = read.id"
    "  WHERE i.project_id = %(project)s))"
)


async def open_jobs(conn: Connection, organization_id: str, project_id: str) -> int:
    """How many pieces of background work wait or run for a project or read its items."""
    row = await (await conn.execute(_WORK, {"organization": organization_id, "project": project_id})).fetchone()
    assert row is not None
    return int(row["jobs"])


async def has_undelivered_orders(conn: Connection, organization_id: str, project_id: str) -> bool:
    """Whether an order in the project may still deliver something."""
    cursor = await conn.execute(
        "SELECT 1 FROM orders WHERE organization_id = %s AND project_id = %s"
        " AND status IN ('created', 'processing', 'fulfilling', 'placement_failed') LIMIT 1",
        (organization_id, project_id),
    )
    return await cursor.fetchone() is not None


async def remove_members(conn: Connection, project_id: str) -> None:
    """Ends every membership in a project."""
    await conn.execute("DELETE FROM project_member WHERE project_id = %s", (project_id,))


async def mark_deleted(conn: Connection, organization_id: str, project_id: str, at: datetime) -> Row:
    """Leaves of a project the row that its orders and its history hang on."""
    cursor = await conn.execute(
        "UPDATE project SET deleted_at = %(at)s, updated_at = %(at)s WHERE organization_id = %(organization)s"
        " AND id = %(project)s RETURNING *",
        {"at": at, "organization": organization_id, "project": project_id},
    )
    return await _the_row(cursor)


async def members(conn: Connection, project_id: str) -> list[Row]:
    """The members of a project, first added first."""
    cursor = await conn.execute(_MEMBER + " WHERE m.project_id = %s ORDER BY m.created_at, m.id", (project_id,))
    return await cursor.fetchall()


async def member(conn: Connection, project_id: str, user_id: str) -> Row | None:
    """One membership."""
    cursor = await conn.execute(_MEMBER + " WHERE m.project_id = %s AND m.user_id = %s", (project_id, user_id))
    return await cursor.fetchone()


async def owner(conn: Connection, organization_id: str, project_id: str) -> Row | None:
    """The owner of a project, and whether they still belong to its organization."""
    cursor = await conn.execute(
        "SELECT m.user_id, EXISTS (SELECT FROM membership o WHERE o.organization_id = %s AND o.user_id = m.user_id) AS belongs"
        " FROM project_member m WHERE m.project_id = %s AND m.role = 'owner'",
        (organization_id, project_id),
    )
    return await cursor.fetchone()


async def keep_belonging(conn: Connection, organization_id: str, user_id: str) -> bool:
    """Whether a human belongs to the organization; nobody ends that before the transaction ends."""
    cursor = await conn.execute(
        "SELECT 1 FROM membership WHERE organization_id = %s AND user_id = %s FOR KEY SHARE", (organization_id, user_id)
    )
    return await cursor.fetchone() is not None


async def insert_member(conn: Connection, row: Mapping[str, Any]) -> None:
    """Adds a member."""
    await conn.execute(
        "INSERT INTO project_member (id, project_id, user_id, role, added_by, created_at, updated_at)"
        " VALUES (%(id)s, %(project_id)s, %(user_id)s, %(role)s, %(added_by)s, %(at)s, %(at)s)",
        row,
    )


async def set_role(conn: Connection, project_id: str, user_id: str, role: str, at: datetime) -> None:
    """Gives a member another role."""
    await conn.execute(
        "UPDATE project_member SET role = %s, updated_at = %s WHERE project_id = %s AND user_id = %s",
        (role, at, project_id, user_id),
    )


async def delete_member(conn: Connection, project_id: str, user_id: str) -> None:
    """Ends a membership."""
    await conn.execute("DELETE FROM project_member WHERE project_id = %s AND user_id = %s", (project_id, user_id))


async def inherited(conn: Connection, organization_id: str) -> list[Row]:
    """Those whose role in the organization lets them administer every project of it, first joined first."""
    cursor = await conn.execute(
        "SELECT user_id, role AS organization_role FROM membership WHERE organization_id = %s AND role IN ('owner', 'admin')"
        " ORDER BY created_at, user_id",
        (organization_id,),
    )
    return await cursor.fetchall()


async def _the_row(cursor: Any) -> Row:
    row: Row | None = await cursor.fetchone()
    assert row is not None
    return row
