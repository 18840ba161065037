"""What a visit of a share asks and counts; every query names the link that the visitor has shown to hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row

_VISITED = (
    "SELECT l.id, l.organization_id, l.project_id, l.target_type, l.target_id, l.permission, l.password_hash, l.expires_at,"
    " l.revoked_at, o.standing, o.purge_started_at,"
    " p.id IS NOT NULL AND coalesce(i.id, c.id) IS NOT NULL AS target_lives"
    " FROM share_link l JOIN organization o ON o.id = l.organization_id"
    " LEFT JOIN project p ON p.id = l.project_id AND p.deleted_at IS NULL"
    " LEFT JOIN item i ON l.target_type = 'item' AND i.id = l.target_id AND i.project_id = l.project_id"
    "  AND i.deleted_at IS NULL"
    " LEFT JOIN collection c ON l.target_type = 'collection' AND c.id = l.target_id AND c.project_id = l.project_id"
    "  AND c.deleted_at IS NULL"
)


async def link_with_token(conn: Connection, token_hash: bytes) -> Row | None:
    """The link of that token, with what decides whether it opens anything."""
    cursor = await conn.execute(_VISITED + " WHERE l.token_hash = %s", (token_hash,))
    return await cursor.fetchone()


async def link_with_id(conn: Connection, organization_id: str, link_id: str) -> Row | None:
    """The same for the link that a ticket names."""
    cursor = await conn.execute(_VISITED + " WHERE l.organization_id = %s AND l.id = %s", (organization_id, link_id))
    return await cursor.fetchone()


async def tries_of(conn: Connection, link_id: str, visitor: bytes) -> dict[str, float]:
    """When a visitor tried passwords that were not right, by the id of the try, in seconds since 1970."""
    cursor = await conn.execute("SELECT tries FROM share_attempt WHERE link_id = %s AND visitor = %s", (link_id, visitor))
    row = await cursor.fetchone()
    return {} if row is None else row["tries"]


async def take_try(
    conn: Connection, link_id: str, visitor: bytes, try_id: str, *, at: datetime, since: datetime, most: int
) -> bool:
    """Counts a password as wrong before it is looked at; False when the visitor has no try left.

    One statement that locks the visitor's row: however many come at once, no more than are free get through.
    """
    cursor = await conn.execute(
        "INSERT INTO share_attempt AS a (link_id, visitor, tries, last_at)"
        " VALUES (%(link)s, %(visitor)s, jsonb_build_object(%(try)s::text, %(seconds)s::float8), %(at)s)"
        " ON CONFLICT (link_id, visitor) DO UPDATE SET last_at = EXCLUDED.last_at, tries = EXCLUDED.tries"
        "  || (SELECT coalesce(jsonb_object_agg(t.key, t.value), '{}') FROM jsonb_each(a.tries) t"
        "      WHERE t.value::float8 > %(since)s::float8)"
        " WHERE (SELECT count(*) FROM jsonb_each(a.tries) t WHERE t.value::float8 > %(since)s::float8) < %(most)s::int"
        " RETURNING 1",
        {
            "link": link_id, "visitor": visitor, "try": try_id, "seconds": at.timestamp(), "at": at,
            "since": since.timestamp(), "most": most,
        },
    )  # fmt: skip
    return await cursor.fetchone() is not None


async def give_try_back(conn: Connection, link_id: str, visitor: bytes, try_id: str) -> None:
    """Takes back the count of a password that was right."""
    await conn.execute(
        "UPDATE share_attempt SET tries = tries - %s::text WHERE link_id = %s AND visitor = %s", (try_id, link_id, visitor)
    )


async def forget_tries(conn: Connection, before: datetime) -> None:
    """Removes tries that can no longer count."""
    await conn.execute("DELETE FROM share_attempt WHERE last_at < %s", (before,))


async def count_access(conn: Connection, link_id: str, *, at: datetime, kind: str, ip_prefix: str | None, kept: int) -> None:
    """Notes an access and drops those beyond the last ones; looking at a link anew also counts."""
    await conn.execute(
        "WITH noted AS (INSERT INTO share_access (link_id, at, kind, ip_prefix)"
        "  VALUES (%(link)s, %(at)s, %(kind)s, %(ip_prefix)s)),"
        " dropped AS (DELETE FROM share_access WHERE link_id = %(link)s AND id <= (SELECT id FROM share_access"
        "  WHERE link_id = %(link)s ORDER BY id DESC OFFSET %(kept)s - 1 LIMIT 1))"
        " UPDATE share_use SET last_accessed_at = greatest(last_accessed_at, %(at)s),"
        " access_count = access_count + (%(kind)s = 'validate')::int WHERE link_id = %(link)s",
        {"link": link_id, "at": at, "kind": kind, "ip_prefix": ip_prefix, "kept": kept},
    )


async def count_egress(conn: Connection, link_id: str, egress_bytes: int) -> None:
    """Adds a download to what a link has been used for, in the caller's transaction."""
    await conn.execute(_USED, (0, egress_bytes, link_id))


