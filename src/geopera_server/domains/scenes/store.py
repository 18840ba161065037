"""The sample scenes in the index."""

from __future__ import annotations

from geopera_server.db.pool import Connection, Row


async def samples_by_host(conn: Connection) -> list[Row]:
    """Each active source that has samples, by title, with how many, and what their platforms and finest resolutions are."""
    cursor = await conn.execute(
        "SELECT s.host AS id, c.title AS name, lower(s.properties ->> 'platform') AS platform, count(*) AS samples,"
        " min(CASE jsonb_typeof(s.properties -> 'gsd') WHEN 'number' THEN (s.properties ->> 'gsd')::float8 END) AS gsd"
        " FROM scene s JOIN catalog_source c ON c.id = s.host AND c.active"
        """ WHERE s.deleted_at IS NULL AND s.properties @> '{"geopera:sample": true}'"""
        " GROUP BY 1, 2, 3 ORDER BY 2, 1, 3"
    )
    return await cursor.fetchall()


async def samples_page(conn: Connection, host: str, *, limit: int, offset: int) -> list[Row]:
    """The ids of one page of a host's samples, newest first."""
    cursor = await conn.execute(
        "SELECT id FROM scene"
        """ WHERE host = %s AND deleted_at IS NULL AND properties @> '{"geopera:sample": true}'"""
        " ORDER BY captured_at DESC, id LIMIT %s OFFSET %s",
        (host, limit, offset),
    )
    return await cursor.fetchall()


async def sample_of_each_platform(conn: Connection) -> list[Row]:
    """The newest sample of each platform."""
    cursor = await conn.execute(
        "SELECT DISTINCT ON (lower(s.properties ->> 'platform')) s.host, s.id, lower(s.properties ->> 'platform') AS platform"
        " FROM scene s JOIN catalog_source c ON c.id = s.host AND c.active"
        """ WHERE s.deleted_at IS NULL AND s.properties @> '{"geopera:sample": true}'"""
        " AND s.properties ->> 'platform' IS NOT NULL"
        " ORDER BY lower(s.properties ->> 'platform'), s.captured_at DESC, s.id"
    )
    return await cursor.fetchall()
