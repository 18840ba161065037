"""The wallet as its organization reads it, and the plans as everybody does."""

from __future__ import annotations

import pytest

from geopera_server.kernel.principal import GUEST
from geopera_server.ledger.postings import Cause, release_rest, reserve, settle
from geopera_server.values.clock import now
from geopera_server.values.ids import new_id
from support.house import Caller
from support.serving import OPENING_CREDITS


async def spend(household, credits_held: int, credits_settled: int) -> str:
    """Holds credits for an order of the home organization, settles a part and releases the rest."""
    order_id = new_id()
    cause = Cause(organization_id=household.place.home.organization_id, invocation_id=new_id(), at=now(), note="test")
    async with household.house.pool.connection() as conn, conn.transaction():
        hold_id = (await reserve(conn, cause, order_id=order_id, credits_held=credits_held))["hold_id"]
        await settle(
            conn, cause, hold_id=hold_id, order_id=order_id, credits_settled=credits_settled, external_ref=f"s:{hold_id}"
        )
        await release_rest(conn, cause, order_id=order_id)
    return order_id


async def hold(household, credits_held: int) -> None:
    cause = Cause(organization_id=household.place.home.organization_id, invocation_id=new_id(), at=now())
    async with household.house.pool.connection() as conn, conn.transaction():
        await reserve(conn, cause, order_id=new_id(), credits_held=credits_held)


async def test_balance_tells_spendable_and_reserved(household):
    await hold(household, 4_250)
    balance = await household.owner.op("billing.credits.balance")
    assert balance.pop("as_of").endswith("Z")
    assert balance == {
        "organization_id": household.place.home.organization_id,
        "balance": OPENING_CREDITS - 4_250,
        "reserved": 4_250,
        "total": OPENING_CREDITS,
        "balance_aud": (OPENING_CREDITS - 4_250) / 100,
        "currency": "AUD",
        "billing_mode": "prepaid",
    }
    assert (await household.stranger.op("billing.credits.balance"))["balance"] == OPENING_CREDITS


async def test_enterprise_sees_what_it_owes(household):
    organization_id = household.place.home.organization_id
    await household.sql("UPDATE organization SET billing_mode = 'enterprise' WHERE id = %s", organization_id)
    for credits_owed, reversed_at in ((700, None), (50, now())):
        await household.sql(
            "INSERT INTO accrual (order_id, organization_id, credits, created_at, reversed_at) VALUES (%s, %s, %s, %s, %s)",
            new_id(), organization_id, credits_owed, now(), reversed_at,
        )  # fmt: skip
    balance = await household.owner.op("billing.credits.balance")
    assert (balance["billing_mode"], balance["accrued_credits"], balance["balance"]) == ("enterprise", 700, OPENING_CREDITS)


async def test_movements_are_listed_newest_first(household):
    order_id = await spend(household, 900, 600)
    page = await household.owner.op("billing.credits.transactions")
    told = [
        (entry["reason"], entry["credits"], entry["balance_after"], entry["reserved_after"]) for entry in page["transactions"]
    ]
    assert told == [
        ("release", 300, OPENING_CREDITS - 600, 0),
        ("settle", 0, OPENING_CREDITS - 900, 300),
        ("reserve", -900, OPENING_CREDITS - 900, 900),
        ("operator_grant", OPENING_CREDITS, OPENING_CREDITS, 0),
    ]
    assert (page["total"], page["limit"], page["offset"], page["balance"]) == (4, 50, 0, OPENING_CREDITS - 600)
    entry = page["transactions"][0]
    assert entry.keys() == {
        "id", "organization_id", "created_at", "reason", "credits", "balance_after", "reserved_after", "project_id", "order_id",
        "job_id", "topup_id", "approval_id", "invoice_id", "principal_id", "api_key_id", "invocation_id", "note",
    }  # fmt: skip
    assert (entry["order_id"], entry["note"]) == (order_id, "test")


async def test_movements_are_paged_without_gaps_and_filtered(household):
    for _ in range(3):
        await spend(household, 10, 4)
    whole = (await household.owner.op("billing.credits.transactions", {"limit": 5_000}))["transactions"]
    assert len(whole) == 10
    pages = []
    for offset in range(0, 10, 3):
        pages += (await household.owner.op("billing.credits.transactions", {"limit": 3, "offset": offset}))["transactions"]
    assert pages == whole
    some = await household.owner.op("billing.credits.transactions", {"reason": "settle, release", "limit": 2})
    assert (some["total"], len(some["transactions"])) == (6, 2)
    assert {entry["reason"] for entry in some["transactions"]} == {"settle", "release"}
    assert await household.owner.refused("billing.credits.transactions", {"reason": "settle,theft"}) == (
        422,
        "unknown_field_value",
    )


@pytest.mark.parametrize("operation_id", ["billing.credits.balance", "billing.credits.transactions"])
async def test_an_account_without_organization_has_no_wallet(household, operation_id):
    assert (await household.operator.refused(operation_id))[0] == 403


async def test_plans_are_public_and_cheapest_first(household):
    plans = await Caller(household.house, GUEST).op("billing.plans.list")
    assert (plans["currency"], plans["credits_per_aud"]) == ("AUD", 100)
    assert [plan["id"] for plan in plans["plans"]] == ["free", "starter", "professional", "enterprise"]
    starter = plans["plans"][1]
    assert (starter["price_aud_monthly"], starter["price_credits_monthly"]) == (99.0, 9_900)
    assert starter["included"]["egress_bytes"] == 100_000_000_000
    assert plans["plans"][3]["included"]["storage_bytes"] is None
    assert [plan["self_service"] for plan in plans["plans"]] == [True, True, True, False]
