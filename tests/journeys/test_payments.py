"""Paying by card over HTTP: the bank's check, and what the processor sends unasked."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import orjson
import pytest

from geopera_server.adapters.payments import practice_of
from geopera_server.adapters.payments.signing import signature_of
from geopera_server.transports.http.payments import MAX_NOTICE_BYTES
from geopera_server.values.clock import now
from support.serving import OPENING_CREDITS, problem_of, served

WEBHOOK = "/v1/webhooks/payments"
CONFIRM = "/v1/test/payments/confirm"


@pytest.fixture
async def quiet(database, place, tmp_path):
    """A server that looks after nothing by itself, so that what happens is the notice's doing."""
    async with served(database, place, data_dir=tmp_path, background=False) as serving:
        yield serving


def practice(serving):
    return practice_of(serving.house.kernel.ports.processor)


def secret(serving):
    return serving.house.settings.key_for("test-processor")


async def owner_of(serving):
    return await serving.signed_in(serving.place.home.email)


async def balance(actor):
    return (await actor.op("billing.credits.balance"))["balance"]


async def bought(serving, card):
    owner = await owner_of(serving)
    await owner.op("payment_methods.attach", {"payment_method_id": card})
    return await owner.post("billing.topup", {"credits": 500}, Idempotency_Key="k")


async def waiting_for_the_bank(serving, card="pm_card_authenticationRequired"):
    response = await bought(serving, card)
    problem = problem_of(response)
    assert (response.status_code, problem["code"]) == (402, "payment_authentication_required")
    return problem


async def send(serving, body: bytes, signature: str | None):
    headers = {} if signature is None else {"Stripe-Signature": signature}
    return await serving.http.post(WEBHOOK, content=body, headers=headers)


def event(intent_id, event_id="evt_1", **more):
    told = {"id": intent_id, "object": "payment_intent"}
    return orjson.dumps(
        {
            "id": event_id,
            "type": "payment_intent.succeeded",
            "created": int(now().timestamp()),
            "data": {"object": told},
            **more,
        }
    )


async def test_the_card_holder_confirms_and_the_credits_arrive_though_nobody_asks_again(quiet):
    problem = await waiting_for_the_bank(quiet)
    assert await balance(quiet.home) == OPENING_CREDITS
    answer = await quiet.http.post(CONFIRM, json={"client_secret": problem["client_secret"], "outcome": "succeed"})
    assert answer.status_code == 200
    assert answer.json() == {"payment_intent_id": problem["payment_intent_id"], "status": "succeeded", "env": "test"}
    assert await balance(quiet.home) == OPENING_CREDITS + 500
    receipt = await (await owner_of(quiet)).op("billing.topup", {"credits": 500}, Idempotency_Key="k")
    assert receipt["payment_intent_id"] == problem["payment_intent_id"]
    assert await balance(quiet.home) == OPENING_CREDITS + 500
    again = await quiet.http.post(CONFIRM, json={"client_secret": problem["client_secret"], "outcome": "succeed"})
    assert (again.status_code, problem_of(again)["code"]) == (409, "illegal_state")


@pytest.mark.parametrize(
    ("card", "outcome"),
    [
        ("pm_card_authenticationRequired", "fail"),
        ("pm_card_authenticationRequiredChargeDeclinedInsufficientFunds", "succeed"),
    ],
)
async def test_a_bank_that_refuses_ends_the_charge(quiet, card, outcome):
    problem = await waiting_for_the_bank(quiet, card)
    answer = await quiet.http.post(CONFIRM, json={"client_secret": problem["client_secret"], "outcome": outcome})
    assert (answer.status_code, answer.json()["status"]) == (200, "failed")
    assert await balance(quiet.home) == OPENING_CREDITS
    [row] = await quiet.sql("SELECT state, failure_code FROM topup")
    assert row["state"] == "failed"
    assert row["failure_code"] in {"insufficient_funds", "payment_intent_authentication_failure"}
    [intent] = await quiet.sql("SELECT status FROM test_processor_intent")
    assert intent["status"] == "canceled"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"client_secret": "pi_1_secret_2", "outcome": "succeed"}, 404),
        ({"client_secret": "pi_1_secret_2", "outcome": "perhaps"}, 422),
        ({"client_secret": "pi_1\x00", "outcome": "fail"}, 422),
        ({"outcome": "succeed"}, 422),
        ([1], 422),
    ],
)
async def test_what_no_bank_understands(quiet, body, status):
    answer = await quiet.http.post(CONFIRM, json=body)
    assert answer.status_code == status
    problem_of(answer)


async def test_there_is_no_bank_to_play_where_cards_are_real(database, place, tmp_path):
    real = {"payments": "stripe", "stripe_secret_key": "sk_test_x", "stripe_webhook_secret": "whsec_x"}
    async with served(database, place, data_dir=tmp_path, background=False, **real) as serving:
        answer = await serving.http.post(CONFIRM, json={"client_secret": "x", "outcome": "succeed"})
        assert (answer.status_code, problem_of(answer)["code"]) == (404, "unknown_operation")
        body = event("pi_1")
        assert (await send(serving, body, signature_of(body, b"whsec_x", now()))).status_code == 200
        assert (await send(serving, body, signature_of(body, b"whsec_y", now()))).status_code == 400


