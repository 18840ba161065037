"""Capping an agent's key, over HTTP: from the budget to the order that it refuses."""

from __future__ import annotations

import pytest_asyncio

from geopera_server.values.ids import new_id
from support.market import opened_market
from support.serving import problem_of

PUBLIC = {
    "id", "subject_type", "subject_id", "period", "limit_credits", "spent_credits", "reserved_credits", "remaining_credits",
    "mode", "alert_thresholds", "active", "period_start", "period_end", "created_by", "created_at", "updated_at",
}  # fmt: skip


@pytest_asyncio.fixture
async def market(cluster, template, tmp_path, shared_data):
    async with opened_market(cluster, template, tmp_path, shared_data) as found:
        yield found


async def key_id(market) -> str:
    [row] = await market.sql("SELECT id FROM api_key WHERE organization_id = %s", market.place.home.organization_id)
    return row["id"]


async def events(market) -> list[dict]:
    return await market.sql(
        "SELECT entity_id, data, project_id FROM outbox_event WHERE type = 'budget.threshold_reached' ORDER BY data->>'threshold'"
    )


async def test_an_agent_spends_up_to_its_budget_and_nobody_is_told_twice(market):
    human, agent = await market.signed_in(market.place.home.email), market.home
    cart = market.cart(projectId=market.place.home.project_id)
    price = (await agent.op("orders.archive.estimate", {"captures": cart["captures"]}))["total_credits"]
    key = await key_id(market)
    body = {"subject_type": "api_key", "subject_id": key, "limit_credits": 2 * price + 1, "alert_thresholds": [0.4, 0.9]}
    budget = await human.op("budgets.save", body)
    assert budget.keys() == PUBLIC
    assert (budget["period"], budget["mode"], budget["remaining_credits"]) == ("month", "block", 2 * price + 1)
    assert budget["period_start"].endswith("-01T00:00:00.000Z")
    assert budget["period_end"].endswith("-01T00:00:00.000Z")
    assert (await agent.op("budgets.check", {"credits": price}))["allowed"]

    orders = [await agent.op("orders.archive.place", cart) for _ in range(2)]
    told = await events(market)
    assert [event["data"]["threshold"] for event in told] == [0.4, 0.9]
    assert {event["entity_id"] for event in told} == {budget["id"]}
    assert told[0]["data"].keys() == PUBLIC | {"threshold"}

    check = await agent.op("budgets.check", {"credits": price})
    assert (check["allowed"], check["remaining_credits"], check["limiting_budget_id"]) == (False, 1, budget["id"])
    refused = await agent.post("orders.archive.place", cart)
    problem = problem_of(refused)
    assert (refused.status_code, problem["code"], problem["budget_id"]) == (402, "budget_exceeded", budget["id"])
    assert (problem["limit"], problem["remaining"]) == (2 * price + 1, 1)
    assert budget["period_end"][:10] in problem["detail"]
    assert len(await market.sql("SELECT id FROM orders")) == 2
    # The budget is the key's: its owner orders on.
    await human.op("orders.archive.place", cart)

    for order in orders:
        await market.until_ended(order["id"])
    seen = await agent.op("budgets.get", {"budget_id": budget["id"]})
    assert (seen["spent_credits"], seen["reserved_credits"], seen["remaining_credits"]) == (2 * price, 0, 1)
    assert sorted(entry["reason"] for entry in seen["recent"]) == ["reserve", "reserve", "settle", "settle"]
    assert {entry["order_id"] for entry in seen["recent"]} == {order["id"] for order in orders}

    raised = await human.op("budgets.save", {"id": budget["id"], "limit_credits": 10 * price})
    assert (raised["remaining_credits"], raised["alert_thresholds"]) == (8 * price, [0.4, 0.9])
    again = await agent.op("orders.archive.place", cart)
    await market.until_ended(again["id"])
    assert len(await events(market)) == 2


async def test_an_enterprise_organization_is_capped_too(market):
    await market.sql("UPDATE organization SET billing_mode = 'enterprise' WHERE id = %s", market.place.home.organization_id)
    human, agent = await market.signed_in(market.place.home.email), market.home
    cart = market.cart(projectId=market.place.home.project_id)
    price = (await agent.op("orders.archive.estimate", {"captures": cart["captures"]}))["total_credits"]
    first = await agent.op("orders.archive.place", cart)
    project = {"subject_type": "project", "subject_id": market.place.home.project_id}
    budget = await human.op("budgets.save", {**project, "limit_credits": 2 * price, "period": "day"})
    assert budget["spent_credits"] + budget["reserved_credits"] == price
    [event] = await events(market)
    assert (event["data"]["threshold"], event["project_id"]) == (0.5, project["subject_id"])
    second = await agent.op("orders.archive.place", cart)
    assert await agent.refused("orders.archive.place", cart) == (402, "budget_exceeded")
    for order in (first, second):
        await market.until_ended(order["id"])
    [found] = (await agent.op("budgets.list", {"subject_type": "project"}))["budgets"]
    assert (found["spent_credits"], found["reserved_credits"]) == (2 * price, 0)


