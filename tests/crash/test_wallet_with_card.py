"""One wallet with a card, spent from by several processes of which one after another is killed: no credit is lost or made."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path

from geopera_server.domains.payments.upkeep import look_after_charges
from support.cards import check_charges, save_card
from support.house import inhabited
from support.paying import differences_in
from support.serving import OPENING_CREDITS

PROCESSES = 5
SPENDS_EACH = 60
PRICE = 700
KILLS = 3
SPENDER = Path(__file__).parents[1] / "support" / "spender.py"


async def test_processes_on_one_wallet_are_killed(database, place, tmp_path):
    home = place.home.organization_id
    async with inhabited(database, place, tmp_path, payment_timeout_s=0.5) as household:
        await save_card(household.house, home, "pm_test_lostReply")
        drain = {"organization_id": home, "credits": 20_000 - OPENING_CREDITS, "reason": "Nearly empty"}
        await household.operator.op("billing.admin.grant_credits", drain, key="drain")

        arguments = [
            sys.executable,
            str(SPENDER),
            database,
            str(tmp_path),
            home,
            place.home.user_id,
            str(SPENDS_EACH),
            str(PRICE),
        ]
        spenders = [await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE) for _ in range(PROCESSES)]
        placed = await heard_while_killing(spenders)
        codes = Counter(spender.returncode for spender in spenders)
        assert codes == {0: PROCESSES - KILLS, -signal.SIGKILL: KILLS}
        await until_nothing_is_open(household)

        assert await differences_in(household.house) == []
        charges = await check_charges(household.sql)
        [account] = await household.sql("SELECT * FROM ledger_account WHERE organization_id = %s", home)
        holds = await household.sql("SELECT order_id FROM ledger_hold WHERE organization_id = %s", home)
        held = {row["order_id"] for row in holds}
        assert placed <= held, "an order was told as paid and its hold is gone"
        assert len(held - placed) <= KILLS * 4, "more holds than orders that could have been under way"
        assert charges, "the wallet was meant to run dry"
        assert account["balance"] >= 0
        assert account["reserved"] == len(held) * PRICE
        bought = sum(charge["amount_cents"] for charge in charges)
        assert account["balance"] + account["reserved"] == 20_000 + bought
        told = await household.sql("SELECT count(*) AS n FROM audit_event WHERE operation_id = 'tests.spend' AND status = 200")
        assert told[0]["n"] == len(held), "each spend is audited, and none twice"


async def heard_while_killing(spenders: list[asyncio.subprocess.Process]) -> set[str]:
    """Reads the orders that the processes tell as paid, and kills some of the processes at chance moments meanwhile."""
    placed: set[str] = set()
    doomed = random.sample(spenders, KILLS)

    async def listen(spender: asyncio.subprocess.Process) -> None:
        assert spender.stdout is not None
        dies_after = random.randint(1, SPENDS_EACH // 2) if spender in doomed else None
        heard = 0
        async for line in spender.stdout:
            placed.add(line.decode().strip())
            heard += 1
            if heard == dies_after:
                os.kill(spender.pid, signal.SIGKILL)
        await spender.wait()

    await asyncio.gather(*(listen(spender) for spender in spenders))
    return placed


async def until_nothing_is_open(household) -> None:
    """Looks after the charges that the killed left behind, as the background does, as if all were due now."""
    async with asyncio.timeout(30):
        while await household.sql(
            "UPDATE topup SET look_after = now(), held_until = now() - interval '1 min'"
            " WHERE state IN ('created', 'confirming') OR (state = 'succeeded' AND ledger_entry_id IS NULL) RETURNING id"
        ):
            await look_after_charges(household.house.kernel, household.house.registry)
