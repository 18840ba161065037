"""The rows of collections, and what is counted about what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row

PLAIN: Mapping[str, Any] = {"description": None, "color": None, "layer_order": 0, "show_on_map": True}
"""The columns of a collection that nobody has said anything about."""


async def keep_collection_of(conn: Connection, organization_id: str, source_type: str, source_id: str) -> str | None:
    """The live collection that the platform made for a source, which cannot be deleted before the transaction ends."""
    cursor = await conn.execute(
        "SELECT id FROM collection WHERE organization_id = %s AND source_type = %s AND source_id = %s"
        " AND deleted_at IS NULL FOR SHARE",
        (organization_id, source_type, source_id),
    )
    row = await cursor.fetchone()
    return None if row is None else str(row["id"])


async def insert_collection(conn: Connection, row: Mapping[str, Any]) -> Row | None:
    """Adds a collection; None when its name or its source has a live one already."""
    cursor = await conn.execute(
        "INSERT INTO collection (id, organization_id, project_id, name, description, color, layer_order, show_on_map,"
        " auto_created, source_type, source_id, created_at, updated_at) VALUES (%(id)s, %(organization_id)s, %(project_id)s,"
        " %(name)s, %(description)s, %(color)s, %(layer_order)s, %(show_on_map)s, %(auto_created)s, %(source_type)s,"
        " %(source_id)s, %(at)s, %(at)s) ON CONFLICT DO NOTHING RETURNING *",
        row,
    )
    return await cursor.fetchone()


async def collection_in(conn: Connection, project_id: str, collection_id: str) -> Row | None:
    """A live collection of the project."""
    cursor = await conn.execute(
        "SELECT * FROM collection WHERE project_id = %s AND id = %s AND deleted_at IS NULL", (project_id, collection_id)
    )
    return await cursor.fetchone()


async def lock_collection(conn: Connection, project_id: str, collection_id: str) -> Row | None:
    """A collection of the project, a deleted one too; nobody changes it or files under it before the transaction ends."""
    cursor = await conn.execute(
        "SELECT * FROM collection WHERE project_id = %s AND id = %s FOR UPDATE", (project_id, collection_id)
    )
    return await cursor.fetchone()


async def update_collection(conn: Connection, organization_id: str, row: Mapping[str, Any]) -> Row:
    """Writes what a collection says of itself; psycopg's UniqueViolation when the name is taken."""
    cursor = await conn.execute(
        "UPDATE collection SET name = %(name)s, description = %(description)s, color = %(color)s,"
        " layer_order = %(layer_order)s, show_on_map = %(show_on_map)s, updated_at = %(at)s"
        " WHERE organization_id = %(organization)s AND id = %(id)s RETURNING *",
        {**row, "organization": organization_id},
    )
    return await _the_row(cursor)


async def mark_deleted(conn: Connection, organization_id: str, collection_id: str, at: datetime | None, now: datetime) -> Row:
    """Deletes a collection softly, or with no time takes it back; psycopg's UniqueViolation when that finds its name taken."""
    cursor = await conn.execute(
        "UPDATE collection SET deleted_at = %s, updated_at = %s WHERE organization_id = %s AND id = %s RETURNING *",
        (at, now, organization_id, collection_id),
    )
    return await _the_row(cursor)


async def unlink_items(conn: Connection, organization_id: str, collection_id: str) -> None:
    """Takes every item out of a collection, deleted ones too; they stay in the project."""
    await conn.execute(
        "UPDATE item SET collection_id = NULL WHERE organization_id = %s AND collection_id = %s",
        (organization_id, collection_id),
    )


async def name_is_taken(conn: Connection, project_id: str, name: str, *, besides: str) -> bool:
    """Whether another live collection of the project has the name, in whatever case."""
    cursor = await conn.execute(
        "SELECT 1 FROM collection WHERE project_id = %s AND lower(name) = lower(%s) AND deleted_at IS NULL AND id <> %s",
        (project_id, name, besides),
    )
    return await cursor.fetchone() is not None


async def source_is_taken(conn: Connection, row: Row) -> bool:
    """Whether the source of a deleted collection has got another one since."""
    cursor = await conn.execute(
        "SELECT 1 FROM collection WHERE source_type = %s AND source_id = %s AND deleted_at IS NULL AND id <> %s",
        (row["source_type"], row["source_id"], row["id"]),
    )
    return await cursor.fetchone() is not None


