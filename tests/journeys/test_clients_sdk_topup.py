"""Buying credits with the published Python SDK: once for one key, also when the bank wants to be asked."""

from __future__ import annotations

import pytest

from support.cards import check_charges, save_card
from support.clients import Clients
from support.serving import OPENING_CREDITS


@pytest.fixture
def buying(server, clients_venv, tmp_path):
    """Makes the calls of one buyer, all with one key."""
    clients = Clients(clients_venv, tmp_path)

    async def buy(card: str, *credits_wanted: int, outcome: str | None = None):
        await save_card(server.house, server.place.home.organization_id, card)
        owner = await server.signed_in(server.place.home.email)
        given = {"base_url": server.base_url, "token": owner.token, "key": "sdk", "credits": credits_wanted, "outcome": outcome}
        told = await clients.script("sdk_topup.py", given)
        return [(each["status"], each["content"]) for each in told["calls"]], told["balance"]

    return buy


async def test_one_key_buys_once(server, buying):
    ((first_status, first), (again_status, again), (other_status, other)), balance = await buying(
        "pm_card_visa", 2_000, 2_000, 2_500
    )
    assert (first_status, again_status) == (201, 201)
    assert again == first
    assert first["balance"] == balance == OPENING_CREDITS + 2_000
    assert (other_status, other["code"]) == (409, "idempotency_mismatch")
    [charge] = await check_charges(server.sql)
    assert (charge["topup_id"], charge["amount_cents"]) == (first["id"], 2_000)


async def test_a_declined_card_is_told_and_another_pays(server, buying):
    ((status, problem),), balance = await buying("pm_card_chargeDeclinedInsufficientFunds", 2_000)
    assert (status, problem["code"], problem["decline_code"]) == (402, "card_declined", "insufficient_funds")
    assert balance == OPENING_CREDITS
    assert await check_charges(server.sql) == []
    ((status, _),), balance = await buying("pm_card_visa", 2_000)
    assert (status, balance) == (201, OPENING_CREDITS + 2_000)
    assert len(await check_charges(server.sql)) == 1


async def test_the_holder_confirms_and_the_same_key_finds_the_payment(server, buying):
    ((asked, problem), (status, receipt)), balance = await buying(
        "pm_card_authenticationRequired", 2_000, 2_000, outcome="succeed"
    )
    assert (asked, problem["code"]) == (402, "payment_authentication_required")
    assert problem["client_secret"]
    assert (status, receipt["payment_intent_id"]) == (201, problem["payment_intent_id"])
    assert balance == OPENING_CREDITS + 2_000
    [charge] = await check_charges(server.sql)
    assert charge["topup_id"] == receipt["id"]


async def test_the_holder_refuses(server, buying):
    ((_, first), (status, second)), balance = await buying("pm_card_authenticationRequired", 2_000, 2_000, outcome="fail")
    assert (status, second["code"]) == (402, "payment_authentication_required")
    assert second["client_secret"] != first["client_secret"]
    assert balance == OPENING_CREDITS
    assert await check_charges(server.sql) == []
