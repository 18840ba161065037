"""The rows of upload sessions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from geopera_server.db.pool import Connection, Row


async def insert_upload(conn: Connection, row: Mapping[str, Any]) -> Row:
    """Begins a session."""
    cursor = await conn.execute(
        "INSERT INTO upload (id, organization_id, project_id, transfer_method, file_count, total_bytes, reserved_bytes,"
        " is_categorical, target_collection_id, target_item_id, asset_key, created_by, created_at, updated_at, expires_at)"
        " VALUES (%(id)s, %(organization_id)s, %(project_id)s, %(transfer_method)s, %(file_count)s, %(total_bytes)s,"
        " %(total_bytes)s, %(is_categorical)s, %(target_collection_id)s, %(target_item_id)s, %(asset_key)s, %(created_by)s,"
        " %(at)s, %(at)s, %(expires_at)s) RETURNING *",
        row,
    )
    made = await cursor.fetchone()
    assert made is not None
    return made


async def upload_of(conn: Connection, upload_id: str, *, organization_id: str | None, everywhere: bool) -> Row | None:
    """A session in a live project, if it is the organization's or `everywhere` is asked; with how these two stand."""
    cursor = await conn.execute(
        "SELECT u.*, p.is_archived AS project_is_archived, o.standing AS organization_standing FROM upload u"
        " JOIN project p ON p.id = u.project_id AND p.deleted_at IS NULL JOIN organization o ON o.id = u.organization_id"
        " WHERE u.id = %s AND (u.organization_id = %s OR %s)",
        (upload_id, organization_id, everywhere),
    )
    return await cursor.fetchone()


async def lock_upload(conn: Connection, organization_id: str, upload_id: str) -> Row | None:
    """A session, which nobody else changes before the transaction ends."""
    cursor = await conn.execute(
        "SELECT * FROM upload WHERE organization_id = %s AND id = %s FOR UPDATE", (organization_id, upload_id)
    )
    return await cursor.fetchone()


_OF_PROJECT = (
    " FROM upload WHERE organization_id = %(organization)s AND project_id = %(project)s"
    " AND (%(status)s::text IS NULL OR status = %(status)s)"
)


async def uploads_page(
    conn: Connection, organization_id: str, project_id: str, *, status: str | None, limit: int, offset: int
) -> list[Row]:
    """One page of a project's sessions, newest first."""
    cursor = await conn.execute(
        "SELECT *" + _OF_PROJECT + " ORDER BY created_at DESC, id LIMIT %(limit)s OFFSET %(offset)s",
        {"organization": organization_id, "project": project_id, "status": status, "limit": limit, "offset": offset},
    )
    return await cursor.fetchall()


async def uploads_total(conn: Connection, organization_id: str, project_id: str, *, status: str | None) -> int:
    """How many sessions all pages together hold."""
    cursor = await conn.execute(
        "SELECT count(*) AS total" + _OF_PROJECT, {"organization": organization_id, "project": project_id, "status": status}
    )
    row = await cursor.fetchone()
    return 0 if row is None else int(row["total"])


async def key_is_taken(conn: Connection, organization_id: str, item_id: str, key: str) -> bool:
    """Whether a live asset of the item has the key."""
    cursor = await conn.execute(
        "SELECT 1 FROM asset WHERE organization_id = %s AND item_id = %s AND key = %s AND deleted_at IS NULL",
        (organization_id, item_id, key),
    )
    return await cursor.fetchone() is not None


async def move_on(conn: Connection, upload: Mapping[str, Any], row: Mapping[str, Any]) -> Row:
    """Notes where an open session stands, and that something happened to it; bytes never go down."""
    cursor = await conn.execute(
        "UPDATE upload SET status = coalesce(%(status)s, status), bytes_uploaded = greatest(bytes_uploaded, %(bytes)s),"
        " error_message = %(error_message)s, error_step = %(error_step)s,"
        " detected_metadata = coalesce(%(detected)s, detected_metadata), updated_at = %(at)s, expires_at = %(expires_at)s"
        " WHERE organization_id = %(organization_id)s AND id = %(id)s AND status NOT IN ('completed', 'failed') RETURNING *",
        {
            "status": None, "bytes": 0, "error_message": upload["error_message"], "error_step": upload["error_step"],
            "detected": None, "organization_id": upload["organization_id"], "id": upload["id"], **row,
        },
    )  # fmt: skip
    moved = await cursor.fetchone()
    assert moved is not None, "the caller has locked an open session"
    return moved


