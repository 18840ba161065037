"""A wallet that fills itself, and a large purchase that two people decide on, over HTTP and with the worker at work."""

from __future__ import annotations

import asyncio

import pytest_asyncio

from geopera_server.domains.identity.bootstrap import create_user
from geopera_server.values.clock import now
from support.cards import check_charges, save_card
from support.market import opened_market
from support.serving import OPENING_CREDITS, PASSWORD


@pytest_asyncio.fixture
async def market(cluster, template, tmp_path, shared_data):
    async with opened_market(cluster, template, tmp_path, shared_data) as found:
        await save_card(found.house, found.place.home.organization_id)
        # A key for an agent that may ask for money; the keys that are made by default may not.
        await found.sql("UPDATE api_key SET permissions = permissions || '{billing:write}'")
        yield found


async def member(market, role: str):
    """Returns a new person of the home organization after signing in."""
    email = f"{role}@home.example"
    async with market.house.pool.connection() as conn, conn.transaction():
        user = await create_user(conn, email=email, password=PASSWORD, at=now())
        await conn.execute(
            "INSERT INTO membership (organization_id, user_id, role, created_at) VALUES (%s, %s, %s, %s)",
            (market.place.home.organization_id, user["id"], role, now()),
        )
    return await market.signed_in(email)


async def until(seen, *, within_s: float = 20.0) -> None:
    """Waits for a question to be answered with yes."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not await seen():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen"
        await asyncio.sleep(0.02)


async def test_orders_bring_the_wallet_under_its_threshold_and_it_fills_itself(market):
    wanted = {"enabled": True, "threshold_credits": OPENING_CREDITS, "topup_amount_credits": 500}
    await market.home.op("billing.set_auto_topup", wanted)
    project_id = market.place.home.project_id
    orders = await asyncio.gather(
        *(market.home.op("orders.archive.place", market.cart(projectId=project_id)) for _ in range(3))
    )

    async def full() -> bool:
        return (await market.home.op("billing.credits.balance"))["balance"] >= OPENING_CREDITS

    await until(full)
    charges = await check_charges(market.sql)
    spent, bought = sum(order["totalCredits"] for order in orders), sum(row["amount_cents"] for row in charges)
    assert spent <= bought < spent + 500 * len(charges)
    seen = await market.home.op("billing.auto_topup.get")
    assert (seen["charged_today_aud"], seen["last_error"]) == (bought / 100, None)
    listed = await market.home.op("billing.topups.list", {"status": "succeeded"})
    assert {row["kind"] for row in listed["topups"]} == {"auto"}
    assert listed["total"] == len(charges)


async def test_an_agent_asks_and_a_person_approves(market):
    asked = await market.home.op("billing.approvals.request", {"credits": 900_000}, Idempotency_Key="ask")
    assert await market.home.op("billing.approvals.request", {"credits": 900_000}, Idempotency_Key="ask") == asked
    body = {"approval_id": asked["id"]}
    assert await market.home.refused("billing.approvals.approve", body) == (403, "human_required")
    viewer = await member(market, "viewer")
    assert [row["id"] for row in (await viewer.op("billing.approvals.list"))["approvals"]] == [asked["id"]]
    assert await viewer.refused("billing.approvals.approve", body) == (403, "missing_scope")
    owner = await market.signed_in(market.place.home.email)
    approved = await owner.op("billing.approvals.approve", body)
    assert (approved["status"], approved["decided_by"]) == ("approved", market.place.home.user_id)
    assert (await market.home.op("billing.credits.balance"))["balance"] == OPENING_CREDITS + 900_000
    [entry] = (await market.home.op("billing.credits.transactions", {"reason": "approval_purchase"}))["transactions"]
    assert (entry["approval_id"], entry["topup_id"]) == (asked["id"], approved["topup_id"])
    assert await market.stranger.refused("billing.approvals.get", body) == (404, "not_found")


async def test_a_confirmation_that_comes_by_notice_approves_by_itself(market):
    """The card holder confirms at the bank, whose notice brings the credits."""
    await save_card(market.house, market.place.home.organization_id, "pm_card_authenticationRequired")
    asked = await market.home.op("billing.approvals.request", {"credits": 900_000})
    owner = await market.signed_in(market.place.home.email)
    body = {"approval_id": asked["id"]}
    refused = await owner.post("billing.approvals.approve", body, Idempotency_Key="k")
    assert (refused.status_code, refused.json()["code"]) == (402, "payment_authentication_required")
    answer = {"client_secret": refused.json()["client_secret"], "outcome": "succeed"}
    assert (await market.http.post("/v1/test/payments/confirm", json=answer)).is_success
    approved = await market.home.op("billing.approvals.get", body)
    assert (approved["status"], approved["decided_by"]) == ("approved", market.place.home.user_id)
    assert len(await check_charges(market.sql)) == 1
    # Who comes back with the same key has approved it; with another, it is decided already.
    assert await owner.op("billing.approvals.approve", body, Idempotency_Key="k") == approved
    assert await owner.refused("billing.approvals.approve", body, Idempotency_Key="other") == (409, "illegal_state")
    assert await owner.refused("billing.approvals.approve", body) == (409, "illegal_state")
