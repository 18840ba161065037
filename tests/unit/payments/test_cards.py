"""Saved cards: whose they are, which is the default, and when one may go."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from geopera_server.adapters.payments import practice_of
from geopera_server.domains.payments.cards import as_payment_method, customer_of, default_card, has_default_card, is_expired
from geopera_server.kernel.jobs import JobRun, TryAgain, load_handlers
from geopera_server.kernel.principal import Principal
from geopera_server.values.ids import new_id
from support.house import Caller, owner_of

ATTACH = "payment_methods.attach"
DETACH = "payment_methods.detach"
LIST = "payment_methods.list"
SETUP = "payment_methods.create_setup_intent"
DEFAULT = "payment_methods.set_default"


async def attached(caller, card="pm_card_visa"):
    return await caller.op(ATTACH, {"payment_method_id": card})


async def listed(caller):
    return (await caller.op(LIST))["paymentMethods"]


def practice(household):
    return practice_of(household.house.kernel.ports.processor)


async def method_id_of(household, row_id):
    [row] = await household.sql("SELECT method_id FROM payment_method WHERE id = %s", row_id)
    return row["method_id"]


def in_role(household, role):
    principal = owner_of(household.place.home)
    return Caller(household.house, dataclasses.replace(principal, id=new_id(), organization_role=role))


async def test_consent_is_asked_for_one_customer_of_the_organization(household):
    first, second = await asyncio.gather(household.owner.op(SETUP), household.owner.op(SETUP))
    assert first["customer_id"] == second["customer_id"]
    assert first["setup_intent_id"] != second["setup_intent_id"]
    assert first["client_secret"].startswith(first["setup_intent_id"])
    assert first["env"] == "test"
    other = await household.stranger.op(SETUP)
    assert other["customer_id"] != first["customer_id"]
    home = household.place.home.organization_id
    async with household.house.pool.connection() as conn:
        assert await customer_of(conn, home, "test") == first["customer_id"]
        assert await customer_of(conn, home, "another") is None
    assert len(await household.sql("SELECT id FROM test_processor_customer")) == 2


async def test_the_first_card_becomes_the_default(household):
    first = await attached(household.owner)
    second = await attached(household.owner, "pm_card_mastercard")
    assert (first["isDefault"], second["isDefault"]) == (True, False)
    assert first == {
        "id": first["id"], "isDefault": True, "type": "card", "brand": "visa", "last4": "4242", "expMonth": 12, "expYear": 2099,
        "holderName": None, "provider": "test", "status": "active", "createdAt": first["createdAt"],
    }  # fmt: skip
    reply = await household.owner.op(LIST)
    assert (reply["paymentMethods"], reply["total"]) == ([first, second], 2)
    async with household.house.pool.connection() as conn:
        home, stranger = household.place.home.organization_id, household.place.stranger.organization_id
        assert (await default_card(conn, home))["id"] == first["id"]
        assert await has_default_card(conn, home)
        assert not await has_default_card(conn, stranger)


async def test_a_card_of_a_processor_that_was_left_gives_way(household):
    first = await attached(household.owner)
    await household.sql("UPDATE payment_method SET processor = 'another'")
    second, third = await attached(household.owner), await attached(household.owner)
    assert (second["isDefault"], third["isDefault"]) == (True, False)
    assert [card["isDefault"] for card in await listed(household.owner) if card["id"] == first["id"]] == [False]


async def test_attaching_a_saved_card_again_returns_it(household):
    first = await attached(household.owner)
    method_id = await method_id_of(household, first["id"])
    practice(household).down = True
    assert await attached(household.owner, method_id) == first
    practice(household).down = False
    assert await listed(household.owner) == [first]


async def test_a_card_attached_twice_with_one_key_is_saved_once(household):
    card = {"payment_method_id": "pm_card_visa"}
    assert await household.owner.op(ATTACH, card, key="k") == await household.owner.op(ATTACH, card, key="k")
    assert len(await listed(household.owner)) == 1
    other = {"payment_method_id": "pm_card_mastercard"}
    assert await household.owner.refused(ATTACH, other, key="k") == (409, "idempotency_mismatch")


async def test_a_card_that_was_saved_at_the_processor_and_not_here_is_taken_up(household):
    """As after a crash between the two."""
    await household.owner.op(SETUP)
    [customer] = await household.sql("SELECT customer_id FROM payment_customer")
    card = await practice(household).attach("pm_card_visa", customer["customer_id"])
    row = await attached(household.owner, card.id)
    assert await method_id_of(household, row["id"]) == card.id


async def test_concurrent_attaches_leave_one_default(household):
    rows = await asyncio.gather(*(attached(household.owner) for _ in range(5)))
    assert sum(row["isDefault"] for row in rows) == 1
    assert [row["isDefault"] for row in await listed(household.owner)] == [True] + [False] * 4


async def test_one_card_attached_twice_at_once_is_saved_once(household):
    await household.owner.op(SETUP)
    [customer] = await household.sql("SELECT customer_id FROM payment_customer")
    card = await practice(household).attach("pm_card_visa", customer["customer_id"])
    one, other = await asyncio.gather(attached(household.owner, card.id), attached(household.owner, card.id))
    assert one == other
    assert len(await listed(household.owner)) == 1


async def test_eleven_cards_are_too_many(household):
    for _ in range(9):
        await attached(household.owner)
    outcomes = await asyncio.gather(*(attached(household.owner) for _ in range(3)), return_exceptions=True)
    assert sorted(getattr(outcome, "code", "saved") for outcome in outcomes) == ["plan_limit_reached"] * 2 + ["saved"]
    assert await household.owner.refused(ATTACH, {"payment_method_id": "pm_card_visa"}) == (402, "plan_limit_reached")


async def test_cards_of_others_are_out_of_reach(household):
    mine = await attached(household.owner)
    method_id = await method_id_of(household, mine["id"])
    assert await household.stranger.refused(ATTACH, {"payment_method_id": method_id}) == (409, "conflict")
    for operation in (DEFAULT, DETACH):
        assert await household.stranger.refused(operation, {"payment_method_row_id": mine["id"]}) == (404, "not_found")
        assert await household.stranger.refused(operation, {"payment_method_row_id": "no-id"}) == (404, "not_found")
    assert await listed(household.stranger) == []
    assert await listed(household.owner) == [mine]


@pytest.mark.parametrize(
    ("card", "refusal"),
    [
        ("pm_nobody_knows", (404, "not_found")),
        ("cst_nobody_knows", (404, "not_found")),
        ("pm_test_unsavable", (422, "invalid_input")),
        ("card_visa", (422, "invalid_input")),
        ("pm_", (422, "invalid_input")),
        ("4242424242424242", (422, "invalid_input")),
        ("pm_4242424242424242", (422, "invalid_input")),
        ("pm_4242_4242_4242_4242", (422, "invalid_input")),
        ("pm_card_378282246310005", (422, "invalid_input")),
    ],
)
async def test_what_is_no_card_of_the_processor_is_not_saved(household, caplog, card, refusal):
    assert await household.owner.refused(ATTACH, {"payment_method_id": card}) == refusal
    assert await listed(household.owner) == []
    assert not any(number in caplog.text for number in ("4242", "378282246310005"))


async def test_a_card_number_beside_the_id_is_refused(household):
    body = {"payment_method_id": "pm_card_visa", "number": 4242424242424242}
    assert await household.owner.refused(ATTACH, body) == (422, "invalid_input")


async def test_roles_that_may_not_change_billing_may_still_look(household):
    card = await attached(household.owner)
    for role in ("viewer", "member"):
        caller = in_role(household, role)
        assert await listed(caller) == [card]
        assert await caller.refused(SETUP) == (403, "role_required")
        assert await caller.refused(ATTACH, {"payment_method_id": "pm_card_visa"}) == (403, "role_required")
        for operation in (DEFAULT, DETACH):
            assert await caller.refused(operation, {"payment_method_row_id": card["id"]}) == (403, "role_required")
    assert (await attached(in_role(household, "billing")))["isDefault"] is False
    key = Principal(kind="api_key", id=new_id(), organization_id=household.place.home.organization_id,
                    scopes=frozenset({"billing:write"}))  # fmt: skip
    assert (await attached(Caller(household.house, key)))["isDefault"] is False
    reader = Caller(household.house, dataclasses.replace(key, scopes=frozenset({"billing:read"})))
    assert await reader.refused(ATTACH, {"payment_method_id": "pm_card_visa"}) == (403, "missing_scope")
    nobody = Caller(household.house, Principal(kind="user", id=new_id(), scopes=frozenset({"*:write", "*:read"})))
    assert await nobody.refused(SETUP) == (403, "role_required")


@pytest.mark.parametrize("standing", ["past_due", "suspended"])
async def test_cards_are_changed_whatever_the_standing(household, standing):
    owner = dataclasses.replace(owner_of(household.place.home), standing=standing)
    caller = Caller(household.house, owner)
    await caller.op(SETUP)
    assert (await attached(caller))["status"] == "active"


async def test_another_card_becomes_the_default(household):
    first, second = await attached(household.owner), await attached(household.owner)
    chosen = await household.owner.op(DEFAULT, {"payment_method_row_id": second["id"]})
    assert chosen == {**second, "isDefault": True}
    assert await household.owner.op(DEFAULT, {"id": second["id"]}) == chosen
    assert await listed(household.owner) == [chosen, {**first, "isDefault": False}]


async def test_an_expired_card_is_shown_and_not_chosen(household):
    await attached(household.owner)
    expired = await attached(household.owner, "pm_test_expired")
    assert expired["status"] == "expired"
    assert await household.owner.refused(DEFAULT, {"payment_method_row_id": expired["id"]}) == (409, "illegal_state")


async def test_concurrent_choices_leave_one_default(household):
    cards = [await attached(household.owner) for _ in range(4)]
    await asyncio.gather(*(household.owner.op(DEFAULT, {"payment_method_row_id": card["id"]}) for card in cards))
    assert sum(card["isDefault"] for card in await listed(household.owner)) == 1


async def test_the_newest_that_remains_takes_the_place_of_the_default(household):
    cards = [await attached(household.owner) for _ in range(3)]
    assert await household.owner.op(DETACH, {"payment_method_row_id": cards[0]["id"]}) == {"ok": True}
    left = await listed(household.owner)
    assert [(card["id"], card["isDefault"]) for card in left] == [(cards[2]["id"], True), (cards[1]["id"], False)]
    assert await household.owner.refused(DETACH, {"payment_method_row_id": cards[0]["id"]}) == (404, "not_found")


async def test_a_detached_card_is_forgotten_at_the_processor_too(household):
    card = await attached(household.owner)
    method_id = await method_id_of(household, card["id"])
    await household.owner.op(DETACH, {"payment_method_row_id": card["id"]})
    [job] = await household.sql("SELECT * FROM job WHERE kind = 'payment_method.forget'")
    run = JobRun(
        id=job["id"], kind=job["kind"], organization_id=job["organization_id"], entity_id=job["entity_id"],
        payload={}, attempt=0, failures=0, max_attempts=5, kernel=household.house.kernel,
    )  # fmt: skip
    forget = load_handlers("geopera_server.domains.payments")["payment_method.forget"]
    practice(household).down = True
    with pytest.raises(TryAgain):
        await forget(run)
    practice(household).down = False
    assert (await practice(household).card(method_id)).customer_id is not None
    await forget(run)
    assert (await practice(household).card(method_id)).customer_id is None
    await forget(run)


async def test_the_last_card_stays_while_it_is_needed(household):
    first, last = await attached(household.owner), await attached(household.owner)
    home = household.place.home.organization_id
    await household.sql("UPDATE organization SET standing = 'past_due' WHERE id = %s", home)
    await household.owner.op(DETACH, {"payment_method_row_id": first["id"]})
    assert await household.owner.refused(DETACH, {"payment_method_row_id": last["id"]}) == (409, "illegal_state")
    await household.sql("UPDATE organization SET standing = 'active' WHERE id = %s", home)
    await household.sql(
        "INSERT INTO wallet (organization_id, auto_topup, threshold_credits, topup_amount_credits) VALUES (%s, true, 1, 500)"
        " ON CONFLICT (organization_id) DO UPDATE SET auto_topup = true, threshold_credits = 1, topup_amount_credits = 500",
        home,
    )
    assert await household.owner.refused(DETACH, {"payment_method_row_id": last["id"]}) == (409, "illegal_state")
    await household.sql("UPDATE wallet SET auto_topup = false")
    assert await household.owner.op(DETACH, {"payment_method_row_id": last["id"]}) == {"ok": True}
    assert await listed(household.owner) == []


async def test_the_last_card_of_who_is_suspended_for_debt_stays(household):
    card = await attached(household.owner)
    for standing in ("past_due", "suspended"):
        await household.sql(
            "UPDATE organization SET standing = %s WHERE id = %s", standing, household.place.home.organization_id
        )
    assert await household.owner.refused(DETACH, {"payment_method_row_id": card["id"]}) == (409, "illegal_state")


async def test_the_last_card_stays_while_a_charge_is_open(household):
    card = await attached(household.owner, "pm_card_authenticationRequired")
    assert await household.owner.refused("billing.topup", {"credits": 500}, key="k") == (402, "payment_authentication_required")
    assert (await listed(household.owner))[0]["status"] == "requires_action"
    assert await household.owner.refused(DETACH, {"payment_method_row_id": card["id"]}) == (409, "illegal_state")


@pytest.mark.parametrize(("operation", "body"), [(SETUP, {}), (ATTACH, {"payment_method_id": "pm_card_visa"})])
async def test_a_processor_that_is_down_is_told_of(household, operation, body):
    practice(household).down = True
    assert await household.owner.refused(operation, body) == (503, "upstream_timeout")
    practice(household).down = False
    await household.owner.op(operation, body)


@pytest.mark.parametrize(
    ("month", "year", "last_moment"),
    [(2, 2028, datetime(2028, 2, 29, tzinfo=UTC)), (2, 2027, datetime(2027, 2, 28, tzinfo=UTC)),
     (12, 2026, datetime(2026, 12, 31, tzinfo=UTC))],
)  # fmt: skip
def test_a_card_is_good_to_the_end_of_its_month(month, year, last_moment):
    end = last_moment + timedelta(days=1)
    assert not is_expired(month, year, end - timedelta(microseconds=1))
    assert is_expired(month, year, end)


def test_an_expired_card_is_that_first():
    row = {
        "id": "1", "is_default": True, "brand": "visa", "last4": "4242", "exp_month": 1, "exp_year": 2020,
        "holder_name": None, "processor": "test", "requires_action": True, "created_at": datetime(2019, 1, 1, tzinfo=UTC),
    }  # fmt: skip
    assert as_payment_method(row, datetime(2020, 1, 31, tzinfo=UTC))["status"] == "requires_action"
    assert as_payment_method(row, datetime(2020, 2, 1, tzinfo=UTC))["status"] == "expired"


INVOICES = "billing.stripe_invoices.list"


async def test_invoices_of_the_processor(household):
    assert await household.owner.op(INVOICES) == {"invoices": [], "source": "test", "warning": None}
    await attached(household.owner)
    for credits_bought in (500, 700):
        await household.owner.op("billing.topup", {"credits": credits_bought}, key=str(credits_bought))
    kept = (await household.owner.op(INVOICES))["invoices"]
    assert [(one["amount_paid_aud"], one["status"], one["currency"]) for one in kept] == [
        (7.0, "paid", "AUD"),
        (5.0, "paid", "AUD"),
    ]
    assert len((await household.owner.op(INVOICES, {"limit": 1}))["invoices"]) == 1
    assert (await household.stranger.op(INVOICES))["invoices"] == []
    practice(household).down = True
    reply = await household.owner.op(INVOICES)
    assert reply["invoices"] == []
    assert "Try again" in reply["warning"]
