"""The Stripe adapter against what localstripe cannot act out: Stripe's own refusals, repeats, disputes, and trouble on the way."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import pytest_asyncio

from geopera_server.adapters.payments import make_processor
from geopera_server.ports.payments import CardRefused, NoSuchObject, ProcessorError, ProcessorUnreachable
from support.card_processors import ScriptedStripe
from support.serving import settings_for

KEY = "sk_test_neverToBeSeenInALog"
SECRET = "pi_1_secret_neverToBeSeenEither"


@pytest.fixture
def stripe():
    with ScriptedStripe() as scripted:
        yield scripted


@pytest_asyncio.fixture
async def processor(stripe, tmp_path):
    async with made(stripe, tmp_path) as processor:
        yield processor


def made(stripe, tmp_path, *, key=KEY, timeout_s=5.0):
    settings = settings_for(
        tmp_path, payments="stripe", stripe_secret_key=key, stripe_webhook_secret="whsec_x", stripe_api_base=stripe.url,
        payment_timeout_s=timeout_s,
    )  # fmt: skip
    return make_processor(settings, None)


def intent(status="succeeded", **more: Any) -> dict[str, Any]:
    """A PaymentIntent in the form of Stripe's reference."""
    return {
        "id": "pi_1", "object": "payment_intent", "amount": 5000, "amount_received": 0, "currency": "aud",
        "client_secret": SECRET, "customer": "cus_1", "last_payment_error": None, "latest_charge": None, "livemode": False,
        "metadata": {"topup_id": "t-1"}, "payment_method": "pm_1", "payment_method_types": ["card"], "status": status, **more,
    }  # fmt: skip


def card_error(code: str, decline_code: str | None, message: str) -> dict[str, Any]:
    """The body of a 402 at a confirmation."""
    told = {
        "charge": "ch_1", "code": code, "doc_url": f"https://docs.stripe.com/error-codes/{code}", "message": message,
        "payment_method": {"id": "pm_1", "object": "payment_method", "type": "card"}, "type": "card_error",
    }  # fmt: skip
    if decline_code is not None:
        told["decline_code"] = decline_code
    inside = intent("requires_payment_method", last_payment_error=dict(told), payment_method=None, latest_charge="ch_1")
    return {**told, "payment_intent": inside, "request_log_url": "https://dashboard.stripe.com/test/logs/req_1"}


async def test_what_is_asked_when_a_charge_is_made(stripe, processor):
    stripe.answers(intent("requires_confirmation"))
    stripe.answers(intent(latest_charge={"id": "ch_1", "receipt_url": "https://pay.example/r", "amount_refunded": 0}))
    opened = await processor.charges.create(
        customer_id="cus_1", method_id="pm_1", amount_cents=5_000, metadata={"topup_id": "t-1"}, key="create-1"
    )
    charged = await processor.charges.confirm(opened.id, key="confirm-1")
    assert (opened.status, charged.status, charged.receipt_url) == (
        "requires_confirmation",
        "succeeded",
        "https://pay.example/r",
    )
    create, confirm = stripe.asked
    assert create.form == {
        "amount": "5000", "currency": "aud", "customer": "cus_1", "payment_method": "pm_1", "metadata[topup_id]": "t-1",
        "allowed_payment_method_types[0]": "card",
    }  # fmt: skip
    assert confirm.path == "/v1/payment_intents/pi_1/confirm"
    assert confirm.form == {"off_session": "true", "expand[0]": "latest_charge"}
    assert (create.headers["Idempotency-Key"], confirm.headers["Idempotency-Key"]) == ("create-1", "confirm-1")
    assert create.headers["Stripe-Version"] == "2026-10-28.endive"
    assert create.headers["Authorization"] == f"Bearer {KEY}"


async def test_what_is_asked_for_customers_and_consent(stripe, processor):
    stripe.answers({"id": "cus_1", "object": "customer"})
    stripe.answers({"id": "seti_1", "object": "setup_intent", "client_secret": "seti_1_secret_x"})
    await processor.cards.create_customer(organization_id="o-1", name="Harbour", email=None, key="customer-1")
    await processor.cards.create_setup("cus_1", key="setup-1")
    customer, setup = stripe.asked
    assert customer.form == {"name": "Harbour", "metadata[organization_id]": "o-1"}
    assert setup.form == {"customer": "cus_1", "usage": "off_session", "allowed_payment_method_types[0]": "card"}
    assert (customer.headers["Idempotency-Key"], setup.headers["Idempotency-Key"]) == ("customer-1", "setup-1")


async def test_a_bank_that_wants_to_see_the_holder_of_an_off_session_charge(stripe, processor):
    message = "Your card was declined. This transaction requires authentication."
    stripe.refuses(402, card_error("authentication_required", "authentication_required", message))
    waiting = await processor.charges.confirm("pi_1", key="k")
    assert (waiting.status, waiting.client_secret, waiting.decline_code) == ("requires_action", SECRET, None)


