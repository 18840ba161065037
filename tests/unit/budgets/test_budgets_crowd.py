"""Many processes on one budget."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from geopera_server.values.ids import new_id
from support.spending import spend

SPENDER = """
import asyncio, sys
sys.path.insert(0, sys.argv[4])
import psycopg
from geopera_server.db.pool import connection_arguments
from geopera_server.kernel.errors import PaymentRequired
from geopera_server.ledger import postings
from geopera_server.ledger.postings import Cause
from geopera_server.values.clock import now
from geopera_server.values.ids import new_id

async def main(dsn, organization_id, api_key_id):
    conn = await psycopg.AsyncConnection.connect(dsn, **connection_arguments())
    sys.stdin.readline()
    held = refused = 0
    for number in range(40):
        cause = Cause(organization_id=organization_id, invocation_id=new_id(), at=now(), api_key_id=api_key_id)
        try:
            async with conn.transaction():
                await postings.reserve(conn, cause, credits_held=1 + number % 7, order_id=new_id())
            held += 1 + number % 7
        except PaymentRequired as error:
            assert error.code == "budget_exceeded", error
            refused += 1
    # What is left goes by single credits, to the last one.
    while True:
        cause = Cause(organization_id=organization_id, invocation_id=new_id(), at=now(), api_key_id=api_key_id)
        try:
            async with conn.transaction():
                await postings.reserve(conn, cause, credits_held=1, order_id=new_id())
            held += 1
        except PaymentRequired:
            break
    print(held)
    await conn.close()

asyncio.run(main(*sys.argv[1:4]))
"""


def started(dsn: str, organization_id: str, api_key_ids: Sequence[str]) -> list[subprocess.Popen[str]]:
    """Starts one process for each API key, which spends as that key once it is told to."""
    source = str(Path(__file__).parents[3] / "src")
    return [
        subprocess.Popen(
            [sys.executable, "-c", SPENDER, dsn, organization_id, api_key_id, source],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for api_key_id in api_key_ids
    ]  # fmt: skip


async def test_processes_together_use_a_budget_to_the_last_credit_and_no_further(household, database):
    home = household.place.home
    [key] = await household.sql("SELECT id FROM api_key WHERE organization_id = %s", home.organization_id)
    for subject, limit in ({"subject_type": "organization"}, 523), ({"subject_type": "api_key", "subject_id": key["id"]}, 350):
        await household.owner.op("budgets.save", {**subject, "limit_credits": limit, "period": "total"})
    crowd = started(database, home.organization_id, (key["id"], key["id"], new_id(), new_id()))
    try:
        for process in crowd:
            process.stdin.write("go\n")
            process.stdin.flush()
        told = await asyncio.gather(*(asyncio.to_thread(process.communicate, timeout=60) for process in crowd))
    finally:
        for process in crowd:
            process.kill()
    held = [int(output) for output, _ in told]
    assert [process.returncode for process in crowd] == [0] * 4
    assert sum(held) == 523
    assert sum(held[:2]) <= 350
    budgets = {row["subject_type"]: row for row in (await household.owner.op("budgets.list"))["budgets"]}
    assert budgets["organization"]["reserved_credits"] == 523
    assert budgets["organization"]["remaining_credits"] == 0
    assert budgets["api_key"]["reserved_credits"] == sum(held[:2])


async def test_a_budget_made_while_others_spend_misses_nothing(household):
    """Whether a spend comes just before or just after the budget, it counts."""
    home = household.place.home
    spends = [household.owner.run(spend) for _ in range(30)]
    budget = household.owner.op("budgets.save", {"subject_type": "organization", "limit_credits": 10**6})
    await asyncio.gather(*spends[:15], budget, *spends[15:])
    [found] = (await household.owner.op("budgets.list"))["budgets"]
    [account] = await household.sql("SELECT reserved FROM ledger_account WHERE organization_id = %s", home.organization_id)
    assert found["reserved_credits"] == account["reserved"] == 30
