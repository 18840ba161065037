"""One purpose, one charge: what comes to its end while a call has stepped out to charge is found, and not charged again."""

from __future__ import annotations

import dataclasses

import pytest

from geopera_server.domains.payments import charging, funding
from geopera_server.kernel.errors import PaymentRequired
from geopera_server.kernel.principal import service
from geopera_server.values.ids import new_id
from support import paying
from support.cards import check_charges, save_card
from support.charges import confirm, resolve_all
from support.colleagues import colleague
from support.house import Caller, owner_of
from support.serving import OPENING_CREDITS

TOPUP = {"credits": 4_000}


async def top_up(household):
    return await household.owner.op("billing.topup", TOPUP, key="once")


async def order(household, order_id: str):
    owner = owner_of(household.place.home)
    return await paying.run(
        household.house, owner, paying.spend, key="once", order_id=order_id, credits=OPENING_CREDITS + 4_000
    )


def stepping_out(monkeypatch, meanwhile):
    """Has something happen once, after a call has stepped out of its transaction to charge and before it has begun to."""
    charge, waiting = charging.charge, [meanwhile]

    async def late(purchase, outside, **more):
        if waiting:
            await waiting.pop()()
        await charge(purchase, outside, **more)

    monkeypatch.setattr(charging, "charge", late)
    monkeypatch.setattr(funding, "charge", late)


async def carded(household, card: str = "pm_card_visa") -> None:
    await save_card(household.house, household.place.home.organization_id, card)


async def balance(household) -> int:
    return (await household.owner.op("billing.credits.balance"))["balance"]


async def test_a_repeat_that_meets_the_notice_of_what_the_card_holder_has_confirmed(household, monkeypatch):
    await carded(household, "pm_card_authenticationRequired")
    assert (await household.owner.refused("billing.topup", TOPUP, key="once"))[1] == "payment_authentication_required"
    await carded(household)

    async def confirmed_and_told():
        await confirm(household)
        await resolve_all(household)

    stepping_out(monkeypatch, confirmed_and_told)
    receipt = await top_up(household)
    [charge] = await check_charges(household.sql)
    assert receipt["id"] == charge["topup_id"]
    assert await balance(household) == OPENING_CREDITS + 4_000


@pytest.mark.parametrize("what", ["top-up", "order"])
async def test_a_notice_that_comes_before_the_reply(household, monkeypatch, what):
    await carded(household)
    processor = household.house.kernel.ports.processor.charges
    confirmed = processor.confirm

    async def told_first(intent_id, *, key):
        intent = await confirmed(intent_id, key=key)
        await resolve_all(household)
        return intent

    monkeypatch.setattr(processor, "confirm", told_first)
    await (top_up(household) if what == "top-up" else order(household, new_id()))
    assert len(await check_charges(household.sql)) == 1
    assert await balance(household) == (OPENING_CREDITS + 4_000 if what == "top-up" else 0)


async def test_notices_that_come_twice_and_in_any_order(household):
    await carded(household)
    receipt = await top_up(household)
    processor = household.house.kernel.ports.processor.charges
    await processor.reverse(receipt["payment_intent_id"], reversed_cents=1_000)
    for _ in range(3):
        await resolve_all(household)
    assert await balance(household) == OPENING_CREDITS + 3_000
    assert len(await check_charges(household.sql)) == 1


async def test_a_receipt_that_is_fetched_later_tells_the_balance_of_now(household):
    await carded(household, "pm_card_authenticationRequired")
    assert (await household.owner.refused("billing.topup", TOPUP, key="once"))[0] == 402
    await confirm(household)
    await resolve_all(household)
    await paying.run(household.house, owner_of(household.place.home), paying.spend, order_id=new_id(), credits=1_000)
    assert (await top_up(household))["balance"] == await balance(household) == OPENING_CREDITS + 3_000


async def test_two_that_step_out_together_with_one_key(household, monkeypatch):
    await carded(household)
    stepping_out(monkeypatch, lambda: top_up(household))
    await top_up(household)
    assert len(await check_charges(household.sql)) == 1
    assert await balance(household) == OPENING_CREDITS + 4_000