async def count_tile(conn: Connection, link_id: str) -> None:
    """Adds a tile to what a link has been used for, in one round trip; a crash of the machine may lose the last ones.

    No tile waits for the disk, since what is charged is counted by the meter.
    """
    async with conn.pipeline(), conn.transaction():
        await conn.execute("SET LOCAL synchronous_commit = off")
        await conn.execute(_USED, (1, 0, link_id))


_USED = "UPDATE share_use SET tile_requests = tile_requests + %s, egress_bytes = egress_bytes + %s WHERE link_id = %s"


async def shown_items(conn: Connection, link: Mapping[str, Any], limit: int) -> list[Row]:
    """The live items that a link shows whose files are still kept, newest first."""
    cursor = await conn.execute(
        "SELECT id, name, type, description, datetime, geometry, bbox, gsd, cloud_cover, expires_at"
        " FROM item WHERE organization_id = %(organization_id)s AND project_id = %(project_id)s"
        " AND deleted_at IS NULL AND lifecycle_state <> 'expired'"
        " AND (id = CASE %(target_type)s::text WHEN 'item' THEN %(target_id)s::uuid END"
        "  OR collection_id = CASE %(target_type)s::text WHEN 'collection' THEN %(target_id)s::uuid END)"
        " ORDER BY created_at DESC, id LIMIT %(limit)s",
        {**link, "limit": limit},
    )
    return await cursor.fetchall()


async def shown_items_total(conn: Connection, link: Mapping[str, Any]) -> int:
    """How many of those there are in the collection of a link."""
    cursor = await conn.execute(
        "SELECT count(*) AS total FROM item WHERE organization_id = %(organization_id)s AND project_id = %(project_id)s"
        " AND deleted_at IS NULL AND lifecycle_state <> 'expired' AND collection_id = %(target_id)s",
        link,
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row["total"])


async def collection_shown(conn: Connection, link: Mapping[str, Any]) -> Row | None:
    """Name and description of the collection of a link."""
    cursor = await conn.execute(
        "SELECT id, name, description FROM collection WHERE organization_id = %(organization_id)s AND id = %(target_id)s"
        " AND deleted_at IS NULL",
        link,
    )
    return await cursor.fetchone()


async def files_of(conn: Connection, organization_id: str, item_ids: Sequence[str]) -> dict[str, list[Row]]:
    """The live files of items, by item."""
    cursor = await conn.execute(
        "SELECT id, item_id, key, title, href, external, media_type, roles, file_name, file_size_bytes, checksum FROM asset"
        " WHERE organization_id = %s AND item_id = ANY(%s::uuid[]) AND deleted_at IS NULL ORDER BY created_at, key, id",
        (organization_id, list(item_ids)),
    )
    found: dict[str, list[Row]] = {item_id: [] for item_id in item_ids}
    for row in await cursor.fetchall():
        found[row["item_id"]].append(row)
    return found


async def file_of(conn: Connection, organization_id: str, asset_id: str) -> Row | None:
    """A live file of the organization, with what its item is filed under and how it stands."""
    cursor = await conn.execute(
        "SELECT a.id, a.organization_id, a.item_id, a.href, a.external, a.media_type, a.file_name, a.file_size_bytes,"
        " i.collection_id, i.lifecycle_state FROM asset a JOIN item i ON i.id = a.item_id AND i.deleted_at IS NULL"
        " JOIN project p ON p.id = i.project_id AND p.deleted_at IS NULL"
        " WHERE a.organization_id = %s AND a.id = %s AND a.deleted_at IS NULL",
        (organization_id, asset_id),
    )
    return await cursor.fetchone()


async def visualizations_of(conn: Connection, organization_id: str, item_ids: Sequence[str]) -> dict[str, list[Row]]:
    """The ways to look at items, by item, the one that is shown unasked first."""
    cursor = await conn.execute(
        "SELECT item_id, id, name FROM visualization_profile WHERE organization_id = %s AND item_id = ANY(%s::uuid[])"
        " ORDER BY is_default DESC, sort_order, id",
        (organization_id, list(item_ids)),
    )
    found: dict[str, list[Row]] = {item_id: [] for item_id in item_ids}
    for row in await cursor.fetchall():
        found[row["item_id"]].append(row)
    return found