@pytest.mark.parametrize(
    ("code", "decline_code", "told"),
    [
        ("card_declined", "insufficient_funds", "insufficient_funds"),
        ("expired_card", None, "expired_card"),
        ("card_declined", "generic_decline", "generic_decline"),
    ],
)
async def test_a_declined_card(stripe, processor, code, decline_code, told):
    stripe.refuses(402, card_error(code, decline_code, "Your card was declined."))
    failed = await processor.charges.confirm("pi_1", key="k")
    assert (failed.id, failed.status, failed.decline_code) == ("pi_1", "failed", told)
    assert failed.failure_message == "Your card was declined."


async def test_a_repeat_of_an_old_answer_is_looked_at_afresh(stripe, processor):
    """The card holder has confirmed since Stripe first answered this key."""
    stripe.answers(intent("requires_action"), idempotent_replayed="true")
    stripe.answers(intent("succeeded"))
    assert (await processor.charges.confirm("pi_1", key="k")).status == "succeeded"
    message = "This transaction requires authentication."
    stripe.refuses(402, card_error("authentication_required", None, message), idempotent_replayed="true")
    stripe.answers(intent("succeeded"))
    assert (await processor.charges.confirm("pi_1", key="k")).status == "succeeded"
    stripe.refuses(500, {"type": "api_error", "message": "Oops"}, idempotent_replayed="true")
    stripe.answers(intent("succeeded"))
    assert (await processor.charges.confirm("pi_1", key="k")).status == "succeeded"


async def test_an_intent_in_another_state_is_returned_as_it_is(stripe, processor):
    wrong_state = {
        "code": "payment_intent_unexpected_state", "type": "invalid_request_error",
        "message": "You cannot confirm this PaymentIntent because it has already succeeded.", "payment_intent": intent(),
    }  # fmt: skip
    for asked in (lambda: processor.charges.confirm("pi_1", key="k"), lambda: processor.charges.cancel("pi_1")):
        stripe.refuses(400, wrong_state)
        stripe.answers(intent("succeeded"))
        assert (await asked()).status == "succeeded"
    stripe.refuses(400, {"code": "parameter_invalid", "type": "invalid_request_error", "message": "No."})
    stripe.answers(intent("requires_confirmation"))
    with pytest.raises(ProcessorError, match="No") as refused:
        await processor.charges.confirm("pi_1", key="k")
    assert not isinstance(refused.value, ProcessorUnreachable)


@pytest.mark.parametrize(
    ("disputes", "went_back"),
    [
        ([("needs_response", 3_000)], 3_000),
        ([("lost", 3_000)], 3_000),
        ([("won", 3_000), ("warning_under_review", 3_000)], 0),
        ([("lost", 5_000)], 5_000),
    ],
)
async def test_refunds_and_disputes_are_what_went_back(stripe, processor, disputes, went_back):
    charge = {"id": "ch_1", "object": "charge", "amount_refunded": 1_000, "disputed": True, "receipt_url": None}
    stripe.answers(intent(latest_charge=charge))
    listed = [
        {"id": f"dp_{n}", "object": "dispute", "status": status, "amount": cents} for n, (status, cents) in enumerate(disputes)
    ]
    stripe.answers({"object": "list", "data": listed, "has_more": False, "url": "/v1/disputes"})
    seen = await processor.charges.intent("pi_1")
    assert (seen.status, seen.reversed_cents) == ("succeeded", min(5_000, 1_000 + went_back))
    assert "payment_intent=pi_1" in stripe.asked[1].path


@pytest.mark.parametrize(
    ("status", "error", "raised", "code"),
    [
        (
            402,
            {"type": "card_error", "code": "card_declined", "decline_code": "lost_card", "message": "No."},
            CardRefused,
            "lost_card",
        ),
        (400, {"type": "invalid_request_error", "code": None, "message": "It was detached before."}, CardRefused, None),
        (
            404,
            {"type": "invalid_request_error", "code": "resource_missing", "message": "No such"},
            NoSuchObject,
            "resource_missing",
        ),
    ],
)
async def test_a_card_that_is_not_saved(stripe, processor, status, error, raised, code):
    stripe.refuses(status, error)
    with pytest.raises(raised) as refused:
        await processor.cards.attach("pm_1", "cus_1")
    assert refused.value.code == code


async def test_what_is_no_card_is_refused(stripe, processor):
    stripe.answers({"id": "pm_1", "object": "payment_method", "type": "au_becs_debit", "customer": None})
    with pytest.raises(CardRefused, match="au_becs_debit"):
        await processor.cards.card("pm_1")


