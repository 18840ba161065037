"""What operators give and take back."""

from __future__ import annotations

import asyncio

import pytest

from geopera_server.kernel.principal import service
from geopera_server.values.ids import new_id
from support.house import Caller
from support.orders import insert_order
from support.serving import OPENING_CREDITS

GRANT = "billing.admin.grant_credits"


def given(household, credits_given: int, **more):
    return {
        "organization_id": household.place.home.organization_id, "credits": credits_given, "reason": "Goodwill", **more,
    }  # fmt: skip


async def test_a_grant_is_posted_once_with_its_cause(household):
    order_id = await insert_order(household)
    body = given(household, 500, order_id=order_id)
    reply = await household.operator.op(GRANT, body, key="k1")
    entry = reply["ledger_entry"]
    assert (entry["reason"], entry["credits"], entry["note"], entry["order_id"]) == (
        "operator_grant",
        500,
        "Goodwill",
        order_id,
    )
    assert entry["principal_id"] == household.place.operator_id
    assert reply["balance"] == OPENING_CREDITS + 500
    [audit] = await household.sql("SELECT invocation_id FROM audit_event WHERE operation_id = %s", GRANT)
    assert audit["invocation_id"] == entry["invocation_id"]


async def test_a_key_grants_once_however_long_ago(household):
    body = given(household, 500)
    first = await household.operator.op(GRANT, body, key="k1")
    assert await household.operator.op(GRANT, body, key="k1") == first
    await household.sql("DELETE FROM idempotency_record")
    assert await household.operator.op(GRANT, body, key="k1") == first
    await household.sql("DELETE FROM idempotency_record")
    for other in ({"credits": 501}, {"credits": -500}, {"reason": "Another"}):
        assert await household.operator.refused(GRANT, {**body, **other}, key="k1") == (409, "idempotency_mismatch")
    assert (await household.owner.op("billing.credits.balance"))["balance"] == OPENING_CREDITS + 500
    await household.operator.op(GRANT, body, key="k2")
    assert (await household.owner.op("billing.credits.balance"))["balance"] == OPENING_CREDITS + 1_000


async def test_two_operators_with_one_key_grant_once(household):
    """Each has a key of its own as the kernel sees it; the wallet is the same."""
    other = Caller(household.house, service())
    replies = await asyncio.gather(*(caller.op(GRANT, given(household, 5), key="k") for caller in (household.operator, other)))
    assert replies[0] == replies[1]
    elsewhere = given(household, 5, organization_id=household.place.stranger.organization_id)
    await household.sql("DELETE FROM idempotency_record")
    assert (await household.operator.op(GRANT, elsewhere, key="k"))["balance"] == OPENING_CREDITS + 5


async def test_a_correction_stops_at_zero_unless_forced(household):
    taken = await household.operator.op(GRANT, given(household, -OPENING_CREDITS), key="all")
    assert (taken["ledger_entry"]["reason"], taken["balance"]) == ("correction", 0)
    assert await household.operator.refused(GRANT, given(household, -1), key="more") == (402, "insufficient_credits")
    assert len(await household.sql("SELECT * FROM ledger_entry WHERE reason = 'correction'")) == 1
    forced = await household.operator.op(GRANT, given(household, -250, force=True), key="more")
    assert forced["balance"] == -250


@pytest.mark.parametrize(
    ("change", "key", "refusal"),
    [
        ({}, None, (422, "invalid_input")),
        ({"credits": 0}, "k", (422, "invalid_input")),
        ({"credits": 10**15}, "k", (422, "invalid_input")),
        ({"reason": ""}, "k", (422, "invalid_input")),
        ({"organization_id": new_id()}, "k", (404, "not_found")),
        ({"organization_id": "nobody"}, "k", (404, "not_found")),
        ({"order_id": new_id()}, "k", (404, "not_found")),
        ({"order_id": "nothing"}, "k", (404, "not_found")),
    ],
)
async def test_what_is_refused_changes_nothing(household, change, key, refusal):
    assert await household.operator.refused(GRANT, {**given(household, 5), **change}, key=key) == refusal
    assert (await household.owner.op("billing.credits.balance"))["balance"] == OPENING_CREDITS


async def test_customers_grant_nothing(household):
    assert await household.owner.refused(GRANT, given(household, 5), key="k") == (403, "missing_scope")
