"""The books against what somebody might do to them who has the whole database."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_asyncio

from geopera_server.adapters.payments import practice_of
from geopera_server.values.ids import new_id
from support.cards import save_card
from support.charges import resolve_all
from support.house import owner_of
from support.owing import enterprise, owed
from support.paying import differences_in, release, run, settle, spend
from support.serving import OPENING_CREDITS

COMMAND = Path(sys.executable).with_name("geopera-server")


@pytest_asyncio.fixture
async def busy(household):
    """An organization with every kind of row: purchases, a reversed charge, holds in all states, a budget."""
    house, home = household.house, household.place.home
    await save_card(house, home.organization_id)
    budget = {"subject_type": "organization", "period": "month", "limit_credits": 1_000_000}
    await household.owner.op("budgets.save", budget)
    for credits_bought in (1_000, 2_000, 3_000):
        await household.owner.op("billing.topup", {"credits": credits_bought})
    for credits_needed in (100, 200, OPENING_CREDITS + 50_000):
        order_id = new_id()
        await run(house, owner_of(home), spend, order_id=order_id, credits=credits_needed)
        await run(house, owner_of(home), settle, order_id=order_id, credits=credits_needed // 4)
        if credits_needed == 200:
            await run(house, owner_of(home), release, order_id=order_id)
    [bought] = await household.sql("SELECT intent_id FROM topup WHERE credits = 2000")
    await practice_of(house.kernel.ports.processor).reverse(bought["intent_id"], reversed_cents=500)
    await resolve_all(household)
    return household


async def test_what_the_house_itself_has_done_is_right(busy):
    assert await differences_in(busy.house) == []
    [row] = await busy.sql("SELECT count(DISTINCT reason) AS reasons FROM ledger_entry")
    assert row["reasons"] >= 7, "little was looked at"


OF_HOME = " organization_id = %(home)s"
ORDER = f"(SELECT id FROM ledger_hold WHERE{OF_HOME} AND reserved = 200)"
CHARGE = f"(SELECT id FROM topup WHERE{OF_HOME} AND credits = 1000)"
# What is done to the rows, and the lines it must be told in; an organization's first entry is its opening credits.
TAMPERINGS = {
    "a richer account": (
        f"UPDATE ledger_account SET balance = balance + 7 WHERE{OF_HOME}",
        ["account: balance is -493, expected -500"],
    ),
    "less reserved": (
        f"UPDATE ledger_account SET reserved = reserved - 1 WHERE{OF_HOME}",
        [
            "account: reserved is 112574, expected 112575",
            "account: reserved, beside what its holds still hold is 112574, expected 112575",
        ],
    ),
    "an account gone": (
        f"DELETE FROM ledger_account WHERE{OF_HOME}",
        ["account: accounts is 0, expected 1"],
    ),
    "another amount": (
        f"UPDATE ledger_entry SET credits = credits + 5 WHERE{OF_HOME} AND number = 3",
        [
            "entry 3: balance_after is 103000, expected 103005 and wrong in 10 later ones",
            "account: balance is -500, expected -495",
            "credits of its entry is 2005, expected 2000 (see entry 3)",
        ],
    ),
    "another balance after": (
        f"UPDATE ledger_entry SET balance_after = 1 WHERE{OF_HOME} AND number = 4",
        ["entry 4: balance_after is 1, expected 106000"],
    ),
    "another reserved after": (
        f"UPDATE ledger_entry SET reserved_after = 1 WHERE{OF_HOME} AND number = 5",
        ["entry 5: reserved_after is 1, expected 100"],
    ),
    "a hole in the numbers": (
        f"UPDATE ledger_entry SET number = 100 WHERE{OF_HOME} AND number = 13",
        ["entry 100: number is 100, expected 13"],
    ),
    "a larger hold": (
        f"UPDATE ledger_hold SET reserved = reserved + 9, released = released + 9 WHERE id = {ORDER}",
        ["reserved is 209, expected 200 (see entry 7)", "released is 159, expected 150 (see entry 7)"],
    ),
    "a hold closed without entry": (
        f"UPDATE ledger_hold SET released = 75 WHERE{OF_HOME} AND reserved = 100",
        ["reserved, beside what its holds still hold is 112575, expected 112500", "released is 75, expected 0 (see entry 5)"],
    ),
    "a hold of nobody": (
        f"DELETE FROM ledger_hold WHERE id = {ORDER}",
        [
            "reserved is none, expected 200 (see entry 7)",
            "settled is none, expected 50 (see entry 7)",
            "released is none, expected 150 (see entry 7)",
        ],
    ),
    "a charge granted twice": (
        (
            "INSERT INTO ledger_entry (id, organization_id, created_at, reason, credits, topup_id, invocation_id, external_ref,"
            " number, balance_after, reserved_after) SELECT gen_random_uuid(), organization_id, now(), reason, credits, topup_id,"
            f" invocation_id, 'again', 14, 1000, 112650 FROM ledger_entry WHERE topup_id = {CHARGE}"
        ),
        ["account: balance is -500, expected 500", "entry_count is 13, expected 14", "entries is 2, expected 1 (see entry 2)"],
    ),
    "a charge without its entry": (
        f"UPDATE topup SET ledger_entry_id = NULL WHERE id = {CHARGE}",
        ["ledger_entry_id is none, expected "],
    ),
    "a charge without credits": (
        f"UPDATE topup SET ledger_entry_id = NULL, updated_at = now() - interval '2 min', credits = 999 WHERE id = {CHARGE}",
        ["grant is none, expected 999 credits", "credits of its entry is 1000, expected 999 (see entry 2)"],
    ),
    "a charge un-said": (
        f"UPDATE topup SET state = 'failed', ledger_entry_id = NULL WHERE id = {CHARGE}",
        ["state is failed, expected succeeded (see entry 2)"],
    ),
    "a charge of another kind": (
        f"UPDATE topup SET kind = 'auto' WHERE id = {CHARGE}",
        ["reason of its entry is topup, expected auto_topup (see entry 2)"],
    ),
    "a charge of somebody else": (
        f"UPDATE topup SET organization_id = %(stranger)s WHERE id = {CHARGE}",
        ["organization of its entry is "],
    ),
    "credits that no card paid": (
        f"UPDATE ledger_entry SET topup_id = NULL WHERE topup_id = {CHARGE}",
        ["entry 2: topup_id is none, expected the top-up it was charged by", "entries is 0, expected 1"],
    ),
    "a charge gone": (
        f"DELETE FROM topup WHERE id = {CHARGE}",
        ["state is none, expected succeeded (see entry 2)"],
    ),
    "a reversal kept": (
        f"UPDATE topup SET reversed_credits = 0 WHERE{OF_HOME} AND reversed_credits > 0",
        ["reversed_credits is 0, expected 500 (see entry 13)"],
    ),
    "an overdraft made to fit": (
        f"UPDATE ledger_entry SET reason = 'plan_fee', topup_id = NULL WHERE{OF_HOME} AND reason = 'correction'",
        ["entry 13: balance is -500, expected 0 or more", "reversed_credits is 500, expected 0"],
    ),
    "more room in a budget": (
        "UPDATE budget_use SET reserved_credits = reserved_credits - 10",
        ["reserved_credits is 112565, expected 112575"],
    ),
    "a spend that counts less": (
        f"UPDATE budget_share SET spent_credits = 0 WHERE spend_id = (SELECT order_id FROM ledger_hold WHERE id = {ORDER})",
        ["spent_credits is 37575, expected 37525", "spent_credits is 0, expected 50 (see entry 9)"],
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
async def test_tampering_is_named(busy, name):
    statement, expected = TAMPERINGS[name]
    home, stranger = busy.place.home.organization_id, busy.place.stranger.organization_id
    async with busy.house.pool.connection() as conn, conn.transaction():
        await conn.execute("SET LOCAL session_replication_role = 'replica'")
        changed = await conn.execute(statement, {"home": home, "stranger": stranger})
        assert changed.rowcount == 1
    found = [str(difference) for difference in await differences_in(busy.house)]
    for line in expected:
        assert any(line in each for each in found), "\n".join(found)
    assert all(each.startswith((home, stranger)) for each in found)


async def test_what_is_billed_must_be_on_its_invoice(household):
    organization_id = await enterprise(household)
    for credits_owed in (300, 500):
        await owed(household, "2026-03-05", (1.0, credits_owed))
    billing = {"organization_id": organization_id, "reference": "PO-1", "period": "2026-03"}
    await household.operator.op("billing.enterprise.mark_invoiced", billing)
    assert await differences_in(household.house) == []

    await household.tamper("UPDATE invoice_line SET credits = credits - 1 WHERE credits = 300")
    await household.tamper("UPDATE invoice_line SET order_id = gen_random_uuid() WHERE credits = 500")
    unlike, unbilled = [str(difference) for difference in await differences_in(household.house)]
    assert "total_credits is 800, expected 799" in unlike
    assert ", without a line for it, expected one that bills it" in unbilled
    await household.tamper("UPDATE invoice SET status = 'void', voided_at = now()")
    assert ", which is void" in str((await differences_in(household.house))[-1])


async def test_a_charge_of_a_moment_ago_is_waited_for(busy):
    await busy.tamper("DELETE FROM ledger_entry WHERE number = 2 AND reason = 'topup'")
    await busy.tamper("UPDATE topup SET ledger_entry_id = NULL, updated_at = now() WHERE credits = 1000")
    found = {difference.proof for difference in await differences_in(busy.house)}
    assert "charges become credits" not in found
    await busy.tamper("UPDATE topup SET updated_at = now() - interval '61 s' WHERE credits = 1000")
    assert {difference.proof for difference in await differences_in(busy.house)} - found == {"charges become credits"}


async def test_the_command(busy, database, tmp_path):
    home, stranger = busy.place.home.organization_id, busy.place.stranger.organization_id

    async def command(*more: str):
        return await asyncio.to_thread(
            subprocess.run,
            [COMMAND, "admin", "verify-ledger", "--data", tmp_path, "--database-url", database, *more],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    [accounts] = await busy.sql("SELECT count(*) AS accounts FROM ledger_account")
    well = await command()
    assert (well.returncode, well.stderr) == (0, "")
    assert well.stdout == f"{accounts['accounts']} accounts, 14 entries: nothing differs.\n"

    await busy.tamper("UPDATE ledger_entry SET balance_after = 1 WHERE number = 4")
    ill = await command()
    line, summary = ill.stdout.splitlines()
    assert (ill.returncode, ill.stderr) == (1, "")
    assert line == f"{home}: entry 4: balance_after is 1, expected 106000"
    assert summary.endswith("14 entries: 1 difference.")
    assert (await command("--organization", stranger)).returncode == 0

    told = await command("--organization", home, "--json")
    difference, extent = map(json.loads, told.stdout.splitlines())
    assert told.returncode == 1
    assert (difference["organization_id"], difference["first_entry"], difference["found"]) == (home, 4, "1")
    assert extent == {"accounts": 1, "entries": 13, "waiting": 0, "differences": 1}
    for unknown in ("nonsense", new_id()):
        refused = await command("--organization", unknown)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert f"no organization {unknown}" in refused.stderr


def test_a_folder_without_a_database_is_not_found_to_be_well(tmp_path):
    command = [COMMAND, "admin", "verify-ledger", "--data", tmp_path / "typo"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "no database" in ran.stderr
    assert not (tmp_path / "typo" / "postgres").exists()