async def test_a_card_that_was_detached_before_stays_so(stripe, processor):
    not_attached = {"type": "invalid_request_error", "message": "The payment method is not attached to a customer."}
    method = {
        "id": "pm_1", "object": "payment_method", "type": "card", "customer": None, "billing_details": {"name": "Ona"},
        "card": {"brand": "visa", "last4": "4242", "exp_month": 2, "exp_year": 2040},
    }  # fmt: skip
    stripe.refuses(400, not_attached)
    stripe.answers(method)
    await processor.cards.detach("pm_1")
    stripe.refuses(400, not_attached)
    stripe.answers({**method, "customer": "cus_1"})
    with pytest.raises(ProcessorError):
        await processor.cards.detach("pm_1")


@pytest.mark.parametrize(
    ("status", "error", "raised", "says"),
    [
        (400, {"type": "idempotency_error", "message": "Keys for idempotent requests differ."}, ProcessorError, "Keys for"),
        (
            400,
            {"type": "invalid_request_error", "code": "amount_too_small", "message": "Too small."},
            ProcessorError,
            "Too small",
        ),
        (401, {"type": "invalid_request_error", "message": "Invalid API Key"}, ProcessorError, "GEOPERA_STRIPE_SECRET_KEY"),
        (403, {"type": "invalid_request_error", "message": "The key lacks a permission."}, ProcessorError, "permission"),
        (
            404,
            {"type": "invalid_request_error", "code": "resource_missing", "message": "No such customer"},
            NoSuchObject,
            "No such",
        ),
        (409, {"type": "invalid_request_error", "code": "lock_timeout", "message": "Busy."}, ProcessorUnreachable, "409"),
        (429, {"type": "invalid_request_error", "code": "rate_limit", "message": "Slow down."}, ProcessorUnreachable, "429"),
        (500, {"type": "api_error", "message": "Oops."}, ProcessorUnreachable, "500"),
        (503, {"type": "api_error", "message": "Oops."}, ProcessorUnreachable, "503"),
    ],
)
async def test_other_refusals(stripe, processor, status, error, raised, says):
    stripe.refuses(status, error)
    with pytest.raises(ProcessorError, match=says) as refused:
        await processor.charges.create(customer_id="cus_1", method_id="pm_1", amount_cents=1, metadata={}, key="k")
    assert type(refused.value) is raised
    if error["type"] == "idempotency_error":
        assert refused.value.code == "idempotency_error"


@pytest.mark.parametrize(
    "body", [b"", b"<html>Gateway</html>", b"\xff\xfe", b"[]", b"null", b"{}", b'{"id": 7, "status": "new"}']
)
@pytest.mark.parametrize("status", [200, 502])
async def test_answers_that_make_no_sense(stripe, processor, body, status):
    stripe.answers(body, status, stripe_should_retry="false")
    with pytest.raises(ProcessorUnreachable):
        await processor.charges.confirm("pi_1", key="k")


async def test_an_answer_that_does_not_come(stripe, tmp_path):
    stripe.hangs()
    async with made(stripe, tmp_path, timeout_s=0.1) as hasty:
        with pytest.raises(ProcessorUnreachable, match=r"0\.1 s"):
            await hasty.charges.confirm("pi_1", key="k")


async def test_a_broken_connection_is_tried_once_more_under_the_same_key(stripe, processor):
    stripe.breaks()
    stripe.answers(intent())
    assert (await processor.charges.confirm("pi_1", key="k")).status == "succeeded"
    assert [asked.headers["Idempotency-Key"] for asked in stripe.asked] == ["k", "k"]
    stripe.breaks(times=2)
    with pytest.raises(ProcessorUnreachable):
        await processor.charges.confirm("pi_1", key="k")


@pytest.mark.parametrize(("key", "env"), [("sk_test_1", "demo"), ("rk_live_1", "prod"), ("sk_live_1", "prod")])
async def test_the_key_says_whether_cards_are_real(stripe, tmp_path, key, env):
    async with made(stripe, tmp_path, key=key) as processor:
        assert processor.env == env


async def test_neither_keys_nor_client_secrets_are_logged(stripe, processor, caplog):
    caplog.set_level(logging.DEBUG)
    stripe.answers(intent("requires_action"))
    await processor.charges.confirm("pi_1", key="k")
    stripe.refuses(402, card_error("authentication_required", None, "Confirm."))
    await processor.charges.confirm("pi_1", key="k")
    stripe.answers({**intent(), "status": "unheard of"})
    with pytest.raises(ProcessorUnreachable) as trouble:
        await processor.charges.confirm("pi_1", key="k")
    logging.getLogger("tests").error("it broke", exc_info=trouble.value)
    assert "it broke" in caplog.text
    assert KEY not in caplog.text
    assert SECRET not in caplog.text
