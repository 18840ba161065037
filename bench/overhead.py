"""What the pipeline costs: a read against a bare route, and placing an order against one hand-written transaction.

Both sides run in one process over one database and one connection pool, in turn, round by round; the ratio of each round is
taken and the median of the ratios printed. Run with `make bench`.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from psycopg.types.json import Jsonb
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parent)]

from geopera_server.domains.billing.store.wallets import wallet_of
from geopera_server.values.encoding import dumps
from geopera_server.values.ids import new_id
from machine import described
from support.postgres import TestCluster
from support.scenes import open_archive
from support.serving import Serving, prepared_template, served

ROUNDS = 7
READS = 1_500
PLACES = 150
CLIENTS = 8
SHARED = Path(__file__).parents[2] / "shared" / "data"


def bare(server: Serving) -> Starlette:
    """Returns an application with one route: the same query, no identity, no rates, no audit."""
    pool, organization_id = server.house.pool, server.place.home.organization_id

    async def balance(_request: Request) -> Response:
        async with pool.connection() as conn:
            row = await wallet_of(conn, organization_id)
        return Response(dumps(row), media_type="application/json")

    return Starlette(routes=[Route("/balance", balance, methods=["POST"])])


async def rate(count: int, clients: int, one) -> float:
    """Returns how many calls per second the clients get through together."""

    async def client(share: int) -> None:
        for _ in range(share):
            await one()

    started = time.perf_counter()
    await asyncio.gather(*(client(count // clients) for _ in range(clients)))
    return count / (time.perf_counter() - started)


async def in_turn(name: str, unit: str, ours, floor, count: int, clients: int) -> None:
    """Times both sides round by round and prints their medians and the ratio."""
    rates = []
    for _ in range(ROUNDS):
        rates.append((await rate(count, clients, ours), await rate(count, clients, floor)))
    mine, theirs = (statistics.median(side) for side in zip(*rates, strict=True))
    ratio = statistics.median(a / b for a, b in rates)
    low, high = min(a / b for a, b in rates), max(a / b for a, b in rates)
    print(
        f"{name}, {clients} client(s): {mine:,.0f} {unit}/s, floor {theirs:,.0f} {unit}/s, ratio {ratio:.2f} ({low:.2f}-{high:.2f})"
    )


class Wire:
    """Calls an ASGI application without a socket, so that the client's own work weighs as little as possible."""

    def __init__(self, app, path: str, headers: dict[str, str], body: bytes = b"{}") -> None:
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        raw += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        self._scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": raw,
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        }  # fmt: skip
        self._app = app
        self._body = body

    async def __call__(self) -> None:
        status = 0

        async def receive():
            return {"type": "http.request", "body": self._body, "more_body": False}

        async def send(message) -> None:
            nonlocal status
            status = message.get("status", status)

        await self._app({**self._scope, "state": {}}, receive, send)
        assert 200 <= status < 300, status


async def reads(server: Serving) -> None:
    headers = {"Authorization": f"Bearer {(await server.signed_in(server.place.home.email)).token}"}
    ours = Wire(server.house.asgi, "/v1/op/billing.credits.balance", headers)
    floor = Wire(bare(server), "/balance", {})
    for clients in (1, CLIENTS):
        await in_turn("read billing.credits.balance", "calls", ours, floor, READS, clients)


async def places(server: Serving, aoi: dict) -> None:
    capture = {"id": "TEST_BOLZANO_1", "host": "test-archive", "geometry": aoi}
    body = {"projectId": server.place.home.project_id, "captures": [capture]}
    await server.home.op("orders.archive.place", body)
    rows = await rows_of_one_order(server)
    headers = {"Authorization": f"Bearer {server.place.home.api_key}"}
    ours = Wire(server.house.asgi, "/v1/op/orders.archive.place", headers, dumps(body))

    async def floor() -> None:
        await insert_again(server, rows)

    for clients in (1, CLIENTS):
        await in_turn("orders.archive.place", "orders", ours, floor, PLACES, clients)


TABLES = ("orders", "order_group", "order_capture", "order_event", "ledger_hold", "ledger_entry", "lineage_record", "lineage_edge",
          "outbox_event", "job", "audit_event")  # fmt: skip


