"""Asking to buy a large amount, and deciding on it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from psycopg import errors

from geopera_server.domains.payments import charging
from geopera_server.kernel.errors import NotFound, OperationError
from geopera_server.kernel.principal import service
from geopera_server.values.ids import new_id
from support.cards import check_charges, save_card
from support.charges import confirm, resolve_all
from support.colleagues import colleague, key_of_home
from support.house import Caller
from support.serving import OPENING_CREDITS

REQUEST, LIST, GET = "billing.approvals.request", "billing.approvals.list", "billing.approvals.get"
APPROVE, REJECT = "billing.approvals.approve", "billing.approvals.reject"
ADMIN_APPROVE, ADMIN_REJECT = "billing.admin.approvals.approve", "billing.admin.approvals.reject"
AMOUNT = 700_000


async def balance(household) -> int:
    return (await household.owner.op("billing.credits.balance"))["balance"]


async def events(household, kind: str):
    return await household.sql("SELECT data, organization_id, entity_id FROM outbox_event WHERE type = %s", kind)


async def expire(household, approval_id: str) -> None:
    """Moves a request into the past, so that it expires at this very moment."""
    await household.tamper(
        "UPDATE approval SET created_at = created_at - interval '4 days', expires_at = now() WHERE id = %s", approval_id
    )


async def with_card(household, card: str = "pm_card_visa") -> str:
    return await save_card(household.house, household.place.home.organization_id, card)


async def test_a_request_moves_no_money_and_tells_the_approvers(household):
    key = await key_of_home(household)
    asked = await key.op(REQUEST, {"credits": AMOUNT})
    assert asked == {
        "id": asked["id"], "organization_id": household.place.home.organization_id, "credits": AMOUNT, "amount_aud": 7_000.0,
        "currency": "AUD", "status": "pending", "requested_by": key.principal.id, "requested_by_type": "api_key",
        "created_at": asked["created_at"], "expires_at": asked["expires_at"], "decided_by": None, "decided_at": None,
        "reason": None, "topup_id": None, "failure_code": None,
    }  # fmt: skip
    [row] = await household.sql("SELECT expires_at - created_at AS stands FROM approval")
    assert row["stands"] == timedelta(hours=72)
    assert await key.op(GET, {"approval_id": asked["id"]}) == asked
    [event] = await events(household, "approval.requested")
    assert (event["entity_id"], event["data"]) == (asked["id"], asked)
    assert await balance(household) == OPENING_CREDITS


@pytest.mark.parametrize(
    "body",
    [
        {}, {"credits": 0}, {"credits": -5}, {"credits": 10**12}, {"credits": 49}, {"credits": 1.5},
        {"credits": AMOUNT, "expiry_hours": 0}, {"credits": AMOUNT, "expiry_hours": 721},
    ],
)  # fmt: skip
async def test_what_cannot_be_asked_for(household, body):
    assert await household.owner.refused(REQUEST, body) == (422, "invalid_input")
    assert await household.sql("SELECT 1 FROM approval") == []


async def test_the_same_is_asked_for_once_until_it_has_expired(household):
    asked = await household.owner.op(REQUEST, {"credits": AMOUNT, "expiry_hours": 720})
    assert await household.owner.refused(REQUEST, {"credits": AMOUNT, "expiry_hours": 5}) == (409, "conflict")
    await household.owner.op(REQUEST, {"credits": AMOUNT + 1})
    await (await key_of_home(household)).op(REQUEST, {"credits": AMOUNT})
    await expire(household, asked["id"])
    again = await household.owner.op(REQUEST, {"credits": AMOUNT})
    assert again["id"] != asked["id"]
    assert (await household.owner.op(GET, {"approval_id": asked["id"]}))["status"] == "expired"
    listed = await household.owner.op(LIST)
    assert (listed["total"], listed["approvals"][0]["id"]) == (4, again["id"])


async def test_the_same_asked_at_once_is_asked_once(household):
    answers = await asyncio.gather(
        *(household.owner.op(REQUEST, {"credits": AMOUNT}) for _ in range(4)), return_exceptions=True
    )
    assert sum(isinstance(answer, dict) for answer in answers) == 1
    assert {error.code for error in answers if not isinstance(error, dict)} == {"conflict"}


async def test_who_owes_asks_for_nothing(household):
    for standing in ("past_due", "suspended"):
        await household.sql(
            "UPDATE organization SET standing = %s WHERE id = %s", standing, household.place.home.organization_id
        )
        assert await household.owner.refused(REQUEST, {"credits": AMOUNT}) == (402, "account_past_due")


async def test_requests_are_listed_newest_first_as_they_stand(household):
    ids = [(await household.owner.op(REQUEST, {"credits": AMOUNT + more}))["id"] for more in range(3)]
    await household.owner.op(REJECT, {"approval_id": ids[0], "reason": "Too early"})
    await expire(household, ids[1])
    listed = await household.owner.op(LIST)
    # The expired one was moved into the past.
    assert [(row["id"], row["status"]) for row in listed["approvals"]] == [
        (ids[2], "pending"), (ids[0], "rejected"), (ids[1], "expired"),
    ]  # fmt: skip
    for position, status in enumerate(("rejected", "expired", "pending")):
        some = await household.owner.op(LIST, {"status": status})
        assert (some["total"], [row["id"] for row in some["approvals"]]) == (1, [ids[position]])
    assert (await household.owner.op(LIST, {"status": "failed"})) == {"approvals": [], "total": 0}
    assert await household.owner.refused(LIST, {"status": "open"}) == (422, "unknown_field_value")
    assert await household.stranger.op(LIST) == {"approvals": [], "total": 0}


@pytest.mark.parametrize("operation_id", [GET, APPROVE, REJECT])
async def test_requests_of_others_do_not_exist(household, operation_id):
    asked = await household.owner.op(REQUEST, {"credits": AMOUNT})
    told = set()
    for unknown in (asked["id"], new_id(), "nothing"):
        with pytest.raises(NotFound) as refused:
            await household.stranger.op(operation_id, {"approval_id": unknown})
        told.add(refused.value.detail)
    assert told == {"There is no such approval."}


async def test_approving_charges_the_card_once_and_grants_the_credits(household):
    await with_card(household)
    asked = await (await key_of_home(household)).op(REQUEST, {"credits": AMOUNT})
    approved = await household.owner.op(APPROVE, {"approval_id": asked["id"]}, key="once")
    assert approved == {
        **asked, "status": "approved", "decided_by": household.place.home.user_id, "decided_at": approved["decided_at"],
        "topup_id": approved["topup_id"],
    }  # fmt: skip
    assert await household.owner.op(GET, {"approval_id": asked["id"]}) == approved
    assert await household.owner.op(APPROVE, {"approval_id": asked["id"]}, key="once") == approved
    for operation_id in (APPROVE, REJECT):
        assert await household.owner.refused(operation_id, {"approval_id": asked["id"]}) == (409, "illegal_state")
    [entry] = await household.sql("SELECT * FROM ledger_entry WHERE reason = 'approval_purchase'")
    assert (entry["credits"], entry["approval_id"], entry["topup_id"]) == (AMOUNT, asked["id"], approved["topup_id"])
    assert await balance(household) == OPENING_CREDITS + AMOUNT
    assert len(await check_charges(household.sql)) == 1
    [event] = await events(household, "approval.decided")
    assert event["data"] == approved


async def test_only_people_who_may_approve_do(household):
    await with_card(household)
    asked = await household.owner.op(REQUEST, {"credits": AMOUNT})
    body = {"approval_id": asked["id"]}
    assert await (await key_of_home(household)).refused(APPROVE, body) == (403, "human_required")
    for role in ("viewer", "member"):
        person = await colleague(household, role)
        assert await person.refused(APPROVE, body) == (403, "missing_scope")
        person.principal = replace(person.principal, scopes=frozenset({"billing:write"}))
        assert await person.refused(APPROVE, body) == (403, "role_required")
        assert await person.refused(REJECT, body) == (403, "role_required")
    assert (await (await colleague(household, "billing")).op(APPROVE, body))["status"] == "approved"


async def test_whoever_asks_approves_alone_only_where_nobody_else_may(household):
    await with_card(household)
    asked = [await household.owner.op(REQUEST, {"credits": AMOUNT + more}) for more in range(3)]
    first, second, third = ({"approval_id": row["id"]} for row in asked)
    await colleague(household, "viewer")
    await colleague(household, "admin", active=False)
    assert (await household.owner.op(APPROVE, first))["status"] == "approved"

    billing = await colleague(household, "billing")
    assert await household.owner.refused(APPROVE, second) == (403, "role_required")
    assert (await billing.op(APPROVE, second))["decided_by"] == billing.principal.id

    await household.sql(
        "UPDATE organization SET settings = '{\"four_eyes\": false}' WHERE id = %s", household.place.home.organization_id
    )
    assert (await household.owner.op(APPROVE, third))["status"] == "approved"


async def test_an_expired_request_is_decided_by_nobody(household):
    await with_card(household)
    asked = await household.owner.op(REQUEST, {"credits": AMOUNT})
    await expire(household, asked["id"])
    for operation_id in (APPROVE, REJECT):
        assert await household.owner.refused(operation_id, {"approval_id": asked["id"]}) == (410, "expired")
    for operation_id in (ADMIN_APPROVE, ADMIN_REJECT):
        assert await household.operator.refused(operation_id, {"approval_id": asked["id"]}) == (410, "expired")
    assert await check_charges(household.sql) == []


async def test_a_refused_card_leaves_the_request_pending(household):
    asked = await household.owner.op(REQUEST, {"credits": AMOUNT})
    body = {"approval_id": asked["id"]}
    assert await household.owner.refused(APPROVE, body) == (402, "no_payment_method")
    assert (await household.owner.op(GET, body)) == asked
    await with_card(household, "pm_card_chargeDeclined")
    assert await household.owner.refused(APPROVE, body) == (402, "card_declined")
    assert await household.owner.op(GET, body) == {**asked, "failure_code": "generic_decline"}
    await with_card(household)
    approved = await household.owner.op(APPROVE, body)
    assert (approved["status"], approved["failure_code"]) == ("approved", None)
    assert len(await check_charges(household.sql)) == 1


async def test_a_card_holder_confirms_and_the_request_is_approved(household):
    await with_card(household, "pm_card_authenticationRequired")
    asked = await household.owner.op(REQUEST, {"credits": AMOUNT})
    body = {"approval_id": asked["id"]}
    assert await household.owner.refused(APPROVE, body, key="k") == (402, "payment_authentication_required")
    # Waiting for the card holder, it cannot expire; nor does it open a second charge.
    await expire(household, asked["id"])
    assert await household.owner.refused(APPROVE, body, key="k") == (402, "payment_authentication_required")
    assert (await household.owner.op(GET, body))["status"] == "pending"
    await confirm(household)
    assert (await household.owner.op(APPROVE, body, key="k"))["status"] == "approved"
    assert len(await check_charges(household.sql)) == 1


async def test_a_request_that_waits_for_the_card_holder_can_be_withdrawn(household):
    await with_card(household, "pm_card_authenticationRequired")
    asked = await household.owner.op(REQUEST, {"credits": AMOUNT})
    assert (await household.owner.refused(APPROVE, {"approval_id": asked["id"]}))[0] == 402
    rejected = await household.owner.op(REJECT, {"approval_id": asked["id"]})
    assert rejected["status"] == "rejected"
    [intent] = await household.sql("SELECT status FROM test_processor_intent")
    assert intent["status"] == "canceled"
    assert await check_charges(household.sql) == []


async def test_a_request_cannot_be_withdrawn_once_the_card_holder_has_paid(household):
    await with_card(household, "pm_card_authenticationRequired")
    asked = await household.owner.op(REQUEST, {"credits": AMOUNT})
    assert (await household.owner.refused(APPROVE, {"approval_id": asked["id"]}))[0] == 402
    await confirm(household)
    assert await household.owner.refused(REJECT, {"approval_id": asked["id"]}) == (409, "resource_busy")
    await resolve_all(household)
    approved = await household.owner.op(GET, {"approval_id": asked["id"]})
    assert (approved["status"], approved["decided_by"]) == ("approved", household.place.home.user_id)
    assert len(await check_charges(household.sql)) == 1
    [event] = await events(household, "approval.decided")
    assert event["data"] == approved


async def test_whoever_asked_withdraws_and_others_reject_with_a_reason(household):
    key = await key_of_home(household)
    asked = await key.op(REQUEST, {"credits": AMOUNT})
    assert (await key.op(REJECT, {"approval_id": asked["id"]}))["decided_by"] == key.principal.id
    asked = await key.op(REQUEST, {"credits": AMOUNT})
    rejected = await household.owner.op(REJECT, {"approval_id": asked["id"], "reason": "Next quarter"})
    assert (rejected["status"], rejected["reason"], rejected["decided_by"]) == (
        "rejected",
        "Next quarter",
        household.place.home.user_id,
    )
    assert rejected["decided_at"] is not None
    assert await household.owner.refused(APPROVE, {"approval_id": asked["id"]}) == (409, "illegal_state")
    assert await household.owner.refused(REJECT, {"approval_id": asked["id"], "reason": "x" * 1_001}) == (422, "invalid_input")
    assert len(await events(household, "approval.decided")) == 2


async def test_operators_decide_for_any_organization_and_charge_its_card(household):
    await with_card(household)
    asked = [await household.owner.op(REQUEST, {"credits": AMOUNT + more}) for more in range(3)]
    approved = await household.operator.op(ADMIN_APPROVE, {"approval_id": asked[0]["id"]}, key="k")
    assert (approved["status"], approved["decided_by"]) == ("approved", household.place.operator_id)
    assert await balance(household) == OPENING_CREDITS + AMOUNT
    rejected = await household.operator.op(ADMIN_REJECT, {"approval_id": asked[1]["id"], "reason": "Unusual"})
    assert (rejected["status"], rejected["organization_id"]) == ("rejected", household.place.home.organization_id)
    by_service = {"approval_id": asked[2]["id"], "admin_user_id": household.place.operator_id}
    staff = Caller(household.house, service())
    assert (await staff.op(ADMIN_APPROVE, by_service))["decided_by"] == household.place.operator_id
    assert {row["organization_id"] for row in await events(household, "approval.decided")} == {
        household.place.home.organization_id
    }
    assert len(await check_charges(household.sql)) == 2
    for operation_id in (ADMIN_APPROVE, ADMIN_REJECT):
        assert await household.operator.refused(operation_id, {"approval_id": new_id()}) == (404, "not_found")
        assert await household.operator.refused(operation_id, {"approval_id": "x"}) == (404, "not_found")
        assert await household.owner.refused(operation_id, {"approval_id": asked[0]["id"]}) == (403, "missing_scope")


async def attempt(caller, operation_id: str, approval_id: str):
    """Returns the status of the reply, and of the request where it was decided."""
    try:
        return 200, (await caller.op(operation_id, {"approval_id": approval_id}))["status"]
    except OperationError as error:
        return error.status, error.code


async def test_two_approve_at_once_and_the_card_is_charged_once(household):
    await with_card(household)
    other = await colleague(household, "admin")
    asked = await (await key_of_home(household)).op(REQUEST, {"credits": AMOUNT})
    answers = await asyncio.gather(*(attempt(who, APPROVE, asked["id"]) for who in (household.owner, other, household.owner)))
    assert (200, "approved") in answers
    assert {status for status, _ in answers} <= {200, 409}, answers
    assert len(await check_charges(household.sql)) == 1
    assert await balance(household) == OPENING_CREDITS + AMOUNT
    assert len(await events(household, "approval.decided")) == 1


async def test_approved_and_rejected_at_once_it_is_one_of_both(household):
    await with_card(household)
    other = await colleague(household, "admin")
    key = await key_of_home(household)
    seen = set()
    for round_ in range(12):
        asked = await key.op(REQUEST, {"credits": AMOUNT + round_})
        before = await balance(household)

        async def late(wait, asked=asked):
            await asyncio.sleep(wait)
            return await attempt(other, REJECT, asked["id"])

        approve, reject = await asyncio.gather(attempt(household.owner, APPROVE, asked["id"]), late(round_ * 0.002))
        stands = (await household.owner.op(GET, {"approval_id": asked["id"]}))["status"]
        if stands == "approved":
            assert (approve, reject[0]) == ((200, "approved"), 409)
            assert await balance(household) == before + AMOUNT + round_
        else:
            assert (reject, approve[0]) == ((200, "rejected"), 409)
            assert await balance(household) == before
        seen.add(stands)
        await check_charges(household.sql)
    assert "approved" in seen


async def test_no_charge_is_begun_for_a_request_that_was_rejected_in_the_meantime(household, monkeypatch):
    """The rejection comes after the approving call has stepped out to charge the card, and before it has begun."""
    await with_card(household)
    other = await colleague(household, "admin")
    asked = await (await key_of_home(household)).op(REQUEST, {"credits": AMOUNT})
    charge = charging.charge

    async def rejected_first(purchase, outside):
        assert (await attempt(other, REJECT, asked["id"])) == (200, "rejected")
        await charge(purchase, outside)

    monkeypatch.setattr(charging, "charge", rejected_first)
    assert await attempt(household.owner, APPROVE, asked["id"]) == (409, "illegal_state")
    assert await household.sql("SELECT 1 FROM topup") == []
    assert await household.sql("SELECT 1 FROM test_processor_intent") == []


async def test_a_request_cannot_be_rejected_while_it_is_charged(household, monkeypatch):
    """The rejection comes after the card was charged; then the request is overdue, and another grants the credits first."""
    await with_card(household)
    other = await colleague(household, "admin")
    asked = await (await key_of_home(household)).op(REQUEST, {"credits": AMOUNT})
    charge = charging.charge

    async def rejected_after(purchase, outside):
        await charge(purchase, outside)
        assert await attempt(other, REJECT, asked["id"]) == (409, "resource_busy")
        await expire(household, asked["id"])
        await resolve_all(household)

    monkeypatch.setattr(charging, "charge", rejected_after)
    assert await attempt(household.owner, APPROVE, asked["id"]) == (200, "approved")
    assert len(await check_charges(household.sql)) == 1
    assert len(await events(household, "approval.decided")) == 1


async def test_what_was_decided_stays(household):
    asked = await household.owner.op(REQUEST, {"credits": AMOUNT})
    with pytest.raises(errors.IntegrityConstraintViolation):
        await household.sql("UPDATE approval SET credits = 1")
    await household.owner.op(REJECT, {"approval_id": asked["id"]})
    for change in ("UPDATE approval SET status = 'pending', decided_at = NULL", "DELETE FROM approval"):
        with pytest.raises(errors.IntegrityConstraintViolation):
            await household.sql(change)


async def test_money_that_comes_after_all_is_credits_although_the_request_was_rejected(household):
    """A processor may say of a charge that had failed that it has succeeded."""
    await with_card(household, "pm_card_chargeDeclined")
    asked = await household.owner.op(REQUEST, {"credits": AMOUNT})
    assert (await household.owner.refused(APPROVE, {"approval_id": asked["id"]}))[0] == 402
    await household.owner.op(REJECT, {"approval_id": asked["id"]})
    await household.sql("UPDATE test_processor_intent SET status = 'succeeded'")
    await resolve_all(household)
    assert len(await check_charges(household.sql)) == 1
    assert await balance(household) == OPENING_CREDITS + AMOUNT
    assert (await household.owner.op(GET, {"approval_id": asked["id"]}))["status"] == "rejected"


async def test_who_comes_back_with_the_same_key_has_approved(household):
    """The card holder's confirmation has brought the credits before the approver came back; another key is another call."""
    await with_card(household, "pm_card_authenticationRequired")
    other = await colleague(household, "admin")
    asked = await (await key_of_home(household)).op(REQUEST, {"credits": AMOUNT})
    body = {"approval_id": asked["id"]}
    assert (await household.owner.refused(APPROVE, body, key="k"))[0] == 402
    await confirm(household)
    await resolve_all(household)
    assert await other.refused(APPROVE, body, key="k") == (409, "illegal_state")
    assert (await household.owner.op(APPROVE, body, key="k"))["decided_by"] == household.place.home.user_id
    assert await household.owner.refused(APPROVE, body, key="other") == (409, "illegal_state")
    assert await household.owner.refused(APPROVE, body) == (409, "illegal_state")
    assert len(await check_charges(household.sql)) == 1
