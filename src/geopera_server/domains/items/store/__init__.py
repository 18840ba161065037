"""The rows of items, their assets and their collections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row

ITEM = (
    "i.id, i.organization_id, i.project_id, i.collection_id, i.stac_id, i.type, i.name, i.description, i.datetime,"
    " i.start_datetime, i.end_datetime, i.geometry, i.bbox, i.gsd, i.cloud_cover, i.properties, i.stac_extensions,"
    " i.lifecycle_state, i.order_id, i.job_id, i.upload_id, i.duplicated_from_id, i.created_by, i.expires_at,"
    " i.archived_at, i.deleted_at, i.created_at, i.updated_at"
)


async def live_item(conn: Connection, item_id: str, *, organization_id: str | None, everywhere: bool) -> Row | None:
    """A live item of a live project with the name of its collection, if it is the organization's or `everywhere` is asked."""
    cursor = await conn.execute(
        "SELECT " + ITEM + ", c.name AS collection_name FROM item i"
        " JOIN project p ON p.id = i.project_id AND p.deleted_at IS NULL"
        " LEFT JOIN collection c ON c.id = i.collection_id AND c.deleted_at IS NULL"
        " WHERE i.id = %(item)s AND i.deleted_at IS NULL AND (i.organization_id = %(organization)s OR %(everywhere)s)",
        {"item": item_id, "organization": organization_id, "everywhere": everywhere},
    )
    return await cursor.fetchone()


async def item_of(conn: Connection, organization_id: str, item_id: str) -> Row | None:
    """An item of the organization, a deleted one included."""
    cursor = await conn.execute(
        "SELECT " + ITEM + " FROM item i WHERE i.organization_id = %s AND i.id = %s", (organization_id, item_id)
    )
    return await cursor.fetchone()


_OF_PROJECT = (
    " FROM item i WHERE i.project_id = %(project)s AND i.deleted_at IS NULL"
    " AND (%(collection)s::uuid IS NULL OR i.collection_id = %(collection)s)"
    " AND (NOT %(uncollected)s OR i.collection_id IS NULL)"
)


async def items_page(
    conn: Connection, project_id: str, *, collection_id: str | None, uncollected: bool, limit: int, offset: int
) -> list[Row]:
    """One page of a project's live items, newest first."""
    cursor = await conn.execute(
        "SELECT " + ITEM + _OF_PROJECT + " ORDER BY i.created_at DESC, i.id LIMIT %(limit)s OFFSET %(offset)s",
        {
            "project": project_id, "collection": collection_id, "uncollected": uncollected,
            "limit": limit, "offset": offset,
        },
    )  # fmt: skip
    return await cursor.fetchall()


async def items_total(conn: Connection, project_id: str, *, collection_id: str | None, uncollected: bool) -> int:
    """How many items all pages together hold."""
    cursor = await conn.execute(
        "SELECT count(*) AS total" + _OF_PROJECT,
        {"project": project_id, "collection": collection_id, "uncollected": uncollected},
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row["total"])


async def items_of_order(conn: Connection, organization_id: str, order_id: str) -> list[Row]:
    """The live items that an order has delivered, first delivered first."""
    cursor = await conn.execute(
        "SELECT " + ITEM + " FROM item i WHERE i.organization_id = %s AND i.order_id = %s AND i.deleted_at IS NULL"
        " ORDER BY i.created_at, i.id",
        (organization_id, order_id),
    )
    return await cursor.fetchall()


async def assets_of(conn: Connection, organization_id: str, item_ids: Sequence[str]) -> dict[str, list[Row]]:
    """The live assets of items, by item, in the order of their making."""
    cursor = await conn.execute(
        "SELECT * FROM asset WHERE organization_id = %s AND item_id = ANY(%s::uuid[]) AND deleted_at IS NULL"
        " ORDER BY created_at, key, id",
        (organization_id, list(item_ids)),
    )
    found: dict[str, list[Row]] = {item_id: [] for item_id in item_ids}
    for row in await cursor.fetchall():
        found[row["item_id"]].append(row)
    return found