async def rows_of_one_order(server: Serving) -> dict[str, list[dict]]:
    """Returns every row that the placed order made, table by table."""
    [order] = await server.sql("SELECT id FROM orders")
    [record] = await server.sql("SELECT invocation_id, id FROM lineage_record WHERE entity_type = 'order'")
    where = {
        "orders": ("id", order["id"]), "order_group": ("order_id", order["id"]), "order_capture": ("order_id", order["id"]),
        "order_event": ("order_id", order["id"]), "ledger_hold": ("order_id", order["id"]), "ledger_entry": ("order_id", order["id"]),
        "lineage_record": ("id", record["id"]), "lineage_edge": ("record_id", record["id"]),
        "outbox_event": ("entity_id", order["id"]), "job": ("entity_id", order["id"]),
        "audit_event": ("invocation_id", record["invocation_id"]),
    }  # fmt: skip
    generated = await server.sql(
        "SELECT table_name, column_name FROM information_schema.columns WHERE is_generated = 'ALWAYS' OR is_identity = 'YES'"
    )
    skipped = {(row["table_name"], row["column_name"]) for row in generated} | {
        ("lineage_record", c) for c in ("seq", "prev_hash", "hash")
    }
    rows = {}
    for table, (column, value) in where.items():
        found = await server.sql(f"SELECT * FROM {table} WHERE {column}::text = %s", str(value))
        rows[table] = [{k: v for k, v in row.items() if (table, k) not in skipped} for row in found]
    for hold in rows["ledger_hold"]:
        hold.update(reserved=0, settled=0, released=0)
    rows["order"] = [{"id": order["id"]}]
    return rows


async def insert_again(server: Serving, rows: dict[str, list[dict]]) -> None:
    """Inserts the same rows under fresh ids in one transaction, written by hand: pipelined, nothing checked."""
    fresh: dict[str, str] = {}

    def renewed(value):
        if isinstance(value, str) and value in known:
            return fresh.setdefault(value, new_id())
        return Jsonb(value) if isinstance(value, (dict, list)) and not is_text_array(value) else value

    known = {
        row["id"]
        for table in ("orders", "order_group", "ledger_hold", "ledger_entry", "outbox_event", "job")
        for row in rows[table]
    }
    known |= {row["invocation_id"] for row in rows["audit_event"]}
    async with server.house.pool.connection() as conn, conn.transaction():
        for table in TABLES:
            if table == "lineage_edge":
                continue
            for row in rows[table]:
                values = {key: renewed(value) for key, value in row.items()}
                if table == "ledger_entry":
                    values["external_ref"] = f"hold:{values['hold_id']}"
                if table == "lineage_record":
                    values["entity_id"] = fresh.get(row["entity_id"], row["entity_id"])
                returning = " RETURNING id" if table == "lineage_record" else ""
                cursor = await conn.execute(statement(table, tuple(values)) + returning, values)
                if returning:
                    record_id = (await cursor.fetchone())["id"]
                    for edge in rows["lineage_edge"]:
                        linked = {**edge, "record_id": record_id, "src_id": values["entity_id"]}
                        await conn.execute(statement("lineage_edge", tuple(linked)), linked)


def is_text_array(value) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


_STATEMENTS: dict[tuple[str, tuple[str, ...]], str] = {}


def statement(table: str, columns: tuple[str, ...]) -> str:
    key = (table, columns)
    if key not in _STATEMENTS:
        values = ", ".join(f"%({column})s" for column in columns)
        _STATEMENTS[key] = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values})"
    return _STATEMENTS[key]


async def main() -> None:
    print(f"# {described()}")
    with TestCluster() as cluster, tempfile.TemporaryDirectory() as folder:
        dsn = cluster.create_database()
        place = await prepared_template(dsn)
        async with served(
            dsn, place, data_dir=Path(folder), source_roots=[SHARED], background=False, check_replies=False
        ) as server:
            await reads(server)
            aoi = await open_archive(server, SHARED)
            grant = {"organization_id": place.home.organization_id, "credits": 2_000_000_000, "reason": "bench"}
            await (await server.operator()).op("billing.admin.grant_credits", grant, Idempotency_Key="bench")
            await places(server, aoi)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
