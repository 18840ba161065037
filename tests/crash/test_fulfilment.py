"""`kill -9` at every named point between placing an order and its delivery: nothing lost, nothing delivered or charged twice."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from geopera_server.kernel.crashing import DELIVERY_POINTS
from support.processes import up, worker
from support.scenes import open_archive
from support.serving import OPENING_CREDITS, served

PLACING = {"place-before-commit", "call-committed"}


@pytest.fixture
async def archive(database, place, tmp_path, shared_data):
    """A prepared database with a priced scene, nobody serving it; returns the AOI."""
    async with served(database, place, data_dir=tmp_path, source_roots=[shared_data], background=False) as server:
        return await open_archive(server, shared_data)


def caller(url: str, place) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {place.home.api_key}"}, timeout=30)


def place_order(http: httpx.Client, place, aoi) -> httpx.Response:
    body = {"projectId": place.home.project_id, "captures": [{"id": "TEST_BOLZANO_1", "host": "test-archive", "geometry": aoi}]}
    return http.post("/v1/op/orders.archive.place", json=body, headers={"Idempotency-Key": "crash"})


def until_fulfilled(http: httpx.Client, order_id: str, *, within_s: float = 60) -> dict:
    deadline = time.monotonic() + within_s
    while True:
        order = http.post("/v1/op/orders.get", json={"order_id": order_id}).json()
        if order["status"] == "fulfilled":
            return order
        assert order["status"] in {"processing", "fulfilling"}, order
        assert time.monotonic() < deadline, f"the order is still {order['status']}"
        time.sleep(0.1)


@pytest.mark.parametrize("point", DELIVERY_POINTS)
def test_killed_at(point, archive, database, place, tmp_path, shared_data):
    with up(tmp_path, database, shared_data, GEOPERA_CRASH_AT=point) as first:
        with caller(first.ready_url(), place) as http:
            if point in PLACING:
                with pytest.raises(httpx.TransportError):
                    place_order(http, place, archive)
            else:
                assert place_order(http, place, archive).status_code == 202
            assert first.was_killed(), f"the point {point} was not reached"
    with up(tmp_path, database, shared_data) as second:
        with caller(second.ready_url(), place) as http:
            placed = place_order(http, place, archive)
            assert placed.status_code == 202, placed.text
            assert ("idempotency-replayed" in placed.headers) == (point != "place-before-commit")
            order = until_fulfilled(http, placed.json()["id"])
        assert second.terminate() == 0
    check_once_and_only_once(database, tmp_path, order)


def check_once_and_only_once(database: str, data_dir: Path, order: dict) -> None:
    """Asserts that there is one order, one item, one payment, and no stored file that nobody registered."""
    with psycopg.connect(database, row_factory=dict_row) as conn:
        counts = conn.execute(
            "SELECT (SELECT count(*) FROM orders) AS orders, (SELECT count(*) FROM item) AS items,"
            " (SELECT count(*) FROM ledger_hold) AS holds, (SELECT count(*) FROM ledger_entry WHERE reason = 'settle') AS settles,"
            " (SELECT count(*) FROM job WHERE state <> 'done') AS open_jobs,"
            " (SELECT count(*) FROM outbox_event WHERE type = 'order.fulfilled') AS told"
        ).fetchone()
        account = conn.execute(
            "SELECT a.balance, a.reserved, sum(e.credits)::bigint AS entries FROM ledger_account a JOIN ledger_entry e"
            " USING (organization_id) WHERE organization_id = %s GROUP BY a.balance, a.reserved",
            (order["organizationId"],),
        ).fetchone()
        registered = {row["href"] for row in conn.execute("SELECT href FROM asset").fetchall()}
    assert counts == {"orders": 1, "items": 1, "holds": 1, "settles": 1, "open_jobs": 0, "told": 1}
    left = OPENING_CREDITS - order["totalCredits"]
    assert account == {"balance": left, "reserved": 0, "entries": left}
    assert list((data_dir / "scratch").iterdir()) == []
    objects = data_dir / "objects"
    assert {str(path.relative_to(objects)) for path in objects.rglob("*.tif")} == registered


def test_a_killed_worker_is_replaced_by_another(archive, database, place, tmp_path, shared_data):
    """The API lives in one process and two workers in others; the first is killed in mid-delivery."""
    with (
        up(tmp_path, database, shared_data, GEOPERA_BACKGROUND="false") as api,
        caller(api.ready_url(), place) as http,
        worker(tmp_path, database, shared_data, GEOPERA_CRASH_AT="object-stored") as first,
    ):
        order_id = place_order(http, place, archive).json()["id"]
        assert first.was_killed()
        with worker(tmp_path, database, shared_data) as second:
            order = until_fulfilled(http, order_id)
            assert second.terminate() == 0
    check_once_and_only_once(database, tmp_path, order)


async def test_the_database_may_restart_under_load(cluster, database, place, tmp_path, shared_data):
    """Calls fail with a problem that says so, or succeed; the house goes on by itself, and the ledger adds up."""
    async with served(database, place, data_dir=tmp_path, source_roots=[shared_data]) as server:
        aoi = await open_archive(server, shared_data, price_aud="0.05")
        body = {
            "projectId": place.home.project_id,
            "captures": [{"id": "TEST_BOLZANO_1", "host": "test-archive", "geometry": aoi}],
        }
        restarted = asyncio.Event()

        async def client(number: int) -> set[str]:
            made, attempt = set(), 0
            while not restarted.is_set() or attempt < 3:
                attempt += restarted.is_set()
                reply = await server.home.post("orders.archive.place", body, **{"Idempotency_Key": f"{number}-{len(made)}"})
                assert reply.status_code in {202, 409, 503}, reply.text
                if reply.status_code == 202:
                    made.add(reply.json()["id"])
            return made

        clients = [asyncio.create_task(client(number)) for number in range(4)]
        await asyncio.sleep(0.3)
        await asyncio.to_thread(cluster.server.restart)
        restarted.set()
        made = set().union(*await asyncio.gather(*clients))
        [row] = await server.sql("SELECT count(*) AS orders, sum(total_credits)::bigint AS held FROM orders")
        assert row["orders"] == len(made)
        for order_id in made:
            assert (await server.until_ended(order_id))["status"] == "fulfilled"
        [account] = await server.sql(
            "SELECT balance, reserved FROM ledger_account WHERE organization_id = %s", place.home.organization_id
        )
        assert account == {"balance": OPENING_CREDITS - row["held"], "reserved": 0}
