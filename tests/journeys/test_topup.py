"""Buying credits with a card, by itself and in the middle of an order, through all the trouble that cards make."""

from __future__ import annotations

import asyncio

import pytest

from geopera_server.adapters.payments import practice_of
from geopera_server.domains.payments.upkeep import look_after_charges
from support.cards import check_charges, save_card
from support.market import opened_market
from support.serving import OPENING_CREDITS, Actor, problem_of

TIMEOUT_S = 0.3


@pytest.fixture
async def market(cluster, template, tmp_path, shared_data):
    """A house with a scene to buy, and nothing running in the background."""
    async with opened_market(
        cluster, template, tmp_path, shared_data, background=False, payment_timeout_s=TIMEOUT_S
    ) as serving:
        yield serving


async def owner_with(market, card: str):
    await save_card(market.house, market.place.home.organization_id, card)
    return await market.signed_in(market.place.home.email)


async def emptied(market, left: int = 0) -> None:
    operator = await market.operator()
    drain = {"organization_id": market.place.home.organization_id, "credits": left - OPENING_CREDITS, "reason": "Emptied"}
    await operator.op("billing.admin.grant_credits", drain, Idempotency_Key="drain")


async def bank(market, problem, outcome: str):
    answer = await market.http.post(
        "/v1/test/payments/confirm", json={"client_secret": problem["client_secret"], "outcome": outcome}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def an_order(market, **more):
    return market.cart(projectId=market.place.home.project_id, **more)


async def balance(market) -> int:
    return (await market.home.op("billing.credits.balance"))["balance"]


class TestTopup:
    async def test_charges_the_default_card_once_for_one_key(self, market):
        owner = await owner_with(market, "pm_card_visa")
        first = await owner.post("billing.topup", {"amount_aud": 52.5}, Idempotency_Key="k")
        again = await owner.post("billing.topup", {"amount_aud": 52.5}, Idempotency_Key="k")
        assert (first.status_code, again.status_code) == (201, 201)
        assert again.content == first.content
        assert again.headers["idempotency-replayed"] == "true"
        receipt = first.json()
        assert receipt["status"] == "succeeded"
        assert (receipt["credits"], receipt["amount_aud"], receipt["currency"]) == (5_250, 52.5, "AUD")
        assert receipt["balance"] == OPENING_CREDITS + 5_250 == await balance(market)
        [charge] = await check_charges(market.sql)
        assert charge["amount_cents"] == 5_250
        [entry] = (await owner.op("billing.credits.transactions", {"reason": "topup"}))["transactions"]
        assert (entry["id"], entry["topup_id"]) == (receipt["ledger_entry_id"], receipt["id"])

    async def test_other_amount_under_the_same_key_is_refused(self, market):
        owner = await owner_with(market, "pm_card_visa")
        await owner.op("billing.topup", {"credits": 500}, Idempotency_Key="k")
        assert await owner.refused("billing.topup", {"credits": 501}, Idempotency_Key="k") == (409, "idempotency_mismatch")
        assert len(await check_charges(market.sql)) == 1

    async def test_other_amount_while_the_bank_is_asked_is_refused(self, market):
        owner = await owner_with(market, "pm_card_authenticationRequired")
        assert (await owner.refused("billing.topup", {"credits": 500}, Idempotency_Key="k"))[0] == 402
        assert await owner.refused("billing.topup", {"credits": 900}, Idempotency_Key="k") == (409, "idempotency_mismatch")

    @pytest.mark.parametrize("many", [2, 8])
    async def test_many_at_once_with_one_key_charge_once(self, market, many):
        owner = await owner_with(market, "pm_card_visa")
        replies = await asyncio.gather(
            *(owner.post("billing.topup", {"credits": 700}, Idempotency_Key="k") for _ in range(many))
        )
        assert {reply.status_code for reply in replies} <= {201, 409}
        assert any(reply.status_code == 201 for reply in replies)
        assert {problem_of(reply)["code"] for reply in replies if reply.status_code == 409} <= {"idempotency_in_progress"}
        assert len(await check_charges(market.sql)) == 1

    async def test_many_at_once_without_key_charge_each(self, market):
        owner = await owner_with(market, "pm_card_visa")
        replies = await asyncio.gather(*(owner.post("billing.topup", {"credits": 700}) for _ in range(6)))
        assert [reply.status_code for reply in replies] == [201] * 6
        assert len(await check_charges(market.sql)) == 6
        assert await balance(market) == OPENING_CREDITS + 6 * 700

    @pytest.mark.parametrize(
        ("body", "word"),
        [
            ({}, "exactly one"),
            ({"credits": 500, "amount_aud": 5}, "exactly one"),
            ({"credits": 499}, "smallest"),
            ({"amount_aud": 4.99}, "smallest"),
            ({"credits": 0}, "greater than 0"),
            ({"credits": -500}, "greater than 0"),
            ({"credits": 500.5}, "integer"),
            ({"credits": "500"}, "integer"),
            ({"credits": 10**30}, "integer"),
            ({"amount_aud": 10**12}, "less than or equal"),
            ({"amount_aud": 5.005}, "cent"),
            ({"amount_aud": "NaN"}, "finite"),
            ({"amount_aud": -5}, "greater than 0"),
        ],
    )
    async def test_bad_amounts(self, market, body, word):
        owner = await owner_with(market, "pm_card_visa")
        answer = await owner.post("billing.topup", body)
        assert answer.status_code == 422
        assert word in str(problem_of(answer)["detail"])
        assert await check_charges(market.sql) == []

    async def test_takes_a_named_card_and_no_other_organizations(self, market):
        owner = await owner_with(market, "pm_card_chargeDeclined")
        declining = (await market.sql("SELECT id FROM payment_method"))[0]["id"]
        await owner_with(market, "pm_card_visa")
        assert await owner.refused("billing.topup", {"credits": 500, "payment_method_row_id": declining}) == (
            402,
            "card_declined",
        )
        foreign = await save_card(market.house, market.place.stranger.organization_id)
        for unknown in (foreign, "nonsense", "00000000-0000-7000-8000-000000000009"):
            body = {"credits": 500, "payment_method_row_id": unknown}
            assert await owner.refused("billing.topup", body) == (404, "not_found")
        assert (await owner.post("billing.topup", {"credits": 500})).status_code == 201

    async def test_guards(self, market):
        owner = await owner_with(market, "pm_card_visa")
        body = {"credits": 500, "expected_total_aud": 6}
        assert await owner.refused("billing.topup", body) == (409, "price_changed")
        assert await owner.refused("billing.topup", {"credits": 500_001}) == (402, "approval_required")
        assert (await owner.post("billing.topup", {"credits": 500_000, "expected_total_aud": 5_000})).status_code == 201

    async def test_needs_a_card_and_the_right_to_pay(self, market):
        owner = await market.signed_in(market.place.home.email)
        assert await owner.refused("billing.topup", {"credits": 500}) == (402, "no_payment_method")
        assert await market.home.refused("billing.topup", {"credits": 500}) == (403, "missing_scope")

    async def test_a_key_buys_no_more_than_it_may_spend(self, market):
        owner = await owner_with(market, "pm_card_visa")
        key = await owner.op("api_keys.create", {"name": "agent", "permissions": ["billing:write"]})
        cap = {"subject_type": "api_key", "subject_id": key["id"], "limit_credits": 2_000}
        budget = await owner.op("budgets.save", cap)
        agent = Actor(market.http, key["key"])
        answer = await agent.post("billing.topup", {"credits": 2_001})
        assert (answer.status_code, problem_of(answer)["code"]) == (402, "budget_exceeded")
        assert problem_of(answer)["budget_id"] == budget["id"]
        together = await asyncio.gather(*(agent.post("billing.topup", {"credits": 1_500}) for _ in range(4)))
        assert sorted(reply.status_code for reply in together) == [201, 402, 402, 402]
        assert (await agent.post("billing.topup", {"credits": 500}, Idempotency_Key="k")).status_code == 201
        assert (await agent.post("billing.topup", {"credits": 500}, Idempotency_Key="k")).status_code == 201
        assert await agent.refused("billing.topup", {"credits": 500}) == (402, "budget_exceeded")
        assert (await owner.post("billing.topup", {"credits": 2_001})).status_code == 201

    async def test_a_key_without_budget_buys_nothing_where_one_is_demanded(self, market):
        owner = await owner_with(market, "pm_card_visa")
        key = await owner.op("api_keys.create", {"name": "agent", "permissions": ["billing:write"]})
        await market.sql(
            "UPDATE organization SET settings = settings || '{\"require_key_budget\": true}' WHERE id = %s",
            market.place.home.organization_id,
        )
        agent = Actor(market.http, key["key"])
        assert await agent.refused("billing.topup", {"credits": 500}) == (402, "budget_exceeded")
        cap = {"subject_type": "api_key", "subject_id": key["id"], "limit_credits": 2_000}
        await owner.op("budgets.save", cap)
        assert (await agent.post("billing.topup", {"credits": 500})).status_code == 201

    async def test_whoever_leaves_buys_nothing_more(self, market):
        owner = await owner_with(market, "pm_card_visa")
        await owner.op("organizations.deletion.request")
        assert await owner.refused("billing.topup", {"credits": 500}) == (409, "illegal_state")
        assert await owner.refused("billing.approvals.request", {"credits": 500}) == (409, "illegal_state")
        await owner.op("organizations.deletion.cancel")
        assert (await owner.post("billing.topup", {"credits": 500})).status_code == 201

    @pytest.mark.parametrize(
        ("card", "decline"),
        [
            ("pm_card_chargeDeclined", "generic_decline"),
            ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds"),
            ("pm_card_chargeDeclinedExpiredCard", "expired_card"),
        ],
    )
    async def test_declined(self, market, card, decline):
        owner = await owner_with(market, card)
        for _ in range(2):
            answer = await owner.post("billing.topup", {"credits": 500}, Idempotency_Key="k")
            problem = problem_of(answer)
            assert (answer.status_code, problem["code"], problem["decline_code"]) == (402, "card_declined", decline)
        await save_card(market.house, market.place.home.organization_id)
        assert (await owner.post("billing.topup", {"credits": 500}, Idempotency_Key="k")).status_code == 201
        assert len(await check_charges(market.sql)) == 1
        told = await market.sql("SELECT type, count(*) AS n FROM outbox_event WHERE type LIKE 'topup.%%' GROUP BY type")
        assert {row["type"]: row["n"] for row in told} == {"topup.failed": 2, "topup.succeeded": 1}

    async def test_lost_reply_is_found_again(self, market):
        owner = await owner_with(market, "pm_test_lostReply")
        receipt = await owner.op("billing.topup", {"credits": 500}, Idempotency_Key="k")
        assert receipt["credits"] == 500
        assert len(await check_charges(market.sql)) == 1

    @pytest.mark.parametrize("card", ["pm_test_down", "pm_test_slow"])
    async def test_a_processor_that_does_not_answer(self, market, card):
        owner = await owner_with(market, card)
        answer = await owner.post("billing.topup", {"credits": 500}, Idempotency_Key="k")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "same" in problem_of(answer)["detail"]
        again = await owner.post("billing.topup", {"credits": 500}, Idempotency_Key="k")
        assert again.status_code == 503
        assert await check_charges(market.sql) == []

    async def test_a_processor_that_is_down_and_comes_back(self, market):
        owner = await owner_with(market, "pm_card_visa")
        practice = practice_of(market.house.kernel.ports.processor)
        practice.down = True
        assert (await owner.post("billing.topup", {"credits": 500}, Idempotency_Key="k")).status_code == 503
        practice.down = False
        assert (await owner.post("billing.topup", {"credits": 500}, Idempotency_Key="k")).status_code == 201
        assert len(await check_charges(market.sql)) == 1

    async def test_a_charge_given_up_is_ended_at_the_processor(self, market):
        owner = await owner_with(market, "pm_test_down")
        assert (await owner.post("billing.topup", {"credits": 500})).status_code == 503
        await market.sql("UPDATE topup SET held_until = now() - interval '1 hour', look_after = now()")
        assert await look_after_charges(market.house.kernel, market.house.registry) == 1
        [row] = await market.sql("SELECT t.state, i.status FROM topup t JOIN test_processor_intent i ON i.id = t.intent_id")
        assert (row["state"], row["status"]) == ("canceled", "canceled")


class TestConfirmation:
    async def test_is_completed_and_found_with_the_same_key(self, market):
        owner = await owner_with(market, "pm_card_authenticationRequired")
        answer = await owner.post("billing.topup", {"credits": 2_000}, Idempotency_Key="k")
        problem = problem_of(answer)
        assert (answer.status_code, problem["code"]) == (402, "payment_authentication_required")
        assert problem["payment_intent_id"].startswith("pi_")
        waiting = await owner.post("billing.topup", {"credits": 2_000}, Idempotency_Key="k")
        assert problem_of(waiting)["client_secret"] == problem["client_secret"]
        await bank(market, problem, "succeed")
        receipt = await owner.op("billing.topup", {"credits": 2_000}, Idempotency_Key="k")
        assert receipt["credits"] == 2_000
        assert len(await check_charges(market.sql)) == 1

    async def test_arrives_as_credits_when_nobody_comes_back(self, market):
        owner = await owner_with(market, "pm_card_authenticationRequired")
        problem = problem_of(await owner.post("billing.topup", {"credits": 2_000}))
        await bank(market, problem, "succeed")
        assert await balance(market) == OPENING_CREDITS + 2_000

    async def test_refused_by_the_holder(self, market):
        owner = await owner_with(market, "pm_card_authenticationRequired")
        problem = problem_of(await owner.post("billing.topup", {"credits": 2_000}, Idempotency_Key="k"))
        await bank(market, problem, "fail")
        answer = await owner.post("billing.topup", {"credits": 2_000}, Idempotency_Key="k")
        assert problem_of(answer)["code"] == "payment_authentication_required"
        assert problem_of(answer)["client_secret"] != problem["client_secret"]
        assert await check_charges(market.sql) == []

    async def test_nobody_confirms_for_a_day(self, market):
        owner = await owner_with(market, "pm_card_authenticationRequired")
        await owner.post("billing.topup", {"credits": 2_000})
        await market.sql("UPDATE topup SET created_at = created_at - interval '25 hours', look_after = now()")
        await look_after_charges(market.house.kernel, market.house.registry)
        assert [row["state"] for row in await market.sql("SELECT state FROM topup")] == ["canceled"]

    async def test_the_quickstart_order_is_placed_with_exactly_one_charge(self, market):
        await emptied(market)
        await owner_with(market, "pm_card_authenticationRequired")
        refused = await market.home.post("orders.archive.place", an_order(market), Idempotency_Key="k")
        assert refused.status_code == 402
        assert isinstance(problem_of(refused)["client_secret"], str)
        assert await market.sql("SELECT 1 FROM orders") == []
        await bank(market, problem_of(refused), "succeed")
        placed = await market.home.post("orders.archive.place", an_order(market), Idempotency_Key="k")
        assert placed.status_code == 202, placed.text
        assert placed.json()["billingMode"] == "card"
        [charge] = await check_charges(market.sql)
        assert charge["amount_cents"] == placed.json()["totalCredits"]
        assert await balance(market) == 0

    @pytest.mark.parametrize("confirmed", [False, True])
    async def test_the_balance_comes_before_a_payment_that_waits(self, market, confirmed):
        await emptied(market)
        await owner_with(market, "pm_card_authenticationRequired")
        refused = problem_of(await market.home.post("orders.archive.place", an_order(market), Idempotency_Key="k"))
        operator = await market.operator()
        given = {"organization_id": market.place.home.organization_id, "credits": OPENING_CREDITS, "reason": "Goodwill"}
        await operator.op("billing.admin.grant_credits", given, Idempotency_Key="goodwill")
        if confirmed:  # and nobody has told us
            await practice_of(market.house.kernel.ports.processor).decide(refused["client_secret"], succeeds=True)
        placed = await market.home.op("orders.archive.place", an_order(market), Idempotency_Key="k")
        charges = await check_charges(market.sql)
        assert (placed["billingMode"], len(charges)) == (("card", 1) if confirmed else ("credit", 0))
        total = placed["totalCredits"]
        assert await balance(market) == OPENING_CREDITS - (0 if confirmed else total)
        late = await market.http.post(
            "/v1/test/payments/confirm", json={"client_secret": refused["client_secret"], "outcome": "succeed"}
        )
        assert late.status_code == 409


class TestShortfall:
    async def test_charges_exactly_what_is_missing(self, market):
        await emptied(market, left=60)
        await owner_with(market, "pm_card_visa")
        estimate = await market.home.op("orders.archive.estimate", market.cart())
        placed = await market.home.op("orders.archive.place", an_order(market))
        total = placed["totalCredits"]
        assert (estimate["billingMode"], placed["billingMode"]) == ("card", "card")
        [charge] = await check_charges(market.sql)
        assert charge["amount_cents"] == total - 60 == estimate["shortfallCredits"]
        entries = (await market.home.op("billing.credits.transactions", {"limit": 2}))["transactions"]
        assert [(entry["reason"], entry["credits"]) for entry in entries] == [
            ("reserve", -total),
            ("shortfall_charge", total - 60),
        ]
        assert entries[0]["balance_after"] == 0
        order = await market.home.op("orders.get", {"order_id": placed["id"]})
        assert order["billingMode"] == "card"

    async def test_without_card_nothing_is_written(self, market):
        await emptied(market)
        before = await rows(market)
        answer = await market.home.post("orders.archive.place", an_order(market), Idempotency_Key="k")
        assert (answer.status_code, problem_of(answer)["code"]) == (402, "insufficient_credits")
        assert await rows(market) == before

    async def test_declined_card_leaves_no_order(self, market):
        await emptied(market)
        await owner_with(market, "pm_card_chargeDeclined")
        assert await market.home.refused("orders.archive.place", an_order(market)) == (402, "card_declined")
        assert await market.sql("SELECT 1 FROM orders") == []
        assert await balance(market) == 0

    async def test_many_orders_at_once_are_paid_to_the_last_credit(self, market):
        await emptied(market, left=1_000)
        await owner_with(market, "pm_card_visa")
        replies = await asyncio.gather(*(market.home.post("orders.archive.place", an_order(market)) for _ in range(8)))
        assert [reply.status_code for reply in replies] == [202] * 8, [reply.text for reply in replies]
        charges = await check_charges(market.sql)
        assert len(charges) == 8, "a spend that comes at the same time as others is charged once all the same"
        total = sum(reply.json()["totalCredits"] for reply in replies)
        assert sum(charge["amount_cents"] for charge in charges) == total - 1_000
        assert await balance(market) == 0

    async def test_a_charge_for_an_order_that_fails_meanwhile_stays_as_credits(self, market):
        await emptied(market)
        await owner_with(market, "pm_card_authenticationRequired")
        problem = problem_of(await market.home.post("orders.archive.place", an_order(market), Idempotency_Key="k"))
        await bank(market, problem, "succeed")
        bought = await balance(market)
        body = an_order(market, maxTotalCredits=1)
        assert await market.home.refused("orders.archive.place", body, Idempotency_Key="k") == (409, "price_changed")
        assert await balance(market) == bought > 0
        await check_charges(market.sql)

    async def test_more_than_the_threshold_asks_for_approval(self, market):
        await emptied(market)
        await owner_with(market, "pm_card_visa")
        await market.sql("""UPDATE organization SET settings = '{"approval_threshold_credits": 10}'""")
        assert await market.home.refused("orders.archive.place", an_order(market)) == (402, "approval_required")
        assert await check_charges(market.sql) == []

    async def test_what_the_processor_takes_back_is_taken_back(self, market):
        owner = await owner_with(market, "pm_card_visa")
        receipt = await owner.op("billing.topup", {"credits": 2_000})
        practice = practice_of(market.house.kernel.ports.processor)
        for cents, expected in ((500, 1_500), (2_000, 0), (2_000, 0)):
            await practice.reverse(receipt["payment_intent_id"], reversed_cents=cents)
            await market.house.kernel.run(resolving(market, receipt["id"]))
            assert await balance(market) == OPENING_CREDITS + expected
        [row] = await market.sql("SELECT standing FROM organization WHERE id = %s", market.place.home.organization_id)
        assert row["standing"] == "past_due"
        assert await market.home.refused("orders.archive.place", an_order(market)) == (402, "account_past_due")


def resolving(market, topup_id):
    from geopera_server.kernel.pipeline import Call
    from geopera_server.kernel.principal import service

    return Call(
        operation=market.house.registry.get("billing.payments.resolve"),
        given={"topup_id": topup_id},
        principal=service(organization_id=market.place.home.organization_id),
    )


async def rows(market):
    tables = ("orders", "ledger_entry", "ledger_hold", "topup", "lineage_record", "outbox_event", "idempotency_record", "job")
    return {table: (await market.sql(f"SELECT count(*) AS n FROM {table}"))[0]["n"] for table in tables}


async def test_a_charge_that_was_looked_at_too_early_is_given_up_at_the_next_look(market):
    owner = await owner_with(market, "pm_test_down")
    assert (await owner.post("billing.topup", {"credits": 500})).status_code == 503
    await market.sql("UPDATE topup SET look_after = now()")
    await look_after_charges(market.house.kernel, market.house.registry)
    [row] = await market.sql("SELECT state, look_after - now() AS wait FROM topup")
    assert row["state"] == "confirming"
    assert row["wait"].total_seconds() < 5, "and not minutes later"
    await market.sql("UPDATE topup SET held_until = held_until - interval '5 s', look_after = now()")
    await look_after_charges(market.house.kernel, market.house.registry)
    assert [each["state"] for each in await market.sql("SELECT state FROM topup")] == ["canceled"]
