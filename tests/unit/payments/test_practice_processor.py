from __future__ import annotations

import asyncio

import pytest

from geopera_server.adapters.payments import make_processor, practice_of
from geopera_server.db.pool import make_pool
from geopera_server.ports.payments import CardRefused, NoSuchObject, ProcessorError, ProcessorUnreachable
from geopera_server.settings import SettingsRefused
from geopera_server.values.clock import now
from geopera_server.values.ids import new_id
from support.serving import settings_for


@pytest.fixture
async def processor(database, tmp_path):
    pool = make_pool(database, max_size=8)
    await pool.open()
    async with make_processor(settings_for(tmp_path, payment_timeout_s=0.05), pool.connection) as made:
        yield made
    await pool.close()


async def customer(processor):
    return await processor.cards.create_customer(organization_id=new_id(), name="Harbour", email=None, key=new_id())


async def charge(processor, card="pm_card_visa", cents=5_000):
    customer_id = await customer(processor)
    saved = await processor.cards.attach(card, customer_id)
    return await processor.charges.create(
        customer_id=customer_id, method_id=saved.id, amount_cents=cents, metadata={"topup_id": "t"}, key=new_id()
    )


@pytest.mark.parametrize("card", ["pm_test_lostReply", "pm_test_garbage"])
async def test_a_charge_whose_answer_is_lost_has_been_made(processor, card):
    intent = await charge(processor, card)
    with pytest.raises(ProcessorUnreachable):
        await processor.charges.confirm(intent.id, key="k")
    assert (await processor.charges.intent(intent.id)).status == "succeeded"
    assert (await processor.charges.confirm(intent.id, key="k")).status == "succeeded"


@pytest.mark.parametrize("card", ["pm_test_down", "pm_test_slow"])
async def test_a_charge_that_did_not_arrive_has_not_been_made(processor, card):
    intent = await charge(processor, card)
    with pytest.raises(ProcessorUnreachable):
        await processor.charges.confirm(intent.id, key="k")
    assert (await processor.charges.intent(intent.id)).status == "requires_confirmation"


async def test_what_happens_at_the_same_time_ends_one_way(processor):
    for _ in range(5):
        intent = await charge(processor)
        moves = [processor.charges.confirm(intent.id, key=new_id()) for _ in range(3)]
        ends = await asyncio.gather(*moves, *(processor.charges.cancel(intent.id) for _ in range(3)))
        assert len({end.status for end in ends}) == 1
        assert (await processor.charges.intent(intent.id)).status == ends[0].status


async def test_the_bank_decides_once(processor):
    bank = practice_of(processor)
    intent = await charge(processor, "pm_card_authenticationRequired")
    with pytest.raises(ProcessorError, match="waits for nobody"):
        await bank.decide(intent.client_secret, succeeds=True)
    waiting = await processor.charges.confirm(intent.id, key="k")
    assert (waiting.status, waiting.client_secret) == ("requires_action", intent.client_secret)
    assert (await bank.decide(intent.client_secret, succeeds=True)).status == "succeeded"
    with pytest.raises(ProcessorError, match="waits for nobody"):
        await bank.decide(intent.client_secret, succeeds=False)
    with pytest.raises(NoSuchObject):
        await bank.decide("pi_unknown_secret_x", succeeds=True)


async def test_the_bank_may_refuse_after_the_card_holder_has_confirmed(processor):
    bank = practice_of(processor)
    intent = await charge(processor, "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds")
    await processor.charges.confirm(intent.id, key="k")
    refused = await bank.decide(intent.client_secret, succeeds=True)
    assert (refused.status, refused.decline_code) == ("failed", "insufficient_funds")


async def test_a_reversal_and_its_notice(processor):
    bank = practice_of(processor)
    intent = await charge(processor, cents=5_000)
    await processor.charges.confirm(intent.id, key="k")
    told = await bank.reverse(intent.id, reversed_cents=2_000)
    body, signature = bank.notice(told, now())
    notice = processor.notices.read(body, signature, now())
    assert (notice.type, notice.intent_id) == ("charge.refunded", intent.id)
    assert (await processor.charges.intent(intent.id)).reversed_cents == 2_000


