"""The registry of sources, the scene index's writing side, and what hosts have answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.catalog.sources import Source

_SOURCE_FIELDS = frozenset(each.name for each in fields(Source))


async def active_sources(conn: Connection) -> list[Source]:
    """Every source that searches may ask, by title."""
    cursor = await conn.execute("SELECT * FROM catalog_source WHERE active ORDER BY title, id")
    return [_source(row) for row in await cursor.fetchall()]


async def source_of(conn: Connection, source_id: str) -> Source | None:
    """One source, active or not."""
    cursor = await conn.execute("SELECT * FROM catalog_source WHERE id = %s", (source_id,))
    row = await cursor.fetchone()
    return None if row is None else _source(row)


async def lock_source(conn: Connection, source_id: str) -> Source | None:
    """One source that nobody else may change until the transaction ends."""
    cursor = await conn.execute("SELECT * FROM catalog_source WHERE id = %s FOR UPDATE", (source_id,))
    row = await cursor.fetchone()
    return None if row is None else _source(row)


async def save_source(conn: Connection, source: Source, at: datetime) -> None:
    """Inserts or replaces one row of the registry."""
    await conn.execute(
        "INSERT INTO catalog_source (id, title, description, access_model, scope, countries, attribution, license, vendor,"
        " collections, connector, coverage, active, updated_at) VALUES (%(id)s, %(title)s, %(description)s,"
        " %(access_model)s, %(scope)s, %(countries)s, %(attribution)s, %(license)s, %(vendor)s, %(collections)s,"
        " %(connector)s, %(coverage)s, %(active)s, %(at)s)"
        " ON CONFLICT (id) DO UPDATE SET title = EXCLUDED.title, description = EXCLUDED.description,"
        " access_model = EXCLUDED.access_model, scope = EXCLUDED.scope, countries = EXCLUDED.countries,"
        " attribution = EXCLUDED.attribution, license = EXCLUDED.license, vendor = EXCLUDED.vendor,"
        " collections = EXCLUDED.collections, connector = EXCLUDED.connector, coverage = EXCLUDED.coverage,"
        " active = EXCLUDED.active, updated_at = EXCLUDED.updated_at",
        {**_source_row(source), "at": at},
    )


async def add_source(conn: Connection, source: Source, at: datetime) -> None:
    """Inserts one row of the registry and leaves one that is there as it is."""
    await conn.execute(
        "INSERT INTO catalog_source (id, title, description, access_model, scope, countries, attribution, license, vendor,"
        " collections, connector, coverage, active, updated_at) VALUES (%(id)s, %(title)s, %(description)s,"
        " %(access_model)s, %(scope)s, %(countries)s, %(attribution)s, %(license)s, %(vendor)s, %(collections)s,"
        " %(connector)s, %(coverage)s, %(active)s, %(at)s) ON CONFLICT (id) DO NOTHING",
        {**_source_row(source), "at": at},
    )


async def scene_kinds(conn: Connection) -> list[Row]:
    """What kinds of scenes the index has had, host by host."""
    cursor = await conn.execute("SELECT host, collection, vendor, resolution FROM scene_kind ORDER BY 1, 2, 3, 4")
    return await cursor.fetchall()


async def has_scenes(conn: Connection, host: str) -> bool:
    """Says whether the index holds any scene of a host."""
    cursor = await conn.execute("SELECT 1 FROM scene WHERE host = %s AND deleted_at IS NULL LIMIT 1", (host,))
    return await cursor.fetchone() is not None


async def hosts_indexing(conn: Connection, scene_ids: Sequence[str]) -> set[str]:
    """The hosts that have any of these scenes in the index."""
    cursor = await conn.execute(
        "SELECT DISTINCT host FROM scene WHERE id = ANY (%s) AND deleted_at IS NULL", (list(scene_ids),)
    )
    return {row["host"] for row in await cursor.fetchall()}


async def save_scenes(conn: Connection, host: str, scenes: Sequence[Row], *, replace: bool, at: datetime) -> dict[str, str]:
    """Writes scenes and returns which of them were `new` or `known`; known ones change only with `replace`.

    A deleted scene comes back in any case. Ids that are missing in the answer were known and left alone.
    """
    cursor = await conn.execute(
        "INSERT INTO scene (host, id, collection, vendor, resolution, captured_at, period, footprint, extent,"
        " extent_across, properties, assets, updated_at)"
        " SELECT %(host)s, id, collection, vendor, resolution, captured_at, tstzrange(starts_at, ends_at, '[]'), footprint,"
        " extent, extent_across, properties, assets, %(at)s"
        " FROM jsonb_to_recordset(%(scenes)s) AS given (id text, collection text, vendor text, resolution text,"
        " captured_at timestamptz, starts_at timestamptz, ends_at timestamptz, footprint jsonb, extent box,"
        " extent_across box, properties jsonb, assets jsonb)"
        " ON CONFLICT (host, id) DO UPDATE SET collection = EXCLUDED.collection, vendor = EXCLUDED.vendor,"
        " resolution = EXCLUDED.resolution, captured_at = EXCLUDED.captured_at, period = EXCLUDED.period,"
        " footprint = EXCLUDED.footprint, extent = EXCLUDED.extent, extent_across = EXCLUDED.extent_across,"
        " properties = EXCLUDED.properties, assets = EXCLUDED.assets, updated_at = EXCLUDED.updated_at, deleted_at = NULL"
        " WHERE %(replace)s OR scene.deleted_at IS NOT NULL"
        " RETURNING id, CASE WHEN xmax = 0 THEN 'new' ELSE 'known' END AS what",
        {"host": host, "scenes": Jsonb(list(scenes)), "replace": replace, "at": at},
    )
    return {row["id"]: row["what"] for row in await cursor.fetchall()}


async def note_kinds(conn: Connection, host: str, scenes: Sequence[Row]) -> None:
    """Remembers the kinds of these scenes and how long the longest of each lasts."""
    await conn.execute(
        "INSERT INTO scene_kind AS kept (host, collection, vendor, resolution, longest)"
        " SELECT %(host)s, collection, vendor, resolution, max(ends_at - starts_at)"
        " FROM jsonb_to_recordset(%(scenes)s) AS given (collection text, vendor text, resolution text,"
        " starts_at timestamptz, ends_at timestamptz) GROUP BY 2, 3, 4"
        " ON CONFLICT (host, collection, vendor, resolution)"
        " DO UPDATE SET longest = greatest(kept.longest, EXCLUDED.longest)",
        {"host": host, "scenes": Jsonb([{key: scene[key] for key in _KIND} for scene in scenes])},
    )


async def delete_scenes(conn: Connection, host: str, ids: Sequence[str], at: datetime) -> int:
    """Takes scenes out of every search and returns how many there were; orders keep what they found."""
    cursor = await conn.execute(
        "UPDATE scene SET deleted_at = %s WHERE host = %s AND id = ANY (%s) AND deleted_at IS NULL", (at, host, list(ids))
    )
    return cursor.rowcount


async def replies_of(conn: Connection, host: str, keys: Sequence[str]) -> dict[str, Row]:
    """What a host last answered to these questions, and when."""
    cursor = await conn.execute(
        "SELECT query_hash, reply, fetched_at FROM host_reply WHERE host = %s AND query_hash = ANY (%s)", (host, list(keys))
    )
    return {row["query_hash"]: row for row in await cursor.fetchall()}


async def keep_replies(conn: Connection, host: str, replies: dict[str, bytes], at: datetime) -> None:
    """Remembers what a host answers."""
    await conn.execute(
        "INSERT INTO host_reply (host, query_hash, reply, fetched_at)"
        " SELECT %s, given.*, %s FROM unnest(%s::text[], %s::bytea[]) AS given"
        " ON CONFLICT (host, query_hash) DO UPDATE SET reply = EXCLUDED.reply, fetched_at = EXCLUDED.fetched_at",
        (host, at, list(replies), list(replies.values())),
    )


async def forget_replies_of(conn: Connection, host: str) -> None:
    """Forgets all that a host has answered."""
    await conn.execute("DELETE FROM host_reply WHERE host = %s", (host,))


async def forget_old_replies(conn: Connection, before: datetime) -> None:
    """Forgets answers that are too old even for a host that is down."""
    await conn.execute("DELETE FROM host_reply WHERE fetched_at < %s", (before,))


_KIND = ("collection", "vendor", "resolution", "starts_at", "ends_at")


def _source(row: Row) -> Source:
    return Source(**{name: value for name, value in row.items() if name in _SOURCE_FIELDS})


def _source_row(source: Source) -> dict[str, Any]:
    coverage = None if source.coverage is None else Jsonb(source.coverage)
    return {
        **asdict(source),
        "countries": list(source.countries),
        "collections": Jsonb(source.collections),
        "connector": Jsonb(source.connector),
        "coverage": coverage,
    }