async def set_reserved(conn: Connection, organization_id: str, upload_id: str, reserved_bytes: int) -> None:
    """Makes an open session hold so many bytes; the organization's total follows."""
    await conn.execute(
        "UPDATE upload SET reserved_bytes = %s WHERE organization_id = %s AND id = %s",
        (reserved_bytes, organization_id, upload_id),
    )


async def fail(conn: Connection, organization_id: str, upload_id: str, *, message: str, step: str | None, at: datetime) -> Row:
    """Ends an open session without an item and gives back what it holds."""
    cursor = await conn.execute(
        "UPDATE upload SET status = 'failed', reserved_bytes = 0, error_message = %s, error_step = %s, updated_at = %s"
        " WHERE organization_id = %s AND id = %s RETURNING *",
        (message, step, at, organization_id, upload_id),
    )
    row = await cursor.fetchone()
    assert row is not None, "the caller has locked the session"
    return row


async def complete(conn: Connection, row: Mapping[str, Any]) -> Row:
    """Ends an open session with its item and gives back what it holds."""
    cursor = await conn.execute(
        "UPDATE upload SET status = 'completed', reserved_bytes = 0, item_id = %(item_id)s, asset_key = %(asset_key)s,"
        " checksum_crc32c = %(crc32c)s, user_metadata = %(user_metadata)s, detected_metadata = %(detected)s,"
        " bytes_uploaded = greatest(bytes_uploaded, %(bytes)s), error_message = NULL, error_step = NULL,"
        " updated_at = %(at)s, completed_at = %(at)s"
        " WHERE organization_id = %(organization_id)s AND id = %(id)s RETURNING *",
        row,
    )
    made = await cursor.fetchone()
    assert made is not None, "the caller has locked the session"
    return made


async def note_processing(
    conn: Connection,
    organization_id: str,
    upload_id: str,
    *,
    state: str,
    at: datetime,
    error_message: str | None = None,
    error_step: str | None = None,
) -> Row | None:
    """Notes how far the work on a completed session's item has come."""
    cursor = await conn.execute(
        "UPDATE upload SET detected_metadata = coalesce(detected_metadata, '{}') || %s, error_message = %s, error_step = %s,"
        " updated_at = %s WHERE organization_id = %s AND id = %s AND status = 'completed' RETURNING *",
        (Jsonb({"processing": state}), error_message, error_step, at, organization_id, upload_id),
    )
    return await cursor.fetchone()


async def idle_uploads(conn: Connection, at: datetime, *, limit: int) -> list[Row]:
    """Open sessions of anybody to which nothing has happened for too long."""
    cursor = await conn.execute(
        "SELECT id, organization_id FROM upload WHERE status NOT IN ('completed', 'failed') AND expires_at <= %s"
        " ORDER BY expires_at, id LIMIT %s",
        (at, limit),
    )
    return await cursor.fetchall()


async def open_uploads_of_project(conn: Connection, organization_id: str, project_id: str) -> list[Row]:
    """A project's open sessions, which nobody else changes before the transaction ends."""
    cursor = await conn.execute(
        "SELECT * FROM upload WHERE organization_id = %s AND project_id = %s AND status NOT IN ('completed', 'failed')"
        " ORDER BY id FOR UPDATE",
        (organization_id, project_id),
    )
    return await cursor.fetchall()


async def completed_uploads_of_project(conn: Connection, organization_id: str, project_id: str) -> list[str]:
    """A project's completed sessions on whose items somebody still works, or may soon."""
    cursor = await conn.execute(
        "SELECT u.id FROM upload u JOIN job j ON j.entity_id = u.id AND j.state IN ('queued', 'running')"
        " WHERE u.organization_id = %s AND u.project_id = %s AND u.status = 'completed' ORDER BY u.id",
        (organization_id, project_id),
    )
    return [row["id"] for row in await cursor.fetchall()]


async def forget_uploads_of_project(conn: Connection, organization_id: str, project_id: str) -> int:
    """Removes a project's sessions with their files, and returns how many they were."""
    cursor = await conn.execute(
        "DELETE FROM upload WHERE organization_id = %s AND project_id = %s", (organization_id, project_id)
    )
    return cursor.rowcount
