"""Projects and their members."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row


async def insert_project(conn: Connection, row: dict[str, Any]) -> Row:
    """Adds a project."""
    cursor = await conn.execute(
        "INSERT INTO project (id, organization_id, name, description, region, storage_prefix, created_at, updated_at)"
        " VALUES (%(id)s, %(organization_id)s, %(name)s, %(description)s, %(region)s, %(storage_prefix)s, %(at)s, %(at)s)"
        " RETURNING *",
        row,
    )
    made = await cursor.fetchone()
    assert made is not None
    return made


async def set_owner(conn: Connection, project_id: str, user_id: str, at: datetime) -> None:
    """Gives a new project its owner."""
    await conn.execute(
        "INSERT INTO project_member (project_id, user_id, role, added_by, created_at, updated_at)"
        " VALUES (%(project)s, %(user)s, 'owner', %(user)s, %(at)s, %(at)s)",
        {"project": project_id, "user": user_id, "at": at},
    )


_WITH_ROLE = (
    "SELECT p.id, p.organization_id, p.is_archived, m.role FROM project p"
    " LEFT JOIN project_member m ON m.project_id = p.id AND m.user_id = %(user)s"
    " WHERE p.id = %(project)s AND p.deleted_at IS NULL AND (p.organization_id = %(organization)s OR %(everywhere)s)"
)


async def project_and_role(
    conn: Connection, project_id: str, *, organization_id: str | None, user_id: str | None, everywhere: bool, keep: bool
) -> Row | None:
    """The live project with the role a human has in it, if it is the organization's or `everywhere` is asked.

    With `keep` it stays as it is, and so unarchived, until the transaction ends.
    """
    values = {"project": project_id, "organization": organization_id, "user": user_id, "everywhere": everywhere}
    if keep:
        return await (await conn.execute(_WITH_ROLE + " FOR SHARE OF p", values)).fetchone()
    return await (await conn.execute(_WITH_ROLE, values)).fetchone()


async def lock_project(conn: Connection, organization_id: str, project_id: str) -> Row | None:
    """The live project, kept from other changes until the transaction ends."""
    cursor = await conn.execute(
        "SELECT * FROM project WHERE organization_id = %s AND id = %s AND deleted_at IS NULL FOR NO KEY UPDATE",
        (organization_id, project_id),
    )
    return await cursor.fetchone()


async def project_of(conn: Connection, organization_id: str, project_id: str) -> Row | None:
    """The project's row, a deleted one included."""
    cursor = await conn.execute("SELECT * FROM project WHERE organization_id = %s AND id = %s", (organization_id, project_id))
    return await cursor.fetchone()


async def update_project(conn: Connection, organization_id: str, project_id: str, row: dict[str, Any]) -> Row:
    """Writes name, description and whether the project is archived."""
    cursor = await conn.execute(
        "UPDATE project SET name = %(name)s, description = %(description)s, is_archived = %(is_archived)s,"
        " updated_at = %(at)s WHERE organization_id = %(organization)s AND id = %(project)s RETURNING *",
        {**row, "organization": organization_id, "project": project_id},
    )
    changed = await cursor.fetchone()
    assert changed is not None
    return changed


async def name_is_taken(conn: Connection, organization_id: str, name: str, *, besides: str | None = None) -> bool:
    """Whether another live project of the organization has the name, in whatever case."""
    cursor = await conn.execute(
        "SELECT 1 FROM project WHERE organization_id = %s AND lower(name) = lower(%s) AND deleted_at IS NULL"
        " AND id IS DISTINCT FROM %s::uuid",
        (organization_id, name, besides),
    )
    return await cursor.fetchone() is not None


