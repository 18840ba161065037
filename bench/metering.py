"""What counting use costs: a read with and without its count, a flush, and an asset row with and without its storage entry.

Both sides run in one process over one database, in turn, round by round; the ratio of each round is taken and the median of
the ratios printed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import statistics
import sys
import tempfile
import time
from pathlib import Path

import uvloop

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parent)]

from geopera_server.domains.usage.metering import Meter
from geopera_server.values.ids import new_id
from machine import described
from overhead import Wire, rate
from support.postgres import TestCluster
from support.serving import Serving, prepared_template, served
from support.stored import stored_asset

ROUNDS = 31
READS = 400
COUNTS = 200_000
KEYS = (1, 100, 1_000, 10_000)
ASSETS = 200


class Uncounted:
    """A meter that counts nothing."""

    def count(self, organization_id, kind, amount=1, project_id=None) -> None:
        pass


def told(name: str, unit: str, pairs: list[tuple[float, float]]) -> None:
    """Prints the medians of both sides and the median of their ratios, which is above 1 where counting costs something."""
    mine, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = sorted(a / b for a, b in pairs)
    low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
    print(
        f"{name}: {mine:,.1f} {unit} counted, {theirs:,.1f} {unit} not, ratio {statistics.median(ratios):.3f} ({low:.3f}-{high:.3f})"
    )


async def reads(server: Serving) -> None:
    headers = {"Authorization": f"Bearer {(await server.signed_in(server.place.home.email)).token}"}
    call = Wire(server.house.asgi, "/v1/op/billing.credits.balance", headers)
    kernel, counted = server.house.kernel, server.house.kernel.ports
    sides = (counted, dataclasses.replace(counted, meter=Uncounted()))
    for clients in (1, 8):
        pairs = []
        for number in range(ROUNDS):
            took = {}
            for side in (0, 1) if number % 2 else (1, 0):
                kernel.ports = sides[side]
                took[side] = 1e6 / await rate(READS, clients, call)
            pairs.append((took[0], took[1]))
        told(f"read billing.credits.balance, {clients} client(s)", "us", pairs)
    kernel.ports = counted


async def counting(server: Serving) -> None:
    meter, organization_id = Meter(server.house.pool.connection), server.place.home.organization_id
    started = time.perf_counter()
    for _ in range(COUNTS):
        meter.count(organization_id, "api_requests")
    print(f"one count: {(time.perf_counter() - started) / COUNTS * 1e9:,.0f} ns")
    for keys in KEYS:
        projects = [new_id() for _ in range(keys)]
        took = []
        for _ in range(5):
            for project_id in projects:
                meter.count(organization_id, "tile_requests", 1, project_id)
            started = time.perf_counter()
            assert await meter.flush()
            took.append(time.perf_counter() - started)
        print(f"a flush of {keys:,} counters: {statistics.median(took) * 1000:,.1f} ms")


async def assets(server: Serving) -> None:
    home = server.place.home

    async def one_round(conn) -> float:
        async def sql(query, *values):
            await conn.execute(query, values)

        started = time.perf_counter()
        for _ in range(ASSETS):
            async with conn.transaction():
                await stored_asset(sql, home.organization_id, home.project_id, 1_000_000)
        return (time.perf_counter() - started) / ASSETS * 1e6

    pairs = []
    async with server.house.pool.connection() as conn:
        for _ in range(7):
            await conn.execute("ALTER TABLE asset DISABLE TRIGGER asset_moves_storage")
            without = await one_round(conn)
            await conn.execute("ALTER TABLE asset ENABLE TRIGGER asset_moves_storage")
            pairs.append((await one_round(conn), without))
    told("an item and its asset in one transaction", "us", pairs)


async def main() -> None:
    print(f"# {described()}")
    with TestCluster() as cluster, tempfile.TemporaryDirectory() as folder:
        dsn = cluster.create_database()
        place = await prepared_template(dsn)
        async with served(
            dsn, place, data_dir=Path(folder), background=False, check_replies=False, rate_default=10**9
        ) as server:
            await reads(server)
            await counting(server)
            await assets(server)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
