"""What every card processor promises: the test processor over its tables, and the Stripe adapter over localstripe.

localstripe cannot act out these, which test_stripe_api.py has answered by script instead: idempotency keys (it ignores them),
another customer's card (it moves the card over), off-session refusals of a card that asks for its holder (it answers
`requires_action` at once), setups for unknown customers, disputes, receipts, Stripe's error codes for wrong states (it says "Bad
request"), detaching twice, rate limits and failures of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest
import pytest_asyncio

from geopera_server.adapters.payments import make_processor, practice_of
from geopera_server.db.pool import make_pool
from geopera_server.ports.payments import CardRefused, Intent, NoSuchObject, Processor, ProcessorUnreachable
from geopera_server.values.clock import now
from geopera_server.values.ids import new_id
from support.card_processors import LocalStripe
from support.serving import served, settings_for

TEST_CARDS = {
    "good": "pm_card_visa",
    "declined": "pm_card_chargeCustomerFail",
    "asks": "pm_card_authenticationRequired",
    "asks and is declined": "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds",
    "unsavable": "pm_test_unsavable",
}


@dataclass
class Stage:
    """A processor, with what happens outside the house."""

    processor: Processor
    collected: Callable[[str], str]
    bank: Callable[[Intent, bool], Awaitable[None]]
    refund: Callable[[Intent, int], Awaitable[None]]

    async def customer(self) -> str:
        made = self.processor.cards.create_customer(
            organization_id=new_id(), name="Harbour Survey", email="pay@harbour.example", key=new_id()
        )
        return await made

    async def saved(self, kind: str = "good") -> tuple[str, str]:
        """Returns customer and card."""
        customer_id = await self.customer()
        return customer_id, (await self.processor.cards.attach(self.collected(kind), customer_id)).id

    async def opened(self, kind: str = "good") -> Intent:
        customer_id, method_id = await self.saved(kind)
        return await self.processor.charges.create(
            customer_id=customer_id, method_id=method_id, amount_cents=5_000, metadata={"topup_id": "t-1"}, key=new_id()
        )

    async def charged(self, kind: str = "good") -> Intent:
        intent = await self.opened(kind)
        return await self.processor.charges.confirm(intent.id, key=new_id())


@pytest.fixture(scope="module")
def local_stripe():
    with LocalStripe() as running:
        yield running


@contextlib.asynccontextmanager
async def practice_stage(database, tmp_path):
    pool = make_pool(database, max_size=4)
    await pool.open()
    async with make_processor(settings_for(tmp_path), pool.connection) as processor:
        practice = practice_of(processor)

        async def bank(intent, succeeds):
            await practice.decide(intent.client_secret, succeeds=succeeds)

        async def refund(intent, cents):
            await practice.reverse(intent.id, reversed_cents=cents)

        yield Stage(processor, TEST_CARDS.__getitem__, bank, refund)
    await pool.close()


def stripe_settings(url: str) -> dict[str, str]:
    return {
        "payments": "stripe", "stripe_secret_key": "sk_test_local", "stripe_webhook_secret": "whsec_local",
        "stripe_api_base": url,
    }  # fmt: skip


@contextlib.asynccontextmanager
async def stripe_stage(local_stripe, tmp_path):
    async with make_processor(settings_for(tmp_path, **stripe_settings(local_stripe.url)), None) as processor:

        async def bank(intent, succeeds):
            authenticate(local_stripe, intent.id, intent.client_secret, succeeds=succeeds)

        async def refund(intent, cents):
            local_stripe.post("/v1/refunds", payment_intent=intent.id, amount=cents)

        yield Stage(processor, local_stripe.collected, bank, refund)


def authenticate(local_stripe, intent_id, client_secret, *, succeeds):
    """Answers as the bank's page in the card holder's browser; a refusal after it is the charge's, not the page's."""
    path = f"/v1/payment_intents/{intent_id}/_authenticate"
    answer = local_stripe.http.post(path, data={"client_secret": client_secret, "success": str(succeeds).lower()})
    assert answer.status_code in {200, 402}, answer.text


@pytest_asyncio.fixture(params=["test", "stripe"])
async def stage(request, database, local_stripe, tmp_path):
    stages = {"test": practice_stage(database, tmp_path), "stripe": stripe_stage(local_stripe, tmp_path)}
    async with stages[request.param] as made:
        yield made


async def test_it_says_who_it_is(stage):
    assert (stage.processor.name, stage.processor.env) in {("test", "test"), ("stripe", "demo")}


async def test_consent_is_asked_for_a_customer(stage):
    customer_id = await stage.customer()
    first = await stage.processor.cards.create_setup(customer_id, key=new_id())
    second = await stage.processor.cards.create_setup(customer_id, key=new_id())
    assert first.id != second.id
    assert first.client_secret.startswith(first.id + "_secret_")


async def test_a_collected_card_belongs_to_nobody_until_it_is_attached(stage):
    cards = stage.processor.cards
    customer_id, collected = await stage.customer(), stage.collected("good")
    assert (await cards.card(collected)).customer_id is None
    card = await cards.attach(collected, customer_id)
    assert (card.customer_id, card.brand, card.last4) == (customer_id, "visa", "4242")
    assert card.exp_year > 2030
    assert await cards.card(card.id) == card
    assert await cards.attach(card.id, customer_id) == card


async def test_a_card_is_forgotten(stage):
    _, method_id = await stage.saved()
    await stage.processor.cards.detach(method_id)
    assert (await stage.processor.cards.card(method_id)).customer_id is None
    await stage.processor.cards.detach(method_id)


async def test_a_card_that_the_bank_does_not_let_be_saved(stage):
    customer_id = await stage.customer()
    with pytest.raises(CardRefused) as refused:
        await stage.processor.cards.attach(stage.collected("unsavable"), customer_id)
    assert refused.value.code


async def test_what_nobody_knows(stage):
    cards, charges = stage.processor.cards, stage.processor.charges
    customer_id, _ = await stage.saved()
    for asked in (
        cards.card("pm_unknown"),
        cards.attach("pm_unknown", customer_id),
        cards.attach(stage.collected("good"), "cus_unknown"),
        cards.detach("pm_unknown"),
        charges.create(customer_id=customer_id, method_id="pm_unknown", amount_cents=100, metadata={}, key=new_id()),
        charges.intent("pi_unknown"),
        charges.confirm("pi_unknown", key=new_id()),
        charges.cancel("pi_unknown"),
    ):
        with pytest.raises(NoSuchObject):
            await asked


async def test_money_moves_at_the_confirmation_and_once(stage):
    opened = await stage.opened()
    assert (opened.status, opened.amount_cents, opened.currency) == ("requires_confirmation", 5_000, "aud")
    assert opened.metadata == {"topup_id": "t-1"}
    assert await stage.processor.charges.intent(opened.id) == opened
    charged = await stage.processor.charges.confirm(opened.id, key=new_id())
    assert (charged.id, charged.status, charged.amount_cents) == (opened.id, "succeeded", 5_000)
    assert (charged.decline_code, charged.reversed_cents) == (None, 0)
    assert await stage.processor.charges.intent(opened.id) == charged
    assert (await stage.processor.charges.confirm(opened.id, key=new_id())).status == "succeeded"


async def test_a_declined_card_is_an_answer_and_no_error(stage):
    failed = await stage.charged("declined")
    assert failed.status == "failed"
    assert failed.decline_code in {"generic_decline", "card_declined"}
    assert failed.failure_message
    seen = await stage.processor.charges.intent(failed.id)
    assert (seen.status, seen.decline_code) == ("failed", failed.decline_code)


@pytest.mark.parametrize(
    ("kind", "succeeds", "ends"),
    [("asks", True, "succeeded"), ("asks", False, "failed"), ("asks and is declined", True, "failed")],
)
async def test_a_card_that_asks_for_its_holder_waits_for_the_bank(stage, kind, succeeds, ends):
    waiting = await stage.charged(kind)
    assert waiting.status == "requires_action"
    assert waiting.client_secret
    await stage.bank(waiting, succeeds)
    seen = await stage.processor.charges.intent(waiting.id)
    assert seen.status == ends
    assert bool(seen.decline_code) == (ends == "failed")


async def test_what_has_not_succeeded_can_be_cancelled(stage):
    charges = stage.processor.charges
    for intent in (await stage.opened(), await stage.charged("asks"), await stage.charged("declined")):
        assert (await charges.cancel(intent.id)).status == "canceled"
        assert (await charges.cancel(intent.id)).status == "canceled"
        assert (await charges.confirm(intent.id, key=new_id())).status == "canceled"
        assert (await charges.intent(intent.id)).status == "canceled"


async def test_what_has_succeeded_stays(stage):
    charged = await stage.charged()
    assert (await stage.processor.charges.cancel(charged.id)).status == "succeeded"
    assert (await stage.processor.charges.intent(charged.id)).status == "succeeded"


async def test_what_went_back_is_told(stage):
    charged = await stage.charged()
    await stage.refund(charged, 2_000)
    seen = await stage.processor.charges.intent(charged.id)
    assert (seen.status, seen.amount_cents, seen.reversed_cents) == ("succeeded", 5_000, 2_000)


async def test_a_new_customer_has_no_invoices(stage):
    assert await stage.processor.cards.invoices(await stage.customer(), limit=10) == []


async def test_stripes_invoices_are_read(local_stripe, tmp_path):
    async with stripe_stage(local_stripe, tmp_path) as stage:
        customer_id, method_id = await stage.saved()
        local_stripe.post(f"/v1/customers/{customer_id}", **{"invoice_settings[default_payment_method]": method_id})
        plan = local_stripe.post("/v1/plans", amount=1_250, currency="aud", interval="month", name="Imagery")
        local_stripe.post("/v1/subscriptions", customer=customer_id, **{"items[0][plan]": plan["id"]})
        [invoice] = await stage.processor.cards.invoices(customer_id, limit=10)
    assert (invoice.status, invoice.currency) == ("paid", "aud")
    assert (invoice.amount_due_cents, invoice.amount_paid_cents) == (1_250, 1_250)
    assert abs(invoice.created_at - now()) < timedelta(minutes=1)


async def test_nobody_answers(stage, tmp_path):
    customer_id, method_id = await stage.saved()
    if stage.processor.name == "test":
        practice_of(stage.processor).down = True
        await expect_unreachable(stage.processor, customer_id, method_id)
        return
    nobody = stripe_settings("http://127.0.0.1:9")
    async with make_processor(settings_for(tmp_path, payment_timeout_s=0.3, **nobody), None) as processor:
        await expect_unreachable(processor, customer_id, method_id)


async def expect_unreachable(processor, customer_id, method_id):
    cards, charges = processor.cards, processor.charges
    for asked in (
        cards.create_customer(organization_id=new_id(), name="Late", email=None, key=new_id()),
        cards.create_setup(customer_id, key=new_id()),
        cards.card(method_id),
        cards.attach(method_id, customer_id),
        cards.detach(method_id),
        cards.invoices(customer_id, limit=1),
        charges.create(customer_id=customer_id, method_id=method_id, amount_cents=100, metadata={}, key=new_id()),
        charges.confirm("pi_1", key=new_id()),
        charges.intent("pi_1"),
        charges.cancel("pi_1"),
    ):
        with pytest.raises(ProcessorUnreachable):
            await asked


async def test_a_house_over_stripe_buys_credits(local_stripe, database, place, tmp_path):
    """Saved, charged, asked of the bank and told by a notice that localstripe itself signs and delivers."""
    async with served(database, place, data_dir=tmp_path, background=False, **stripe_settings(local_stripe.url)) as serving:
        owner = await serving.signed_in(place.home.email)
        consent = await owner.op("payment_methods.create_setup_intent")
        assert consent["env"] == "demo"
        assert consent["customer_id"].startswith("cus_")
        await owner.op("payment_methods.attach", {"payment_method_id": local_stripe.collected("good")})
        before = (await owner.op("billing.credits.balance"))["balance"]
        receipt = await owner.op("billing.topup", {"credits": 700}, Idempotency_Key="k-1")
        assert (receipt["credits"], receipt["balance"]) == (700, before + 700)
        again = await owner.op("billing.topup", {"credits": 700}, Idempotency_Key="k-1")
        assert again["payment_intent_id"] == receipt["payment_intent_id"]

        asking = await owner.op("payment_methods.attach", {"payment_method_id": local_stripe.collected("asks")})
        body = {"credits": 900, "payment_method_row_id": asking["id"]}
        refused = await owner.post("billing.topup", body, Idempotency_Key="k-2")
        problem = refused.json()
        assert (refused.status_code, problem["code"]) == (402, "payment_authentication_required")
        url = f"{serving.base_url}/v1/webhooks/payments"
        local_stripe.post("/_config/webhooks/house", url=url, secret="whsec_local")
        authenticate(local_stripe, problem["payment_intent_id"], problem["client_secret"], succeeds=True)
        await until(serving, "SELECT 1 AS told FROM payment_event WHERE intent_id = %s", problem["payment_intent_id"])
        assert (await owner.op("billing.credits.balance"))["balance"] == before + 700 + 900


async def until(serving, query, *values):
    async with asyncio.timeout(20):
        while not await serving.sql(query, *values):
            await asyncio.sleep(0.05)