async def live_project_count(conn: Connection, organization_id: str) -> int:
    """How many projects the organization has; makers of projects take turns until the transaction ends."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('project:' || %s, 0))", (organization_id,))
    cursor = await conn.execute(
        "SELECT count(*) AS live FROM project WHERE organization_id = %s AND deleted_at IS NULL", (organization_id,)
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row["live"])


async def has_open_tasking(conn: Connection, organization_id: str, project_id: str) -> bool:
    """Whether a tasking order in the project still waits for something."""
    cursor = await conn.execute(
        "SELECT 1 FROM orders WHERE organization_id = %s AND project_id = %s AND type = 'tasking'"
        " AND status IN ('created', 'processing', 'placement_failed', 'fulfilling') LIMIT 1",
        (organization_id, project_id),
    )
    return await cursor.fetchone() is not None


async def projects_page(
    conn: Connection,
    organization_id: str,
    *,
    user_id: str | None,
    is_archived: bool | None,
    search: str | None,
    limit: int,
    offset: int,
) -> list[Row]:
    """One page of the organization's projects, newest first, counted and with the human's role in each."""
    cursor = await conn.execute(
        "SELECT p.*, m.role,"
        " (SELECT count(*) FROM project_member x WHERE x.project_id = p.id) AS member_count,"
        " (SELECT count(*) FROM item i WHERE i.project_id = p.id AND i.deleted_at IS NULL) AS item_count,"
        " (SELECT coalesce(sum(a.file_size_bytes), 0)::bigint FROM item i JOIN asset a ON a.item_id = i.id"
        "  WHERE i.project_id = p.id AND i.deleted_at IS NULL AND a.deleted_at IS NULL AND a.expired_at IS NULL"
        "  AND NOT a.external) AS storage_bytes"
        " FROM (SELECT * FROM project WHERE organization_id = %(organization)s AND deleted_at IS NULL"
        "  AND (%(archived)s::boolean IS NULL OR is_archived = %(archived)s)"
        "  AND (%(search)s::text IS NULL OR strpos(lower(name), lower(%(search)s)) > 0"
        "   OR strpos(lower(coalesce(description, '')), lower(%(search)s)) > 0)"
        "  ORDER BY created_at DESC, id DESC LIMIT %(limit)s OFFSET %(offset)s) p"
        " LEFT JOIN project_member m ON m.project_id = p.id AND m.user_id = %(user)s"
        " ORDER BY p.created_at DESC, p.id DESC",
        {
            "organization": organization_id, "user": user_id, "archived": is_archived, "search": search,
            "limit": limit, "offset": offset,
        },
    )  # fmt: skip
    return await cursor.fetchall()


async def projects_total(conn: Connection, organization_id: str, *, is_archived: bool | None, search: str | None) -> int:
    """How many projects all pages together hold."""
    cursor = await conn.execute(
        "SELECT count(*) AS total FROM project WHERE organization_id = %(organization)s AND deleted_at IS NULL"
        " AND (%(archived)s::boolean IS NULL OR is_archived = %(archived)s)"
        " AND (%(search)s::text IS NULL OR strpos(lower(name), lower(%(search)s)) > 0"
        "  OR strpos(lower(coalesce(description, '')), lower(%(search)s)) > 0)",
        {"organization": organization_id, "archived": is_archived, "search": search},
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row["total"])


async def project_in_full(conn: Connection, organization_id: str, project_id: str, *, user_id: str | None) -> Row | None:
    """One live project with everything that is counted about it and the human's role in it."""
    cursor = await conn.execute(
        "SELECT p.*, m.role,"
        " (SELECT count(*) FROM project_member x WHERE x.project_id = p.id) AS member_count,"
        " (SELECT count(*) FROM item i WHERE i.project_id = p.id AND i.deleted_at IS NULL) AS item_count,"
        " (SELECT coalesce(sum(a.file_size_bytes), 0)::bigint FROM item i JOIN asset a ON a.item_id = i.id"
        "  WHERE i.project_id = p.id AND i.deleted_at IS NULL AND a.deleted_at IS NULL AND a.expired_at IS NULL"
        "  AND NOT a.external) AS storage_bytes,"
        " (SELECT count(*) FROM collection c WHERE c.project_id = p.id AND c.deleted_at IS NULL) AS collection_count,"
        " (SELECT count(*) FROM orders o WHERE o.project_id = p.id"
        "  AND o.status NOT IN ('fulfilled', 'failed', 'cancelled')) AS open_orders"
        " FROM project p LEFT JOIN project_member m ON m.project_id = p.id AND m.user_id = %(user)s"
        " WHERE p.organization_id = %(organization)s AND p.id = %(project)s AND p.deleted_at IS NULL",
        {"organization": organization_id, "project": project_id, "user": user_id},
    )
    return await cursor.fetchone()