async def asset_of(conn: Connection, organization_id: str, asset_id: str) -> Row | None:
    """An asset of the organization, a deleted one included."""
    cursor = await conn.execute("SELECT * FROM asset WHERE organization_id = %s AND id = %s", (organization_id, asset_id))
    return await cursor.fetchone()


async def collection_is_in(conn: Connection, project_id: str, collection_id: str) -> bool:
    """Whether a live collection belongs to the project."""
    cursor = await conn.execute(
        "SELECT 1 FROM collection WHERE id = %s AND project_id = %s AND deleted_at IS NULL", (collection_id, project_id)
    )
    return await cursor.fetchone() is not None


async def live_collection(conn: Connection, collection_id: str, *, organization_id: str | None, everywhere: bool) -> Row | None:
    """A live collection of a live project, if it is the organization's or `everywhere` is asked."""
    cursor = await conn.execute(
        "SELECT c.id, c.project_id FROM collection c JOIN project p ON p.id = c.project_id AND p.deleted_at IS NULL"
        " WHERE c.id = %(collection)s AND c.deleted_at IS NULL AND (c.organization_id = %(organization)s OR %(everywhere)s)",
        {"collection": collection_id, "organization": organization_id, "everywhere": everywhere},
    )
    return await cursor.fetchone()


async def collection_of(conn: Connection, organization_id: str, collection_id: str) -> Row | None:
    """A collection of the organization, a deleted one included."""
    cursor = await conn.execute(
        "SELECT * FROM collection WHERE organization_id = %s AND id = %s", (organization_id, collection_id)
    )
    return await cursor.fetchone()


async def insert_item(conn: Connection, row: Mapping[str, Any]) -> Row | None:
    """Adds an item; None when its stac_id is taken in the project."""
    cursor = await conn.execute(
        "INSERT INTO item AS i (id, organization_id, project_id, collection_id, stac_id, type, name, description, datetime,"
        " start_datetime, end_datetime, period, geometry, bbox, extent, extent_across, gsd, cloud_cover, properties,"
        " stac_extensions, order_id, job_id, upload_id, duplicated_from_id, created_by, expires_at, created_at, updated_at)"
        " VALUES (%(id)s, %(organization_id)s, %(project_id)s, %(collection_id)s, %(stac_id)s, %(type)s, %(name)s,"
        " %(description)s, %(datetime)s, %(start_datetime)s, %(end_datetime)s,"
        " tstzrange(%(period_start)s, %(period_end)s, '[]'), %(geometry)s, %(bbox)s, %(extent)s::box,"
        " %(extent_across)s::box, %(gsd)s, %(cloud_cover)s, %(properties)s, %(stac_extensions)s, %(order_id)s,"
        " %(job_id)s, %(upload_id)s, %(duplicated_from_id)s, %(created_by)s, %(expires_at)s, %(at)s, %(at)s)"
        " ON CONFLICT (project_id, stac_id) WHERE deleted_at IS NULL DO NOTHING RETURNING " + ITEM,
        row,
    )
    return await cursor.fetchone()


async def insert_asset(conn: Connection, row: Mapping[str, Any]) -> Row:
    """Adds an asset to an item."""
    cursor = await conn.execute(
        "INSERT INTO asset (id, organization_id, project_id, item_id, key, title, href, external, media_type, roles,"
        " file_name, file_size_bytes, checksum, band_names, band_count, dtype, nodata, epsg, width, height, gsd, is_cog,"
        " statistics, raster, created_at, updated_at) VALUES (%(id)s, %(organization_id)s, %(project_id)s, %(item_id)s,"
        " %(key)s, %(title)s, %(href)s, %(external)s, %(media_type)s, %(roles)s, %(file_name)s, %(file_size_bytes)s,"
        " %(checksum)s, %(band_names)s, %(band_count)s, %(dtype)s, %(nodata)s, %(epsg)s, %(width)s, %(height)s, %(gsd)s,"
        " %(is_cog)s, %(statistics)s, %(raster)s, %(at)s, %(at)s) RETURNING *",
        row,
    )
    made = await cursor.fetchone()
    assert made is not None
    return made


