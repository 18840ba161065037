"""One wallet, many processes: the balance never goes below zero and every credit is accounted for."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import psycopg
from psycopg.rows import dict_row

from support.scenes import open_archive
from support.serving import served

PROCESSES = 6
SPENDS_EACH = 40
PRICE = 700

SPENDER = """
import asyncio, sys
from geopera_server.db.pool import make_pool
from geopera_server.values.clock import now
from geopera_server.kernel.errors import PaymentRequired
from geopera_server.values.ids import new_id
from geopera_server.ledger.postings import Cause, release_rest, reserve, settle

async def main(dsn, organization_id, spends, price):
    pool = make_pool(dsn, max_size=4)
    await pool.open()
    made = 0

    async def spend(number):
        nonlocal made
        cause = Cause(organization_id=organization_id, invocation_id=new_id(), at=now())
        try:
            async with pool.connection() as conn, conn.transaction():
                order_id = new_id()
                hold_id = (await reserve(conn, cause, order_id=order_id, credits_held=price))["hold_id"]
            made += 1
        except PaymentRequired:
            return
        async with pool.connection() as conn, conn.transaction():
            if number % 2:
                await settle(conn, cause, hold_id=hold_id, order_id=order_id, credits_settled=price - 100, external_ref=hold_id)
            if number % 3:
                await release_rest(conn, cause, order_id=order_id)

    await asyncio.gather(*(spend(number) for number in range(spends)))
    await pool.close()
    print(made)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
"""


async def test_many_processes_on_one_wallet(database, place):
    arguments = [database, place.home.organization_id, str(SPENDS_EACH), str(PRICE)]
    spenders = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", SPENDER, *arguments, stdout=asyncio.subprocess.PIPE)
        for _ in range(PROCESSES)
    ]
    outputs = [await spender.communicate() for spender in spenders]
    assert [spender.returncode for spender in spenders] == [0] * PROCESSES
    made = sum(int(output) for output, _ in outputs)
    assert 0 < made < PROCESSES * SPENDS_EACH, "the wallet was meant to run dry"
    check_wallet(database, place.home.organization_id)


def check_wallet(database: str, organization_id: str) -> None:
    """Asserts the ledger's invariants for one organization from the rows alone."""
    with psycopg.connect(database, row_factory=dict_row) as conn:
        account = conn.execute("SELECT * FROM ledger_account WHERE organization_id = %s", (organization_id,)).fetchone()
        entries = conn.execute(
            "SELECT * FROM ledger_entry WHERE organization_id = %s ORDER BY number", (organization_id,)
        ).fetchall()
        holds = conn.execute("SELECT * FROM ledger_hold WHERE organization_id = %s", (organization_id,)).fetchall()
    balance = reserved = 0
    for number, entry in enumerate(entries, start=1):
        balance, reserved = balance + entry["credits"], reserved + entry["reserved_delta"]
        assert (entry["number"], entry["balance_after"], entry["reserved_after"]) == (number, balance, reserved)
        assert balance >= 0
        assert reserved >= 0
    assert (account["balance"], account["reserved"]) == (balance, reserved)
    assert reserved == sum(hold["remaining"] for hold in holds)


async def test_many_orders_at_once_spend_only_what_is_there(database, place, tmp_path: Path, shared_data):
    async with served(database, place, data_dir=tmp_path, source_roots=[shared_data], background=False) as server:
        aoi = await open_archive(server, shared_data, price_aud="8.00")
        body = {
            "projectId": place.home.project_id,
            "captures": [{"id": "TEST_BOLZANO_1", "host": "test-archive", "geometry": aoi}],
        }
        total = (await server.home.op("orders.archive.estimate", {"captures": body["captures"]}))["total_credits"]
        replies = await asyncio.gather(*(server.home.post("orders.archive.place", body) for _ in range(20)))
        accepted = [reply for reply in replies if reply.status_code == 202]
        assert {reply.status_code for reply in replies} == {202, 402}
        assert len(accepted) == 100_000 // total
        [row] = await server.sql("SELECT count(*) AS orders FROM orders")
        assert row["orders"] == len(accepted)
    check_wallet(database, place.home.organization_id)
