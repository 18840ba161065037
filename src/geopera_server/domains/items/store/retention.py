"""Which items and files have had their time, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.items.store import ITEM

_TAKES = (
    "(SELECT coalesce(sum(a.file_size_bytes), 0)::bigint FROM asset a WHERE a.item_id = i.id AND a.deleted_at IS NULL"
    " AND a.expired_at IS NULL AND NOT a.external) AS storage_bytes"
)


async def items_expiring(conn: Connection, before: datetime) -> list[Row]:
    """Everybody's items that expire before then or should have already, soonest first, with what they take."""
    cursor = await conn.execute(
        "SELECT i.id, i.name, i.project_id, i.organization_id, i.expires_at, " + _TAKES + " FROM item i"
        " WHERE i.expires_at <= %s AND i.deleted_at IS NULL AND i.lifecycle_state IN ('active', 'expiring', 'archived')"
        " ORDER BY i.expires_at, i.id",
        (before,),
    )
    return await cursor.fetchall()


async def organizations_to_expire(conn: Connection, *, at: datetime, near: datetime) -> list[str]:
    """The organizations with items that are due to expire, or near it and not known to be."""
    cursor = await conn.execute(
        "SELECT DISTINCT organization_id AS id FROM item WHERE deleted_at IS NULL AND expires_at <= %(near)s"
        " AND (lifecycle_state = 'active' OR (lifecycle_state IN ('expiring', 'archived') AND expires_at <= %(at)s))"
        " ORDER BY 1",
        {"at": at, "near": near},
    )
    return [row["id"] for row in await cursor.fetchall()]


async def lock_due(conn: Connection, organization_id: str, at: datetime, limit: int) -> list[Row]:
    """Some of an organization's items whose time is over; those that somebody is changing are left for the next time."""
    cursor = await conn.execute(
        "SELECT " + ITEM + " FROM item i WHERE i.organization_id = %s AND i.deleted_at IS NULL AND i.expires_at <= %s"
        " AND i.lifecycle_state IN ('active', 'expiring', 'archived') ORDER BY i.expires_at, i.id LIMIT %s"
        " FOR NO KEY UPDATE SKIP LOCKED",
        (organization_id, at, limit),
    )
    return await cursor.fetchall()


async def lock_near(conn: Connection, organization_id: str, *, at: datetime, near: datetime, limit: int) -> list[Row]:
    """Some of an organization's active items whose time is over soon."""
    cursor = await conn.execute(
        "SELECT " + ITEM + " FROM item i WHERE i.organization_id = %s AND i.deleted_at IS NULL AND i.expires_at > %s"
        " AND i.expires_at <= %s AND i.lifecycle_state = 'active' ORDER BY i.expires_at, i.id LIMIT %s"
        " FOR NO KEY UPDATE SKIP LOCKED",
        (organization_id, at, near, limit),
    )
    return await cursor.fetchall()


async def lock_items(conn: Connection, item_ids: Sequence[str]) -> list[Row]:
    """Those items of anybody that are live, kept from other changes until the transaction ends, in the order of their ids."""
    cursor = await conn.execute(
        "SELECT " + ITEM + " FROM item i WHERE i.id = ANY(%s::uuid[]) AND i.deleted_at IS NULL ORDER BY i.id FOR NO KEY UPDATE",
        (list(item_ids),),
    )
    return await cursor.fetchall()


async def live_ids_of_project(conn: Connection, project_id: str) -> list[str]:
    """The live items of a live project."""
    cursor = await conn.execute(
        "SELECT i.id FROM item i JOIN project p ON p.id = i.project_id AND p.deleted_at IS NULL"
        " WHERE i.project_id = %s AND i.deleted_at IS NULL ORDER BY i.id",
        (project_id,),
    )
    return [row["id"] for row in await cursor.fetchall()]


async def project_exists(conn: Connection, project_id: str) -> bool:
    """Whether there is such a project, of whomever."""
    cursor = await conn.execute("SELECT 1 FROM project WHERE id = %s AND deleted_at IS NULL", (project_id,))
    return await cursor.fetchone() is not None


async def move(conn: Connection, organization_id: str, item_ids: Sequence[str], state: str, at: datetime) -> list[Row]:
    """Brings items into another state of their life."""
    cursor = await conn.execute(
        "UPDATE item AS i SET lifecycle_state = %s, updated_at = %s WHERE i.organization_id = %s AND i.id = ANY(%s::uuid[])"
        " RETURNING " + ITEM,
        (state, at, organization_id, list(item_ids)),
    )
    return await cursor.fetchall()