async def provenance_of(conn: Connection, organization_id: str, item_ids: Sequence[str]) -> dict[str, Row]:
    """The first record of each item, which says what it was made from, by item."""
    cursor = await conn.execute(
        "SELECT DISTINCT ON (entity_id) entity_id, parents, invocation_id, recorded_at, hash FROM lineage_record"
        " WHERE organization_id = %s AND entity_type = 'item' AND entity_id = ANY(%s::text[]) AND kind = 'edge'"
        " ORDER BY entity_id, id",
        (organization_id, list(item_ids)),
    )
    return {row["entity_id"]: row for row in await cursor.fetchall()}


async def names_of(conn: Connection, organization_id: str, ids: Sequence[str]) -> dict[tuple[str, str], str]:
    """The names of those orders, items, assets, collections and projects that are still there, by kind and id."""
    cursor = await conn.execute(
        "WITH wanted AS (SELECT unnest(%(ids)s::uuid[]) AS id)"
        " SELECT 'order' AS kind, id, display_name AS name FROM orders"
        "  WHERE organization_id = %(organization)s AND id IN (SELECT id FROM wanted)"
        " UNION ALL SELECT 'item', id, name FROM item"
        "  WHERE organization_id = %(organization)s AND deleted_at IS NULL AND id IN (SELECT id FROM wanted)"
        " UNION ALL SELECT 'asset', id, coalesce(title, key) FROM asset"
        "  WHERE organization_id = %(organization)s AND deleted_at IS NULL AND id IN (SELECT id FROM wanted)"
        " UNION ALL SELECT 'collection', id, name FROM collection"
        "  WHERE organization_id = %(organization)s AND deleted_at IS NULL AND id IN (SELECT id FROM wanted)"
        " UNION ALL SELECT 'project', id, name FROM project"
        "  WHERE organization_id = %(organization)s AND deleted_at IS NULL AND id IN (SELECT id FROM wanted)",
        {"organization": organization_id, "ids": list(ids)},
    )
    return {(row["kind"], row["id"]): row["name"] for row in await cursor.fetchall()}


async def lock_egress(conn: Connection, organization_id: str) -> None:
    """Makes the downloads of one organization be counted in turn until the transaction ends."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('egress:' || %s, 0))", (organization_id,))


async def has_open_grant(conn: Connection, organization_id: str, *, asset_id: str, principal_id: str, at: datetime) -> bool:
    """Whether an address that was counted for this principal and asset still lives."""
    cursor = await conn.execute(
        "SELECT 1 FROM egress_grant WHERE organization_id = %s AND asset_id = %s AND principal_id = %s AND expires_at > %s",
        (organization_id, asset_id, principal_id, at),
    )
    return await cursor.fetchone() is not None


async def insert_grant(conn: Connection, row: Mapping[str, Any]) -> None:
    """Counts one download."""
    await conn.execute(
        "INSERT INTO egress_grant (asset_id, principal_id, organization_id, bytes, issued_at, expires_at)"
        " VALUES (%(asset_id)s, %(principal_id)s, %(organization_id)s, %(bytes)s, %(issued_at)s, %(expires_at)s)",
        row,
    )


async def egress_since(conn: Connection, organization_id: str, since: datetime) -> int:
    """How many bytes were counted since then."""
    cursor = await conn.execute(
        "SELECT coalesce(sum(bytes), 0)::bigint AS bytes FROM egress_grant WHERE organization_id = %s AND issued_at >= %s",
        (organization_id, since),
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row["bytes"])


async def plan_of(conn: Connection, organization_id: str) -> Row | None:
    """What the organization's plan includes and what it charges beyond; None while the deployment has no such plan."""
    cursor = await conn.execute(
        "SELECT p.id, p.included, p.overage FROM organization o JOIN plan p ON p.id = o.plan_id WHERE o.id = %s",
        (organization_id,),
    )
    return await cursor.fetchone()