async def collections_of(conn: Connection, project_id: str) -> list[Row]:
    """The live collections of a project by layer order, then name, with how many live items each holds."""
    cursor = await conn.execute(
        "SELECT c.*, coalesce(n.items, 0) AS item_count FROM collection c"
        " LEFT JOIN (SELECT collection_id, count(*) AS items FROM item WHERE project_id = %(project)s AND deleted_at IS NULL"
        "  AND collection_id IS NOT NULL GROUP BY collection_id) n ON n.collection_id = c.id"
        " WHERE c.project_id = %(project)s AND c.deleted_at IS NULL ORDER BY c.layer_order, lower(c.name), c.id",
        {"project": project_id},
    )
    return await cursor.fetchall()


async def uncollected_count(conn: Connection, project_id: str) -> int:
    """How many live items of a project are in no collection."""
    cursor = await conn.execute(
        "SELECT count(*) AS items FROM item WHERE project_id = %s AND deleted_at IS NULL AND collection_id IS NULL",
        (project_id,),
    )
    return int((await _the_row(cursor))["items"])


async def item_count(conn: Connection, collection_id: str) -> int:
    """How many live items a collection holds."""
    cursor = await conn.execute(
        "SELECT count(*) AS items FROM item WHERE collection_id = %s AND deleted_at IS NULL", (collection_id,)
    )
    return int((await _the_row(cursor))["items"])


# East and west in degrees from 0 to 360 too, for items on both sides of the antimeridian; see rules.joined_bbox.
_EXTENT = (
    "SELECT count(*) AS items, min(bbox[1]) AS west, min(bbox[2]) AS south, max(bbox[3]) AS east, max(bbox[4]) AS north,"
    " coalesce(bool_or(bbox[1] > bbox[3]), false) AS across, coalesce(bool_or(bbox[1] < 0 AND bbox[3] >= 0), false) AS on_zero,"
    " min(bbox[1] + CASE WHEN bbox[1] < 0 THEN 360 ELSE 0 END) AS west_360,"
    " max(bbox[3] + CASE WHEN bbox[3] < 0 THEN 360 ELSE 0 END) AS east_360,"
    " min(lower(period)) AS starts, max(upper(period)) AS ends,"
    " (SELECT coalesce(sum(a.file_size_bytes), 0)::bigint FROM asset a WHERE a.item_id IN (SELECT id FROM found)"
    "  AND a.deleted_at IS NULL AND a.expired_at IS NULL AND NOT a.external) AS storage_bytes FROM found"
)


async def figures_of_collection(conn: Connection, collection_id: str) -> Row:
    """What the live items of a collection cover and take; see rules.joined_bbox for the columns of the box."""
    cursor = await conn.execute(
        "WITH found AS MATERIALIZED (SELECT id, bbox, period FROM item WHERE collection_id = %s AND deleted_at IS NULL) "
        + _EXTENT,
        (collection_id,),
    )
    return await _the_row(cursor)


async def figures_of_project(conn: Connection, project_id: str) -> Row:
    """What the live items of a project cover and take."""
    cursor = await conn.execute(
        "WITH found AS MATERIALIZED (SELECT id, bbox, period FROM item WHERE project_id = %s AND deleted_at IS NULL) "
        + _EXTENT,
        (project_id,),
    )
    return await _the_row(cursor)


async def items_by_type(conn: Connection, project_id: str) -> dict[str, int]:
    """How many live items of each type a project has."""
    cursor = await conn.execute(
        "SELECT type, count(*) AS items FROM item WHERE project_id = %s AND deleted_at IS NULL GROUP BY type ORDER BY type",
        (project_id,),
    )
    return {row["type"]: row["items"] for row in await cursor.fetchall()}


async def collections_to_erase(conn: Connection, organization_id: str, project_id: str) -> list[Row]:
    """Every collection of a project, deleted ones too, kept from others until the transaction ends."""
    cursor = await conn.execute(
        "SELECT * FROM collection WHERE organization_id = %s AND project_id = %s ORDER BY id FOR UPDATE",
        (organization_id, project_id),
    )
    return await cursor.fetchall()


async def erase_collections(conn: Connection, organization_id: str, collection_ids: Sequence[str]) -> None:
    """Removes collections that hold nothing."""
    await conn.execute(
        "DELETE FROM collection WHERE organization_id = %s AND id = ANY(%s::uuid[])", (organization_id, list(collection_ids))
    )


async def _the_row(cursor: Any) -> Row:
    row: Row | None = await cursor.fetchone()
    assert row is not None
    return row