async def retain(
    conn: Connection, organization_id: str, item_ids: Sequence[str], *, expires_at: datetime | None, state: str, at: datetime
) -> list[Row]:
    """Writes until when items are kept, and their state."""
    cursor = await conn.execute(
        "UPDATE item AS i SET expires_at = %s, lifecycle_state = %s, updated_at = %s"
        " WHERE i.organization_id = %s AND i.id = ANY(%s::uuid[]) RETURNING " + ITEM,
        (expires_at, state, at, organization_id, list(item_ids)),
    )
    return await cursor.fetchall()


async def expire_assets(conn: Connection, organization_id: str, item_ids: Sequence[str], at: datetime) -> None:
    """Notes that the files of items have expired; the database frees what they took."""
    await conn.execute(
        "UPDATE asset SET expired_at = %s WHERE organization_id = %s AND item_id = ANY(%s::uuid[]) AND deleted_at IS NULL"
        " AND expired_at IS NULL AND NOT external",
        (at, organization_id, list(item_ids)),
    )


async def take_assets_back(conn: Connection, organization_id: str, item_ids: Sequence[str]) -> None:
    """Notes that the files of items have not expired after all; the database counts what they take."""
    await conn.execute(
        "UPDATE asset SET expired_at = NULL WHERE organization_id = %s AND item_id = ANY(%s::uuid[])"
        " AND expired_at IS NOT NULL AND erased_at IS NULL",
        (organization_id, list(item_ids)),
    )


async def items_with_erased_files(conn: Connection, organization_id: str, item_ids: Sequence[str]) -> set[str]:
    """Those items of whose files some are gone for good."""
    cursor = await conn.execute(
        "SELECT DISTINCT item_id FROM asset WHERE organization_id = %s AND item_id = ANY(%s::uuid[]) AND deleted_at IS NULL"
        " AND erased_at IS NOT NULL",
        (organization_id, list(item_ids)),
    )
    return {row["item_id"] for row in await cursor.fetchall()}


async def organizations_to_purge(conn: Connection, before: datetime) -> list[str]:
    """The organizations with something that was deleted or expired before then and is still there."""
    cursor = await conn.execute(
        "SELECT organization_id AS id FROM item WHERE deleted_at <= %(before)s"
        " UNION SELECT a.organization_id FROM asset a JOIN item i ON i.id = a.item_id"
        "  WHERE a.deleted_at <= %(before)s AND i.deleted_at IS NULL"
        " UNION SELECT organization_id FROM asset WHERE expired_at <= %(before)s AND erased_at IS NULL ORDER BY 1",
        {"before": before},
    )
    return [row["id"] for row in await cursor.fetchall()]


async def lock_to_purge(conn: Connection, organization_id: str, before: datetime, limit: int) -> list[Row]:
    """Some items that were deleted before then; nobody has them back meanwhile."""
    cursor = await conn.execute(
        "SELECT " + ITEM + " FROM item i WHERE i.organization_id = %s AND i.deleted_at <= %s ORDER BY i.deleted_at, i.id"
        " LIMIT %s FOR UPDATE SKIP LOCKED",
        (organization_id, before, limit),
    )
    return await cursor.fetchall()


async def purge_deleted_assets(conn: Connection, organization_id: str, before: datetime, limit: int) -> list[Row]:
    """Removes some files of live items that were deleted before then, and returns where they are."""
    cursor = await conn.execute(
        "WITH old AS (SELECT a.id FROM asset a JOIN item i ON i.id = a.item_id WHERE a.organization_id = %s"
        "  AND a.deleted_at <= %s AND i.deleted_at IS NULL ORDER BY a.deleted_at, a.id LIMIT %s FOR UPDATE OF a SKIP LOCKED)"
        " DELETE FROM asset a USING old WHERE a.id = old.id RETURNING a.href, a.external, a.erased_at",
        (organization_id, before, limit),
    )
    return await cursor.fetchall()


async def mark_erased(conn: Connection, organization_id: str, *, before: datetime, at: datetime, limit: int) -> list[str]:
    """Notes some files that expired before then as gone for good, and returns where they are."""
    cursor = await conn.execute(
        "WITH old AS (SELECT id FROM asset WHERE organization_id = %s AND expired_at <= %s AND erased_at IS NULL"
        "  ORDER BY expired_at, id LIMIT %s FOR UPDATE SKIP LOCKED)"
        " UPDATE asset a SET erased_at = %s FROM old WHERE a.id = old.id RETURNING a.href",
        (organization_id, before, limit, at),
    )
    return [row["href"] for row in await cursor.fetchall()]
