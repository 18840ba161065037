"""The scene index with tens of thousands of scenes: every way of searching uses an index and reads little."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import pytest_asyncio
from shapely.geometry import box, mapping

from geopera_server.adapters.hosts import archive
from geopera_server.db.pool import make_pool
from geopera_server.ports.host import HostQuery
from support.catalogue import put_scenes, source

ROWS = 40_000
# Half of the scenes crowd into a belt, the rest lie all over the Earth; one every 40 minutes.
_FILL = """
INSERT INTO scene (host, id, collection, vendor, resolution, captured_at, period, footprint, extent, properties, assets,
                   updated_at)
SELECT 'big', 'S' || n, 'c' || n %% 3, 'v', '0.5m', at, tstzrange(at, at, '[]'),
       format('{"type":"Polygon","coordinates":[[[%%1$s,%%2$s],[%%3$s,%%2$s],[%%3$s,%%4$s],[%%1$s,%%4$s],[%%1$s,%%2$s]]]}',
              x, y, x + 0.2, y + 0.2)::jsonb,
       box(point(x, y), point(x + 0.2, y + 0.2)), jsonb_build_object('eo:cloud_cover', n %% 101), '{}', at
  FROM (SELECT n, timestamptz '2020-01-01' + n * interval '40 minutes' AS at, abs(hashint4(n)::bigint) %% 35900 / 100.0 - 179.8 AS x,
               CASE n %% 2 WHEN 0 THEN 40 + abs(hashint4(n + 1)::bigint) %% 100 / 50.0
                           ELSE abs(hashint4(n + 1)::bigint) %% 17000 / 100.0 - 85 END AS y
          FROM generate_series(1, %s::integer) AS n) AS made
"""

QUERIES = {
    "newest": HostQuery(),
    "small area": HostQuery(geometry=mapping(box(10, 41, 11, 42))),
    "area without scenes": HostQuery(geometry=mapping(box(-60, -90, 60, -86))),
    "the Earth": HostQuery(geometry=mapping(box(-180, -90, 180, 90))),
    "one day of the Earth": HostQuery(
        geometry=mapping(box(-180, -90, 180, 90)), start=datetime(2021, 3, 1, tzinfo=UTC), end=datetime(2021, 3, 2, tzinfo=UTC)
    ),
    "long ago": HostQuery(end=datetime(2020, 1, 20, tzinfo=UTC)),
    "unknown collection": HostQuery(collections=("none",)),
    "some ids": HostQuery(ids=("S1", "S20000")),
}


@pytest_asyncio.fixture(scope="module")
async def conn(cluster, template):
    dsn = cluster.create_database(template[0])
    pool = make_pool(dsn, min_size=1, max_size=1)
    await pool.open()
    async with pool.connection() as connection:
        await put_scenes(connection, source("big"), [])
        await connection.execute(_FILL, (ROWS,))
        await connection.execute(
            "INSERT INTO scene_kind SELECT DISTINCT host, collection, vendor, resolution, interval '0' FROM scene"
        )
        await connection.execute("VACUUM ANALYZE scene")
        # Statements are prepared in production, and then planned without seeing their values.
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        yield connection
    await pool.close()
    cluster.drop_database(dsn)


def nodes(plan):
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
async def test_no_search_reads_much(conn, query):
    asked = {"host": "big", **archive._parameters(query), **archive._position(None)}
    way = await archive._way(conn, query, asked)
    cursor = await conn.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {archive._WAYS[way]}", asked)
    (row,) = await cursor.fetchall()
    plan = row["QUERY PLAN"][0]["Plan"]
    scanned = [node for node in nodes(plan) if node.get("Relation Name") == "scene" and node["Node Type"] == "Seq Scan"]
    assert scanned == []
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 2_500


@pytest.mark.parametrize(
    ("query", "way"),
    [
        (QUERIES["small area"], "place"), (QUERIES["area without scenes"], "place"), (QUERIES["the Earth"], "time"),
        (QUERIES["one day of the Earth"], "time"),
    ],
)  # fmt: skip
async def test_the_shorter_way_is_taken(conn, query, way):
    asked = {"host": "big", **archive._parameters(query), **archive._position(None)}
    assert await archive._way(conn, query, asked) == way