async def test_two_spends_that_step_out_together_with_one_key(household, monkeypatch):
    await carded(household)
    order_id = new_id()
    stepping_out(monkeypatch, lambda: order(household, order_id))
    assert (await order(household, order_id))["mode"] == "card"
    assert len(await check_charges(household.sql)) == 1
    assert await balance(household) == 0


async def test_a_spend_whose_charge_was_ended_and_begun_anew_meanwhile_waits_for_the_new_one(household, monkeypatch):
    await carded(household, "pm_card_authenticationRequired")
    order_id = new_id()

    async def refused_order():
        with pytest.raises(PaymentRequired) as refused:
            await order(household, order_id)
        assert refused.value.code == "payment_authentication_required"

    async def begun_anew():
        await household.sql("UPDATE test_processor_intent SET status = 'canceled'")
        await resolve_all(household)
        owner = owner_of(household.place.home)
        await paying.run(household.house, owner, paying.spend, order_id=new_id(), credits=1_000)
        await refused_order()

    await refused_order()
    stepping_out(monkeypatch, begun_anew)
    await refused_order()
    charges = await household.sql("SELECT state, credits FROM topup ORDER BY attempt")
    assert [(row["state"], row["credits"]) for row in charges] == [("canceled", 4_000), ("requires_action", 5_000)]


async def test_two_who_approve_together(household, monkeypatch):
    await carded(household)
    other = await colleague(household, "admin")
    asked = await (await colleague(household, "billing")).op("billing.approvals.request", {"credits": 600_000})
    ref = {"approval_id": asked["id"]}
    charge = charging.charge

    async def the_other_charges(purchase, outside, **more):
        monkeypatch.setattr(charging, "charge", charge)
        # The other call is killed before it grants what it has charged.
        await charge(purchase, outside, **more)
        await charge(purchase, outside, **more)

    monkeypatch.setattr(charging, "charge", the_other_charges)
    assert (await other.op("billing.approvals.approve", ref))["status"] == "approved"
    assert len(await check_charges(household.sql)) == 1


async def test_a_purpose_that_was_paid_in_an_earlier_attempt_is_paid(household):
    """A processor may say of a charge that had failed that it has succeeded, also after the next one has failed."""
    await carded(household, "pm_card_chargeDeclined")
    for _ in range(2):
        assert (await household.owner.refused("billing.topup", TOPUP, key="once"))[1] == "card_declined"
    [first, _] = await household.sql("SELECT id, intent_id FROM topup ORDER BY attempt")
    await household.sql("UPDATE test_processor_intent SET status = 'succeeded' WHERE id = %s", first["intent_id"])
    await resolve_all(household)
    await carded(household)
    assert (await top_up(household))["id"] == first["id"]
    assert len(await check_charges(household.sql)) == 1


@pytest.mark.parametrize("spelled", [str.upper, str.lower])
async def test_a_named_card_is_the_same_card_however_it_is_spelled(household, spelled):
    row_id = await save_card(household.house, household.place.home.organization_id)
    receipt = await household.owner.op("billing.topup", {**TOPUP, "payment_method_row_id": spelled(row_id)}, key="once")
    assert receipt["payment_method_id"] == row_id
    assert len(await check_charges(household.sql)) == 1


async def test_a_charge_of_another_processor_is_left_as_it_is(household, monkeypatch):
    """Whoever changes the deployment's processor must not have charges declared over that it cannot ask about."""
    await carded(household, "pm_card_authenticationRequired")
    assert (await household.owner.refused("billing.topup", TOPUP, key="once"))[0] == 402
    kernel = household.house.kernel
    ports = kernel.ports
    monkeypatch.setattr(
        kernel, "ports", dataclasses.replace(ports, processor=dataclasses.replace(ports.processor, name="other"))
    )
    [row] = await household.sql("SELECT id, organization_id FROM topup")
    staff = Caller(household.house, service(organization_id=row["organization_id"]))
    assert (await staff.refused("billing.payments.resolve", {"topup_id": row["id"]}))[0] == 502
    assert await household.owner.refused("billing.topup", TOPUP, key="once") == (502, "upstream_error")
    monkeypatch.setattr(kernel, "ports", ports)
    await confirm(household)
    await resolve_all(household)
    assert (await top_up(household))["id"] == row["id"]
