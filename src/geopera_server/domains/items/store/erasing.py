"""Rows that go for good, and the paths of objects that go after them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.items.store import ITEM


async def items_of_project(conn: Connection, organization_id: str, project_id: str, *, deleted: bool, limit: int) -> list[Row]:
    """Some items of a project, either live or deleted ones, kept from others until the transaction ends."""
    if deleted:
        cursor = await conn.execute(
            "SELECT " + ITEM + " FROM item i WHERE i.organization_id = %s AND i.project_id = %s AND i.deleted_at IS NOT NULL"
            " ORDER BY i.id LIMIT %s FOR UPDATE",
            (organization_id, project_id, limit),
        )
    else:
        cursor = await conn.execute(
            "SELECT " + ITEM + " FROM item i WHERE i.organization_id = %s AND i.project_id = %s AND i.deleted_at IS NULL"
            " ORDER BY i.id LIMIT %s FOR UPDATE",
            (organization_id, project_id, limit),
        )
    return await cursor.fetchall()


async def give_up_objects_of(
    conn: Connection, organization_id: str, item_ids: Sequence[str], *, call_id: str, at: datetime
) -> int:
    """Notes the objects of items' assets, deleted ones too, as given up; returns how many those are."""
    cursor = await conn.execute(
        "INSERT INTO erasure (path, organization_id, call_id, given_up_at)"
        " SELECT DISTINCT href, organization_id, %(call)s::uuid, %(at)s::timestamptz FROM asset"
        " WHERE organization_id = %(organization)s AND item_id = ANY(%(items)s::uuid[]) AND NOT external"
        " AND erased_at IS NULL ON CONFLICT DO NOTHING",
        {"organization": organization_id, "items": list(item_ids), "call": call_id, "at": at},
    )
    return cursor.rowcount


async def give_up_objects(conn: Connection, organization_id: str, paths: Sequence[str], *, call_id: str, at: datetime) -> int:
    """Notes objects as given up; returns how many were not before."""
    cursor = await conn.execute(
        "INSERT INTO erasure (path, organization_id, call_id, given_up_at)"
        " SELECT path, %(organization)s, %(call)s, %(at)s FROM unnest(%(paths)s::text[]) AS path ON CONFLICT DO NOTHING",
        {"organization": organization_id, "paths": sorted(set(paths)), "call": call_id, "at": at},
    )
    return cursor.rowcount


async def erase_rows(conn: Connection, organization_id: str, item_ids: Sequence[str]) -> int:
    """Removes items with their assets, deleted ones too; returns how many counted bytes that frees."""
    cursor = await conn.execute(
        "WITH gone AS (DELETE FROM asset WHERE organization_id = %(organization)s AND item_id = ANY(%(items)s::uuid[])"
        "  RETURNING file_size_bytes AS bytes, NOT external AND deleted_at IS NULL AND expired_at IS NULL AS counts)"
        " SELECT coalesce(sum(bytes) FILTER (WHERE counts), 0)::bigint AS bytes FROM gone",
        {"organization": organization_id, "items": list(item_ids)},
    )
    row = await cursor.fetchone()
    assert row is not None
    await conn.execute(
        "DELETE FROM item WHERE organization_id = %s AND id = ANY(%s::uuid[])", (organization_id, list(item_ids))
    )
    return int(row["bytes"])


async def given_up_by(conn: Connection, organization_id: str, call_id: str, limit: int) -> list[str]:
    """Some of the objects that a call has given up and that may still be there."""
    cursor = await conn.execute(
        "SELECT path FROM erasure WHERE organization_id = %s AND call_id = %s ORDER BY path LIMIT %s",
        (organization_id, call_id, limit),
    )
    return [row["path"] for row in await cursor.fetchall()]


async def still_named(conn: Connection, paths: Sequence[str]) -> set[str]:
    """Those paths that an asset of anybody still names, without those whose objects are erased."""
    cursor = await conn.execute(
        "SELECT DISTINCT href FROM asset WHERE href = ANY(%s::text[]) AND NOT external AND erased_at IS NULL", (list(paths),)
    )
    return {row["href"] for row in await cursor.fetchall()}


async def forget_given_up(conn: Connection, organization_id: str, paths: Sequence[str]) -> None:
    """Notes that objects are gone."""
    await conn.execute(
        "DELETE FROM erasure WHERE organization_id = %s AND path = ANY(%s::text[])", (organization_id, list(paths))
    )


async def left_behind(conn: Connection) -> list[Row]:
    """The calls whose objects may still be there although nobody is at work on them any more."""
    cursor = await conn.execute(
        "SELECT DISTINCT e.call_id, e.organization_id FROM erasure e WHERE NOT EXISTS (SELECT FROM job j"
        " WHERE j.kind = 'objects.erase' AND j.entity_id = e.call_id AND j.state IN ('queued', 'running')) ORDER BY 1"
    )
    return await cursor.fetchall()