async def test_a_notice_delivers_the_credits_of_a_charge_whose_answer_was_lost(quiet):
    """The processor's answer, and then the look after it, are lost; the notice comes twice, at once, and once more."""
    problem = await waiting_for_the_bank(quiet)
    await practice(quiet).decide(problem["client_secret"], succeeds=True)
    assert await balance(quiet.home) == OPENING_CREDITS
    body = event(problem["payment_intent_id"])
    signature = signature_of(body, secret(quiet), now())
    answers = await asyncio.gather(send(quiet, body, signature), send(quiet, body, signature))
    answers.append(await send(quiet, body, signature))
    assert [answer.status_code for answer in answers] == [200] * 3
    assert await balance(quiet.home) == OPENING_CREDITS + 500
    [kept] = await quiet.sql("SELECT event_id, type, intent_id FROM payment_event")
    assert kept == {"event_id": "evt_1", "type": "payment_intent.succeeded", "intent_id": problem["payment_intent_id"]}
    [audit] = await quiet.sql("SELECT principal_type FROM audit_event WHERE operation_id = 'billing.payments.resolve' LIMIT 1")
    assert audit["principal_type"] == "service"


async def test_a_notice_only_says_where_to_look(quiet):
    problem = await waiting_for_the_bank(quiet)
    body = event(problem["payment_intent_id"])
    assert (await send(quiet, body, signature_of(body, secret(quiet), now()))).status_code == 200
    assert await balance(quiet.home) == OPENING_CREDITS
    assert (await quiet.sql("SELECT state FROM topup"))[0]["state"] == "requires_action"


async def test_a_notice_that_could_not_be_handled_is_worked_on_when_it_comes_again(quiet):
    problem = await waiting_for_the_bank(quiet)
    await practice(quiet).decide(problem["client_secret"], succeeds=True)
    body = event(problem["payment_intent_id"])
    signature = signature_of(body, secret(quiet), now())
    practice(quiet).down = True
    failed = await send(quiet, body, signature)
    assert failed.status_code in {502, 503}
    problem_of(failed)
    assert await quiet.sql("SELECT event_id FROM payment_event") == []
    practice(quiet).down = False
    assert (await send(quiet, body, signature)).status_code == 200
    assert await balance(quiet.home) == OPENING_CREDITS + 500


async def test_a_refund_at_the_processor_is_taken_from_the_credits(quiet):
    receipt = (await bought(quiet, "pm_card_visa")).json()
    intent = await practice(quiet).reverse(receipt["payment_intent_id"], reversed_cents=200)
    body, signature = practice(quiet).notice(intent, now())
    assert (await send(quiet, body, signature)).status_code == 200
    assert await balance(quiet.home) == OPENING_CREDITS + 300


async def test_notices_about_what_is_not_ours_change_nothing(quiet):
    for body in (
        event("pi_somebody_elses"),
        event(None),
        event("pi_1", data={"object": {"id": "cus_1", "object": "customer"}}),
    ):
        assert (await send(quiet, body, signature_of(body, secret(quiet), now()))).status_code == 200
    assert await quiet.sql("SELECT event_id FROM payment_event") == []
    assert await quiet.sql("SELECT invocation_id FROM audit_event WHERE operation_id = 'billing.payments.resolve'") == []


@pytest.mark.parametrize("why", ["unsigned", "forged", "changed", "old", "early", "no event", "not json", "empty", "oversized"])
async def test_a_notice_that_is_not_the_processors_is_refused(quiet, why):
    good, at = event("pi_1"), now()
    body = {"no event": b'{"id": 1}', "not json": b"\xff\xfe", "empty": b"", "oversized": b" " * (MAX_NOTICE_BYTES + 1)}.get(
        why, good
    )
    at += {"old": timedelta(minutes=-6), "early": timedelta(minutes=6)}.get(why, timedelta())
    signature = signature_of(body, b"another" if why == "forged" else secret(quiet), at)
    answer = await send(quiet, body + b" " if why == "changed" else body, None if why == "unsigned" else signature)
    assert (answer.status_code, problem_of(answer)["code"]) == (400, "notice_refused")


async def test_the_webhook_takes_posts_alone(quiet):
    answer = await quiet.http.get(WEBHOOK)
    assert (answer.status_code, problem_of(answer)["code"]) == (405, "method_not_allowed")


async def test_a_detached_card_is_gone_at_the_processor_soon(server):
    owner = await owner_of(server)
    card = await owner.op("payment_methods.attach", {"payment_method_id": "pm_card_visa"})
    await owner.op("payment_methods.detach", {"payment_method_row_id": card["id"]})
    async with asyncio.timeout(20):
        while await server.sql("SELECT id FROM test_processor_card WHERE customer_id IS NOT NULL"):
            await asyncio.sleep(0.05)
