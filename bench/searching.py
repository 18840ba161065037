"""What a search costs through HTTP, from 10^4 to 10^6 items, against stac-fastapi-pgstac on the same items.

The items are 10,000 real NAIP scenes over Colorado, read from the shared data folder; larger archives hold them again, half at
the same places at other times, half elsewhere. Every search names a place and a time; some a property besides. Ours are
authenticated, counted and audited, one client after the other's reply, and so is the peer's, without any of that. The peer is
asked when GEOPERA_BENCH_PGSTAC names the address of one that holds the same items; else what it was measured at before on a
machine of this kind stands in its place. GEOPERA_BENCH_ITEMS names other sizes than 10000,100000,1000000.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Self

import httpx
import orjson
import psycopg
import uvloop
from psycopg.types.json import Jsonb

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parent)]

from geopera_server.values.ids import new_id
from machine import described
from support.postgres import TestCluster
from support.serving import Place, Serving, prepared_template, served

SHARED = Path(os.environ.get("GEOPERA_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
SIZES = [int(size) for size in os.environ.get("GEOPERA_BENCH_ITEMS", "10000,100000,1000000").split(",")]
PEER = os.environ.get("GEOPERA_BENCH_PGSTAC")
PEER_BEFORE = {10: 35.0, 100: 6.0}  # searches per second of stac-fastapi-pgstac 7.2 over these 10,000 items, 2 cores
SEARCHES = 150
ROUNDS = 3
TIME = "2021-01-01T00:00:00Z/2021-12-31T23:59:59Z"
PROPERTY = {"op": "=", "args": [{"property": "naip:state"}, "co"]}
CLOUDLESS = {"op": "<=", "args": [{"property": "gsd"}, 0.6]}

SEALED = 1_000_000_000

READ_PARQUET = """
import json, sys, datetime, pyarrow.parquet as parquet, shapely
for row in parquet.read_table(sys.argv[1]).to_pylist():
    plain = {k: v.isoformat() if isinstance(v, datetime.datetime) else v for k, v in row.items() if v is not None}
    geometry = json.loads(shapely.to_geojson(shapely.from_wkb(plain.pop("geometry"))))
    box = plain.pop("bbox")
    assets = {k: {n: v for n, v in a.items() if v is not None} for k, a in plain.pop("assets").items() if a}
    top = {name: plain.pop(name) for name in ("id", "stac_extensions")}
    for name in ("type", "stac_version", "links", "collection"):
        plain.pop(name, None)
    bbox = [box["xmin"], box["ymin"], box["xmax"], box["ymax"]]
    print(json.dumps({**top, "geometry": geometry, "bbox": bbox, "assets": assets, "properties": plain}))
