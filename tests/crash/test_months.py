"""`kill -9` at every named point of billing a month: one set of fees and one charge, whoever takes it up."""

from __future__ import annotations

import asyncio
import time

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from geopera_server.kernel.crashing import MONTH_POINTS
from support.cards import check_charges, save_card
from support.months import been_on
from support.processes import up
from support.serving import OPENING_CREDITS, PASSWORD, served

# A charge that was left is taken up within seconds when requests to the processor are allowed less than one.
SHORT = {"GEOPERA_PAYMENT_TIMEOUT_S": "0.5"}
FEE, LEFT = 9_900, 900


@pytest.fixture
async def organization_id(database, place, tmp_path):
    """An organization with a month to pay, a card, and too few credits."""
    home = place.home.organization_id
    async with served(database, place, data_dir=tmp_path, background=False) as server:
        await save_card(server.house, home)
        operator = await server.operator()
        drain = {"organization_id": home, "credits": LEFT - OPENING_CREDITS, "reason": "Spent"}
        await operator.op("billing.admin.grant_credits", drain, Idempotency_Key="drain")
    been_on(database, home, "starter")
    return home


def asking(dsn: str):
    async def ask(query: str, *values: object) -> list[dict]:
        with psycopg.connect(dsn, row_factory=dict_row) as conn:
            return conn.execute(query.encode(), values).fetchall()

    return ask


def billed_by_hand(url: str, place) -> dict:
    """Has the owner bill the month, again for as long as somebody else is at it."""
    with httpx.Client(base_url=url, timeout=30) as http:
        form = {"grant_type": "password", "client_id": "geopera", "username": place.home.email, "password": PASSWORD}
        token = http.post("/realms/public/protocol/openid-connect/token", data=form).json()["access_token"]
        deadline = time.monotonic() + 30
        while True:
            reply = http.post(
                "/v1/op/billing.run_monthly_for_org",
                json={"organization_id": place.home.organization_id},
                headers={"Authorization": f"Bearer {token}"},
            )
            if reply.status_code != 409:
                assert reply.status_code == 200, reply.text
                return reply.json()
            assert time.monotonic() < deadline
            time.sleep(0.1)


async def check_paid_once(database, organization_id) -> None:
    ask = asking(database)
    entries = await ask("SELECT reason, credits FROM ledger_entry WHERE organization_id = %s ORDER BY number", organization_id)
    assert [(row["reason"], row["credits"]) for row in entries[2:]] == [("shortfall_charge", FEE - LEFT), ("plan_fee", -FEE)]
    [charge] = await check_charges(ask)
    assert charge["amount_cents"] == FEE - LEFT
    [run] = await ask("SELECT status, total_credits, invoice_id FROM billing_run WHERE organization_id = %s", organization_id)
    assert (run["status"], run["total_credits"]) == ("billed", FEE)
    [invoice] = await ask("SELECT id, status FROM invoice WHERE organization_id = %s", organization_id)
    assert (invoice["id"], invoice["status"]) == (run["invoice_id"], "paid")
    [row] = await ask("SELECT standing FROM organization WHERE id = %s", organization_id)
    assert row["standing"] == "active"


@pytest.mark.parametrize("point", [*MONTH_POINTS, "charge-made", "charge-recorded", "grant-before-commit"])
async def test_the_clock_is_killed_and_the_owner_takes_it_up(point, organization_id, database, place, tmp_path, shared_data):
    with up(tmp_path, database, shared_data, GEOPERA_CRONS="true", GEOPERA_CRASH_AT=point, **SHORT) as first:
        assert first.was_killed(), f"the point {point} was not reached"
    with up(tmp_path, database, shared_data, **SHORT) as second:
        url = second.ready_url()
        assert billed_by_hand(url, place)["status"] == "billed"
        assert billed_by_hand(url, place)["status"] == "already_billed"
        assert second.terminate() == 0
    await check_paid_once(database, organization_id)


async def test_the_clock_is_killed_and_the_next_one_takes_it_up(organization_id, database, tmp_path, shared_data):
    with up(tmp_path, database, shared_data, GEOPERA_CRONS="true", GEOPERA_CRASH_AT="month-before-commit", **SHORT) as first:
        assert first.was_killed()
    with up(tmp_path, database, shared_data, GEOPERA_CRONS="true", **SHORT) as second:
        second.ready_url()
        ask, deadline = asking(database), time.monotonic() + 30
        while not await ask("SELECT FROM cron_run WHERE name = 'billing.run_monthly_cron' AND done_at IS NOT NULL"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        assert second.terminate() == 0
    await check_paid_once(database, organization_id)