async def test_a_key_makes_one_thing_and_stands_for_one_request(processor):
    """As Stripe's keys do."""
    organization_id = new_id()

    async def made(name, key):
        return await processor.cards.create_customer(organization_id=organization_id, name=name, email=None, key=key)

    first, twin = await asyncio.gather(made("A", "k1"), made("A", "k1"))
    assert first == twin == await made("A", "k1") != await made("A", "k2")
    with pytest.raises(ProcessorError) as refused:
        await made("B", "k1")
    assert refused.value.code == "idempotency_error"
    assert await processor.cards.create_setup(first, key="k3") == await processor.cards.create_setup(first, key="k3")
    with pytest.raises(NoSuchObject):
        await processor.cards.create_setup("cus_unknown", key="k4")
    card = await processor.cards.attach("pm_card_visa", first)

    async def opened(cents):
        return await processor.charges.create(customer_id=first, method_id=card.id, amount_cents=cents, metadata={}, key="k5")

    intents = await asyncio.gather(*(opened(100) for _ in range(4)))
    assert len({one.id for one in intents}) == 1
    with pytest.raises(ProcessorError):
        await opened(101)
    await processor.charges.confirm(intents[0].id, key="k6")
    with pytest.raises(ProcessorError):
        await processor.charges.confirm((await charge(processor)).id, key="k6")


async def test_a_card_of_another_customer_is_neither_saved_nor_charged(processor):
    one, other = await customer(processor), await customer(processor)
    card = await processor.cards.attach("pm_card_visa", one)
    with pytest.raises(CardRefused):
        await processor.cards.attach(card.id, other)
    with pytest.raises(ProcessorError):
        await processor.charges.create(customer_id=other, method_id=card.id, amount_cents=100, metadata={}, key=new_id())
    await processor.cards.detach(card.id)
    with pytest.raises(CardRefused):
        await processor.cards.attach(card.id, one)


async def test_a_card_that_is_detached_meanwhile_is_not_charged(processor):
    one = await customer(processor)
    card = await processor.cards.attach("pm_card_visa", one)
    intent = await processor.charges.create(customer_id=one, method_id=card.id, amount_cents=100, metadata={}, key="k")
    await processor.cards.detach(card.id)
    with pytest.raises(ProcessorError):
        await processor.charges.confirm(intent.id, key="k2")
    assert (await processor.charges.intent(intent.id)).status == "requires_confirmation"


async def test_a_slow_bank_is_waited_for(processor):
    intent = await charge(processor, "pm_test_processing")
    assert (await processor.charges.confirm(intent.id, key="k")).status == "processing"
    assert (await practice_of(processor).decide(intent.client_secret, succeeds=True)).status == "succeeded"


async def test_while_it_is_down_nothing_answers(processor):
    practice_of(processor).down = True
    with pytest.raises(ProcessorUnreachable):
        await customer(processor)


async def test_a_card_without_consent_is_not_saved(processor):
    with pytest.raises(CardRefused):
        await processor.cards.attach("pm_test_unsavable", await customer(processor))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"env": "production", "payments": "test"}, "GEOPERA_PAYMENTS=stripe"),
        ({"payments": "stripe"}, "GEOPERA_STRIPE_SECRET_KEY"),
        ({"payments": "stripe", "stripe_secret_key": "sk_test_1"}, "GEOPERA_STRIPE_WEBHOOK_SECRET"),
        (
            {
                "env": "production",
                "payments": "stripe",
                "stripe_secret_key": "sk_live_1",
                "stripe_webhook_secret": "whsec_1",
                "stripe_api_base": "http://stripe.example",
            },
            "GEOPERA_STRIPE_API_BASE",
        ),
    ],
)
async def test_a_processor_that_cannot_be_is_refused_with_what_to_set(tmp_path, given, named):
    with pytest.raises(SettingsRefused, match=named):
        async with make_processor(settings_for(tmp_path, **given), None):
            pass