"""

INSERT_ITEM = (
    "INSERT INTO item (id, organization_id, project_id, collection_id, stac_id, type, name, datetime, period, geometry, bbox, extent,"
    " gsd, properties, stac_extensions, created_at, updated_at) VALUES (%(id)s, %(organization)s, %(project)s, %(collection)s,"
    " %(stac_id)s, 'external_reference', %(stac_id)s, %(at)s, tstzrange(%(at)s, %(at)s, '[]'), %(geometry)s, %(bbox)s,"
    " %(extent)s::box, %(gsd)s, %(properties)s, %(extensions)s, now(), now())"
)
INSERT_ASSET = (
    "INSERT INTO asset (id, organization_id, project_id, item_id, key, title, href, external, media_type, roles, file_name,"
    " file_size_bytes, band_names, created_at, updated_at) VALUES (%s, %s, %s, %s, %s, %s, %s, true, %s, %s, %s, 0, %s, now(), now())"
)
# As the sealer leaves it, so that features may be kept and nobody is still sealing while searches are timed.
INSERT_LINEAGE = (
    "INSERT INTO lineage_record (organization_id, invocation_id, operation_id, principal_type, kind, entity_type, entity_id,"
    " digest_after, recorded_at, record_digest, seq, prev_hash, hash) VALUES (%s, gen_random_uuid(), 'bench', 'service', 'edge',"
    " 'item', %s, 'x', now(), 'x', %s, repeat('0', 64), repeat('0', 64))"
)
CLONE = """
WITH shift AS (
    SELECT n, CASE WHEN mod(n, 2) = 0 THEN 0 ELSE mod(n * 7, 30) * 9.0 - 60 END AS dx,
           CASE WHEN mod(n, 2) = 0 THEN 0 ELSE mod(n * 5, 20) * 6.0 - 90 END AS dy,
           n * interval '37 days 3 hours' * CASE WHEN mod(n, 4) < 2 THEN -1 ELSE 1 END AS later
      FROM generate_series(%(first)s::integer, %(last)s::integer) AS n
), made AS (
    INSERT INTO item (id, organization_id, project_id, collection_id, stac_id, type, name, datetime, period, geometry, bbox,
                      extent, gsd, properties, stac_extensions, created_at, updated_at)
    SELECT gen_random_uuid(), organization_id, project_id, collection_id, stac_id || '-' || n, type, name, datetime + later,
           tstzrange(datetime + later, datetime + later, '[]'),
           jsonb_set(geometry, '{coordinates,0}', (
               SELECT jsonb_agg(jsonb_build_array((e ->> 0)::float8 + dx, (e ->> 1)::float8 + dy) ORDER BY place)
                 FROM jsonb_array_elements(geometry #> '{coordinates,0}') WITH ORDINALITY AS ring (e, place))),
           ARRAY[bbox[1] + dx, bbox[2] + dy, bbox[3] + dx, bbox[4] + dy], extent + point(dx, dy), gsd, properties,
           stac_extensions, now(), now()
      FROM item CROSS JOIN shift WHERE stac_id NOT LIKE '%%-%%' RETURNING id, stac_id, organization_id
), files AS (
    INSERT INTO asset (id, organization_id, project_id, item_id, key, title, href, external, media_type, roles, file_name,
                       file_size_bytes, band_names, created_at, updated_at)
    SELECT gen_random_uuid(), a.organization_id, a.project_id, m.id, a.key, a.title, a.href, a.external, a.media_type, a.roles,
           a.file_name, 0, a.band_names, now(), now()
      FROM made m JOIN item s ON s.organization_id = m.organization_id AND s.stac_id = split_part(m.stac_id, '-', 1)
      JOIN asset a ON a.item_id = s.id
)
INSERT INTO lineage_record (organization_id, invocation_id, operation_id, principal_type, kind, entity_type, entity_id,
                            digest_after, recorded_at, record_digest, seq, prev_hash, hash)
SELECT organization_id, gen_random_uuid(), 'bench', 'service', 'edge', 'item', id::text, 'x', now(), 'x',
       2000000000 + %(first)s * 100000 + row_number() OVER (), repeat('0', 64), repeat('0', 64) FROM made
"""


def scenes() -> list[dict]:
    """Returns the real items; pyarrow, which reads them, is no dependency of ours."""
    source = SHARED / "stac" / "naip.parquet"
    if not source.exists():
        sys.exit(
            f"The NAIP items are missing: set GEOPERA_TEST_DATA to the folder that holds stac/naip.parquet (looked for {source})."
        )
    uv = os.environ.get("UV", "uv")
    command = [
        uv,
        "run",
        "--quiet",
        "--no-project",
        "--with",
        "pyarrow",
        "--with",
        "shapely",
        "python",
        "-c",
        READ_PARQUET,
        source,
    ]
    lines = subprocess.run(command, check=True, capture_output=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


def load(dsn: str, place: Place, found: list[dict]) -> None:
    """Puts the scenes into a collection of the home organization, with files elsewhere and sealed lineage."""
    home = {"organization": place.home.organization_id, "project": place.home.project_id, "collection": new_id()}
    with psycopg.connect(dsn, autocommit=True) as conn, conn.transaction(), conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO collection (id, organization_id, project_id, name, created_at, updated_at)"
            " VALUES (%(collection)s, %(organization)s, %(project)s, 'NAIP', now(), now())",
            home,
        )
        rows, files = [], []
        for scene in found:
            west, south, east, north = scene["bbox"]
            properties = {name: value for name, value in scene["properties"].items() if name not in {"datetime", "gsd"}}
            rows.append(
                home | {"id": new_id(), "stac_id": scene["id"], "at": datetime.fromisoformat(scene["properties"]["datetime"]),
                        "geometry": Jsonb(scene["geometry"]), "bbox": scene["bbox"], "gsd": scene["properties"]["gsd"],
                        "extent": f"({east!r},{north!r}),({west!r},{south!r})", "properties": Jsonb(properties),
                        "extensions": scene["stac_extensions"]}
            )  # fmt: skip
            for key, asset in scene["assets"].items():
                bands = [band["name"] for band in asset.get("eo:bands") or ()]
                kept = (asset.get("title"), asset["href"], asset["type"], asset.get("roles") or [], key, bands)
                files.append((new_id(), home["organization"], home["project"], rows[-1]["id"], key, *kept))
        cursor.executemany(INSERT_ITEM, rows)
        cursor.executemany(INSERT_ASSET, files)
        cursor.executemany(INSERT_LINEAGE, [(home["organization"], row["id"], SEALED + n) for n, row in enumerate(rows)])


def grow(dsn: str, times_before: int, times: int) -> None:
    """Makes the archive that many times as large as the scenes."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        for first in range(times_before, times, 10):
            conn.execute(CLONE, {"first": first, "last": min(first + 9, times - 1)})
        conn.execute("VACUUM ANALYZE")


def search(dice: random.Random, size: float, limit: int, **more) -> dict:
    west, south = dice.uniform(-109, -102 - size), dice.uniform(37, 41 - size)
    return {"bbox": [west, south, west + size, south + size], "datetime": TIME, "limit": limit, **more}


class Client:
    """Posts bodies to one address over one connection: a whole client's own work would weigh more than the search."""

    def __init__(self, address: str, **headers: str) -> None:
        url = httpx.URL(address)
        self._host, self._port = url.host, url.port or 80
        fields = {"Host": f"{url.host}:{self._port}", "Content-Type": "application/json", **headers}
        self._head = f"POST {url.path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def post(self, body: bytes) -> bytes:
        self._writer.write(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        status, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower().splitlines()
        [length] = [int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")]
        reply = await self._reader.readexactly(length)
        assert " 200 " in status, reply
        return reply


async def rate(client: Client, bodies: list[bytes]) -> float:
    """Returns searches per second of one client."""
    started = time.perf_counter()
    for body in bodies:
        await client.post(body)
    return len(bodies) / (time.perf_counter() - started)


KINDS = (
    ("place and time, 0.3 degrees", 0.3, {}),
    ("place and time, 1 degree", 1.0, {}),
    ("place and time, 3 degrees", 3.0, {}),
    ("and gsd <= 0.6, 1 degree", 1.0, {"filter": CLOUDLESS}),
    ("and naip:state = co, 1 degree", 1.0, {"filter": PROPERTY}),
)


async def measured(server: Serving, size: int) -> dict[tuple[str, int], float]:
    """Prints searches per second over one archive, beside the peer's, and returns them."""
    token = f"Bearer {server.place.home.api_key}"
    found: dict[tuple[str, int], float] = {}
    async with contextlib.AsyncExitStack() as stack:
        ours = await stack.enter_async_context(Client(f"{server.base_url}/v1/op/stac.search", Authorization=token))
        asked = PEER is not None and size == SIZES[0]
        theirs = await stack.enter_async_context(Client(f"{PEER}/search")) if asked else None
        for name, width, more in KINDS:
            for limit in (10, 100):
                mine, peers = [], []
                for _round in range(ROUNDS + 1):
                    dice = random.Random(limit)
                    bodies = [orjson.dumps(search(dice, width, limit, **more)) for _ in range(SEARCHES)]
                    mine.append(await rate(ours, bodies))
                    if theirs is not None:
                        peers.append(await rate(theirs, bodies[:20]))
                # The first round makes the features that the others find kept.
                found[name, limit] = statistics.median(mine[1:])
                show(size, name, limit, found[name, limit], statistics.median(peers[1:]) if peers else None)
    return found


def show(size: int, name: str, limit: int, ours: float, theirs: float | None) -> None:
    peer = theirs or PEER_BEFORE[limit]
    mark = " " if theirs else "*"
    print(f"{size:>9,} {name:<30} {limit:>5} {ours:>8,.0f} {peer:>8,.0f}{mark} {ours / peer:>6.1f}", flush=True)


async def main() -> None:
    print(f"# {described()}")
    found, results = scenes(), {}
    with TestCluster() as cluster, tempfile.TemporaryDirectory() as folder:
        dsn = cluster.create_database()
        place = await prepared_template(dsn)
        load(dsn, place, found)
        print(f"{'items':>9} {'searches/s, one client':<30} {'limit':>5} {'ours':>8} {'pgstac':>8} {'ratio':>6}")
        before = 1
        for size in SIZES:
            grow(dsn, before, size // len(found))
            before = size // len(found)
            async with served(dsn, place, data_dir=Path(folder), check_replies=False) as server:
                results[size] = await measured(server, size)
    if not PEER:
        print("* as measured before, over 10,000 items")
    least, most = SIZES[0], SIZES[-1]
    for (name, limit), rate_at_most in results[most].items():
        print(
            f"{name}, limit {limit}: {most:,} items answer at {rate_at_most / results[least][name, limit]:.2f} of the rate of {least:,}"
        )


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