async def test_a_budget_stops_an_order_before_a_card_is_charged(market):
    human = await market.signed_in(market.place.home.email)
    await human.op("budgets.save", {"subject_type": "organization", "limit_credits": 1, "period": "total"})
    await market.sql("UPDATE organization SET settings = '{}' WHERE id = %s", market.place.home.organization_id)
    operator = await market.operator()
    take = {"organization_id": market.place.home.organization_id, "credits": -100_000, "reason": "none left"}
    await operator.op("billing.admin.grant_credits", take, Idempotency_Key=new_id())
    cart = market.cart(projectId=market.place.home.project_id)
    assert await market.home.refused("orders.archive.place", cart) == (402, "budget_exceeded")
    assert await market.sql("SELECT id FROM topup") == []


async def test_who_may_do_what(market):
    human, agent = await market.signed_in(market.place.home.email), market.home
    key = await key_id(market)
    own = {"subject_type": "api_key", "subject_id": key, "limit_credits": 100}
    budget = await human.op("budgets.save", own)
    for body in (own, {"id": budget["id"], "limit_credits": 10**9}, {"subject_type": "organization", "limit_credits": 1}):
        response = await agent.post("budgets.save", body)
        assert (response.status_code, problem_of(response)["code"]) in {(403, "human_required"), (403, "missing_scope")}
    assert (await agent.refused("budgets.delete", {"budget_id": budget["id"]}))[0] == 403
    strong = await human.op("api_keys.create", {"name": "Strong", "permissions": ["orders:*", "billing:*", "budgets:read"]})
    assert strong["key"]

    assert await human.refused("budgets.save", own) == (409, "conflict")
    other = await human.op("budgets.save", {**own, "subject_id": strong["id"]})
    theirs = await market.signed_in(market.place.stranger.email)
    for op, body in (
        ("budgets.get", {"budget_id": budget["id"]}),
        ("budgets.save", {"id": budget["id"], "limit_credits": 0}),
        ("budgets.delete", {"budget_id": budget["id"]}),
        ("budgets.save", own),
        ("budgets.save", {"subject_type": "project", "subject_id": market.place.home.project_id, "limit_credits": 0}),
        ("budgets.save", {"subject_type": "user", "subject_id": market.place.home.user_id, "limit_credits": 0}),
        ("budgets.save", {"subject_type": "organization", "subject_id": market.place.home.organization_id, "limit_credits": 0}),
        ("budgets.get", {"budget_id": "nothing"}),
    ):
        assert await theirs.refused(op, body) == (404, "not_found"), (op, body)
    assert (await theirs.op("budgets.list"))["budgets"] == []

    await human.op("budgets.save", {"subject_type": "organization", "limit_credits": 10**6})
    await human.op("budgets.save", {"subject_type": "user", "subject_id": market.place.home.user_id, "limit_credits": 5})
    assert (await human.op("budgets.list"))["total"] == 4
    seen = await agent.op("budgets.list")
    assert {row["subject_type"] for row in seen["budgets"]} == {"api_key", "organization"}
    assert seen["total"] == 2
    assert await agent.refused("budgets.get", {"budget_id": other["id"]}) == (404, "not_found")
    assert (await human.op("budgets.list", {"subject_id": strong["id"]}))["budgets"][0]["id"] == other["id"]
    assert (await human.op("budgets.list", {"active": False}))["total"] == 0
    assert await human.op("budgets.delete", {"budget_id": other["id"]}) == {"id": other["id"], "ok": True}
    assert await human.refused("budgets.delete", {"budget_id": other["id"]}) == (404, "not_found")
    await human.op("budgets.save", {**own, "subject_id": strong["id"]})


NO_BUDGETS = (
    {"limit_credits": -1},
    {"limit_credits": None},
    {"limit_credits": 1.5},
    {"period": "week"},
    {"mode": "shout"},
    {"mode": None},
    {"alert_thresholds": [0]},
    {"alert_thresholds": [11]},
    {"alert_thresholds": [0.5] * 21},
    {"subject_type": None},
    {"subject_type": "planet"},
    {"subject_type": "project", "subject_id": None},
)


async def test_what_is_no_budget_is_refused(market):
    human = await market.signed_in(market.place.home.email)
    for change in NO_BUDGETS:
        body = {"subject_type": "organization", "limit_credits": 5, **change}
        assert await human.refused("budgets.save", body) == (422, "invalid_input"), change
    assert await market.sql("SELECT id FROM budget") == []


async def test_a_change_keeps_what_is_not_sent_and_whom_it_caps(market):
    human = await market.signed_in(market.place.home.email)
    first = {
        "subject_type": "organization",
        "limit_credits": 5,
        "mode": "warn",
        "period": "day",
        "alert_thresholds": [1, 0.3, 1.0],
    }
    made = await human.op("budgets.save", first)
    assert made["alert_thresholds"] == [0.3, 1.0]
    changed = await human.op("budgets.save", {"id": made["id"], "active": False})
    assert {**changed, "updated_at": None} == {**made, "active": False, "updated_at": None}
    same = {"id": made["id"], "subject_type": "organization", "subject_id": None, "period": "day", "alert_thresholds": []}
    assert (await human.op("budgets.save", same))["alert_thresholds"] == []
    for change in ({"period": "month"}, {"subject_type": "user"}, {"subject_id": new_id()}, {"limit_credits": None}):
        assert await human.refused("budgets.save", {"id": made["id"], **change}) == (422, "invalid_input")
