"""Runs the statements of searches, and keeps items' features as they were last made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from geopera_server.db.pool import Connection, Row


async def rows_of(conn: Connection, statement: str, parameters: Mapping[str, Any]) -> list[Row]:
    """What a composed statement answers, in order of `n` where it has one."""
    cursor = await conn.execute(statement.encode(), parameters)
    rows = await cursor.fetchall()
    return sorted(rows, key=lambda row: row.get("n", 0))


async def versions_of(conn: Connection, organization_id: str, item_ids: Sequence[str]) -> dict[str, int]:
    """How often each of the organization's items has changed so far, as its feature must know."""
    cursor = await conn.execute(
        "SELECT f.item_id, f.version FROM item_feature f JOIN item i ON i.id = f.item_id"
        " WHERE i.organization_id = %s AND f.item_id = ANY (%s::uuid[])",
        (organization_id, list(item_ids)),
    )
    return {row["item_id"]: row["version"] for row in await cursor.fetchall()}


async def keep_features(conn: Connection, organization_id: str, made: Sequence[Mapping[str, Any]]) -> None:
    """Keeps features that were made of items as of a version, unless those have changed since."""
    await conn.execute(
        "UPDATE item_feature AS f SET body = m.body, files = m.files"
        " FROM jsonb_to_recordset(%s) AS m (item_id uuid, version bigint, body text, files jsonb), item i"
        " WHERE f.item_id = m.item_id AND f.version = m.version AND i.id = f.item_id AND i.organization_id = %s",
        (Jsonb(list(made)), organization_id),
    )


async def collections_with_extents(
    conn: Connection,
    organization_id: str,
    *,
    collection_id: str | None,
    project_id: str | None,
    open_licenses: Sequence[str],
) -> list[Row]:
    """An organization's live collections, and its live projects as far as they have items in none, with what their items span.

    All of them, or the one collection, or the uncollected items of the one project.
    """
    cursor = await conn.execute(
        "WITH spans AS (SELECT i.project_id, i.collection_id, count(*) AS item_count, min(lower(i.period)) AS first,"
        " max(upper(i.period)) AS last, least(min((i.extent[1])[0]), min((i.extent_across[1])[0])) AS west,"
        " min(least((i.extent[1])[1], (i.extent_across[1])[1])) AS south,"
        " greatest(max((i.extent[0])[0]), max((i.extent_across[0])[0])) AS east,"
        " max(greatest((i.extent[0])[1], (i.extent_across[0])[1])) AS north,"
        " min(i.shown_gsd) AS least_gsd, max(i.shown_gsd) AS most_gsd, min(i.shown_cloud_cover) AS least_cloud,"
        " max(i.shown_cloud_cover) AS most_cloud, array_agg(DISTINCT i.type) AS types,"
        " bool_and(coalesce(i.properties ->> 'license' = ANY (%(open)s::text[]), false)) AS all_open,"
        " min(i.properties ->> 'license') AS license, count(DISTINCT i.properties ->> 'license') AS licenses"
        " FROM item i WHERE i.organization_id = %(organization)s AND i.deleted_at IS NULL"
        " AND (%(collection)s::uuid IS NULL OR i.collection_id = %(collection)s)"
        " AND (%(project)s::uuid IS NULL OR i.project_id = %(project)s) GROUP BY i.project_id, i.collection_id)"
        " SELECT c.id, c.name, c.description, p.name AS project_name, s.*, c.project_id FROM collection c"
        " JOIN project p ON p.id = c.project_id AND p.deleted_at IS NULL"
        " LEFT JOIN spans s ON s.collection_id = c.id AND s.project_id = c.project_id"
        " WHERE c.organization_id = %(organization)s AND c.deleted_at IS NULL AND %(project)s::uuid IS NULL"
        " AND (%(collection)s::uuid IS NULL OR c.id = %(collection)s)"
        " UNION ALL SELECT NULL, NULL, p.description, p.name, s.*, p.id FROM project p"
        " JOIN spans s ON s.project_id = p.id AND s.collection_id IS NULL"
        " WHERE p.organization_id = %(organization)s AND p.deleted_at IS NULL AND %(collection)s::uuid IS NULL"
        " ORDER BY 2, 4, 1",
        {
            "organization": organization_id, "collection": collection_id, "project": project_id,
            "open": list(open_licenses),
        },
    )  # fmt: skip
    return await cursor.fetchall()


async def properties_held(
    conn: Connection, organization_id: str, *, collection_id: str | None, project_id: str | None, most: int
) -> list[Row]:
    """The properties of an organization's newest live items, and the JSON types of their values.

    Of all of them, of a collection's, or of those of a project that are in no collection.
    """
    cursor = await conn.execute(
        "WITH newest AS (SELECT i.properties FROM item i JOIN project p ON p.id = i.project_id AND p.deleted_at IS NULL"
        "  WHERE i.organization_id = %(organization)s AND i.deleted_at IS NULL"
        "  AND (%(collection)s::uuid IS NULL OR i.collection_id = %(collection)s)"
        "  AND (%(project)s::uuid IS NULL OR (i.project_id = %(project)s AND i.collection_id IS NULL))"
        "  ORDER BY i.datetime DESC NULLS LAST, i.stac_id, i.id LIMIT %(most)s)"
        " SELECT e.key AS name, array_agg(DISTINCT jsonb_typeof(e.value)) AS types FROM newest n, jsonb_each(n.properties) e"
        " GROUP BY e.key ORDER BY e.key",
        {"organization": organization_id, "collection": collection_id, "project": project_id, "most": most},
    )
    return await cursor.fetchall()
