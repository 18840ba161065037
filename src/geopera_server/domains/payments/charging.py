r"""Charging a card, so that whatever breaks on the way it is charged once and every charge becomes credits.

    created  ->  confirming  ->  succeeded  ->  granted (a ledger entry)
       |             |  \
       |             |   requires_action -> succeeded | failed | canceled
       v             v
    canceled       failed | canceled  ->  succeeded, where the processor says so later after all

Each arrow is a transaction of its own. An intent is made at the processor, its id is kept, and only then it is confirmed, which
is what moves money; so a charge that nobody heard the end of can always be asked after. What a call does not finish is finished
by the next call for the same purpose, by the processor's notice, or by the round that looks after old charges.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from psycopg import errors as sql_errors

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.budgets.purchases import require_room_to_buy
from geopera_server.domains.payments.auto_topup import auto_topup_size
from geopera_server.domains.payments.low_balance import notice_credit
from geopera_server.domains.payments.outcomes import fail, record
from geopera_server.domains.payments.presenting import as_topup
from geopera_server.domains.payments.refusals import elsewhere, in_progress, no_answer, no_card, refusal_of, unusable
from geopera_server.domains.payments.store import topups
from geopera_server.domains.payments.terms import tax_part, terms
from geopera_server.kernel.context import Context, Outside
from geopera_server.kernel.crashing import crash_point
from geopera_server.kernel.errors import Conflict, NotFound, PaymentRequired, Unavailable
from geopera_server.kernel.interlude import Interlude
from geopera_server.ledger import postings
from geopera_server.ports.payments import Intent, Processor, ProcessorError, ProcessorUnreachable
from geopera_server.values.clock import now
from geopera_server.values.ids import is_id, new_id

logger = logging.getLogger(__name__)

REASON_OF_KIND = {
    "manual": "topup",
    "auto": "auto_topup",
    "approval": "approval_purchase",
    "shortfall": "shortfall_charge",
}
ASKED_TO_CONFIRM_FOR = timedelta(hours=24)
LOOK_SOON = timedelta(seconds=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """Credits to buy with a card, and the purpose that makes the charge findable; no method means the default card.

    `attempts_over` is how many charges for the purpose its buyer has seen come to their end: another one is begun only after
    exactly these.
    """

    organization_id: str
    kind: str
    credits: int
    purpose: str
    method_row_id: str | None = None
    project_id: str | None = None
    approval_id: str | None = None
    note: str | None = None
    claimed_credits: int = 0
    attempts_over: int = 0


Size = Callable[[Connection, Purchase], Awaitable[Purchase | None]]


def purpose_of_call(ctx: Context) -> str:
    """Returns the purpose of what a call buys: a repeat with the same Idempotency-Key has the same."""
    return f"{ctx.operation_id}:{ctx.idempotency_key or ctx.invocation_id}"


async def bought(ctx: Context, purchase: Purchase) -> Row:
    """Returns the top-up that was bought for a purpose, its credits granted in this transaction at the latest.

    `entry` in it is the ledger entry. A card that has not been charged yet is charged outside, and the call begins anew.
    Raises PaymentRequired (`no_payment_method`, `card_declined`, `payment_authentication_required`), Unavailable when the
    processor gives no answer, and Conflict when the purpose was used for other credits or another card.
    """
    await topups.lock_account(ctx.conn, purchase.organization_id)
    attempts = await topups.of_purpose(ctx.conn, purchase.organization_id, purchase.purpose)
    paid = next((row for row in attempts if row["state"] == "succeeded"), None)
    if paid is not None:
        _require_same(paid, purchase)
        return await granted(ctx, paid, note=purchase.note)
    is_open = bool(attempts) and attempts[0]["state"] in topups.OPEN
    if is_open:
        _require_same(attempts[0], purchase)
    raise Interlude(functools.partial(charge, replace(purchase, attempts_over=len(attempts) - is_open)))


def _require_same(row: Row, purchase: Purchase) -> None:
    other_card = purchase.method_row_id is not None and purchase.method_row_id != row["payment_method_id"]
    if row["credits"] != purchase.credits or other_card:
        raise Conflict(
            "This Idempotency-Key was used for another amount or another card. Use a new key for a new purchase.",
            code="idempotency_mismatch",
        )


async def granted(ctx: Context, row: Row, *, note: str | None = None) -> Row:
    """Returns a succeeded top-up with its ledger entry, posting it unless it has been posted; its row must be locked."""
    if row["ledger_entry_id"] is not None:
        return {**row, "entry": await topups.entry_of(ctx.conn, row["ledger_entry_id"])}
    cause = postings.Cause(
        organization_id=row["organization_id"],
        invocation_id=ctx.invocation_id,
        at=ctx.now,
        principal_id=row["principal_id"],
        api_key_id=row["api_key_id"],
        project_id=row["project_id"],
        note=note,
    )
    posting = postings.Posting(
        reason=REASON_OF_KIND[row["kind"]],
        credits=row["credits"],
        # The intent makes the grant unique: a notice and a reply can never grant the same charge twice.
        external_ref=f"{row['processor']}:{row['intent_id']}",
        topup_id=row["id"],
        approval_id=row["approval_id"],
    )
    entry = await postings.post(ctx.conn, cause, posting)
    await topups.set_granted(ctx.conn, row["id"], entry_id=entry["id"], at=ctx.now)
    await notice_credit(ctx, entry)
    row = {**row, "ledger_entry_id": entry["id"], "entry": entry}
    ctx.emit("topup.succeeded", ("topup", row["id"]), as_topup(row), organization_id=row["organization_id"])
    if await topups.past_due(ctx.conn, row["organization_id"]):
        ctx.enqueue("billing.collect", row["organization_id"], organization_id=row["organization_id"])
    crash_point("grant-before-commit")
    return row


async def charge(purchase: Purchase, outside: Outside, *, size: Size | None = None) -> None:
    """Charges the card for a purpose, or finds out what became of a charge that was begun; keeps how it ended.

    With `size`, how much a new charge is for is worked out while nobody else moves the account; None means nothing.
    Returns when the charge has succeeded, or when one has come to its end that the buyer has not seen: look again then.
    Raises what `bought` raises.
    """
    processor = outside.ports.processor
    row = await _taken(outside, purchase, size)
    if row is None:
        return
    crash_point("charge-opened")
    try:
        intent = await _carried_out(outside, processor, row)
    except ProcessorUnreachable as error:
        logger.warning("charge %s: %s", row["id"], error)
        async with outside.connection() as conn:
            await topups.let_go(conn, row["id"], holder=outside.invocation_id, at=now(), look_after=now() + LOOK_SOON)
        raise no_answer() from error
    except ProcessorError as error:
        logger.warning("charge %s is refused: %s", row["id"], error)
        await _refused_outright(outside, processor, row, error)
        raise unusable(error) from error
    crash_point("charge-made")
    try:
        async with outside.connection() as conn, conn.transaction():
            await topups.lock_account(conn, row["organization_id"])
            row = await record(conn, row["id"], intent, invocation_id=outside.invocation_id)
    except ProcessorError as error:
        logger.error("charge %s is not recorded: %s", row["id"], error)  # noqa: TRY400  (the text says it all)
        raise unusable(error) from error
    crash_point("charge-recorded")
    if row["state"] == "failed":
        await _withdraw(processor, row)
    if row["state"] != "succeeded":
        raise refusal_of(row)


async def call_off(organization_id: str, topup_id: str, intent_id: str, outside: Outside) -> None:
    """Ends a charge that waits for its card holder, who could pay it as long as it is there; one that was paid stays."""
    try:
        intent = await outside.ports.processor.charges.cancel(intent_id)
    except ProcessorError as error:
        raise Unavailable(
            "A payment waits for its card holder, and the card processor does not call it off at the moment. Try again later.",
            code="upstream_timeout",
        ) from error
    async with outside.connection() as conn, conn.transaction():
        await topups.lock_account(conn, organization_id)
        await record(conn, topup_id, intent, invocation_id=outside.invocation_id)


async def _taken(outside: Outside, purchase: Purchase, size: Size | None) -> Row | None:
    """Returns the open charge for a purpose, now this call's; a new one when there is none, unless one has just ended.

    None also when `size` says that nothing is needed any more.
    """
    at = now()
    until = at + lease(outside.ports.processor)
    async with outside.connection() as conn, conn.transaction():
        await topups.lock_account(conn, purchase.organization_id)
        attempts = await topups.of_purpose(conn, purchase.organization_id, purchase.purpose)
        row = attempts[0] if attempts and attempts[0]["state"] in topups.OPEN else None
        if len(attempts) - (row is not None) != purchase.attempts_over:
            return None
        if row is None:
            sized = purchase if size is None else await size(conn, purchase)
            return None if sized is None else await _begun(conn, outside, sized, at=at, until=until)
        if size is None:
            _require_same(row, purchase)
        if row["processor"] != outside.ports.processor.name:
            raise elsewhere(row)
        if row["holder"] != outside.invocation_id and row["held_until"] > at:
            raise in_progress(row["held_until"] - at)
        await topups.take(conn, row["id"], holder=outside.invocation_id, until=until)
        return {**row, "holder": outside.invocation_id, "held_until": until}


async def _begun(conn: Connection, outside: Outside, purchase: Purchase, *, at: datetime, until: datetime) -> Row:
    processor, method_row_id = outside.ports.processor, purchase.method_row_id
    if method_row_id is not None and not is_id(method_row_id):
        raise NotFound("payment method")
    method = await topups.chargeable_method(conn, purchase.organization_id, processor.name, method_row_id)
    if method is None and method_row_id is not None:
        raise NotFound("payment method")
    if method is None:
        raise no_card(processor.name)
    if purchase.kind == "auto" and await auto_topup_size(conn, purchase.organization_id, purchase.credits, at) is None:
        raise PaymentRequired("Automatic top-ups have reached their cap for today. Top up by hand, or raise the cap.")
    if purchase.kind == "manual":
        await require_room_to_buy(conn, outside.principal, purchase.credits, at)
    percent = (await terms(conn))["tax_percent"]
    try:
        return await topups.insert(
            conn,
            {
                "id": new_id(),
                "organization_id": purchase.organization_id,
                "kind": purchase.kind,
                "purpose": purchase.purpose,
                "credits": purchase.credits,
                "tax_credits": tax_part(purchase.credits, percent),
                "claimed_credits": purchase.claimed_credits,
                "processor": processor.name,
                "customer_id": method["customer_id"],
                "payment_method_id": method["id"],
                "method_id": method["method_id"],
                "approval_id": purchase.approval_id,
                "project_id": purchase.project_id,
                "principal_id": _id_or_none(outside.principal.id),
                "api_key_id": outside.principal.api_key_id,
                "invocation_id": outside.invocation_id,
                "holder": outside.invocation_id,
                "held_until": until,
                "at": at,
            },
        )
    except sql_errors.UniqueViolation as error:
        raise in_progress(until - at) from error


def _id_or_none(text: str | None) -> str | None:
    return text if text is not None and is_id(text) else None


def lease(processor: Processor) -> timedelta:
    """Returns how long a call may be at work on a charge before others may look: two requests to the processor, and a bit."""
    return timedelta(seconds=2 * processor.timeout_s + 1)


async def _carried_out(outside: Outside, processor: Processor, row: Row) -> Intent:
    """Brings a charge as far as it goes, and returns its intent as the processor sees it then."""
    if row["state"] != "created":
        intent = await processor.charges.intent(row["intent_id"])
        return await _confirmed(processor, row, intent) if intent.status == "requires_confirmation" else intent
    intent = await processor.charges.create(
        customer_id=row["customer_id"],
        method_id=row["method_id"],
        amount_cents=row["credits"],
        metadata={"topup_id": row["id"], "organization_id": row["organization_id"]},
        key=f"geopera-intent-{row['id']}",
    )
    crash_point("intent-made")
    async with outside.connection() as conn:
        kept = await topups.keep_intent(conn, row["id"], holder=row["holder"], intent=intent, at=now())
    if kept is None:
        raise in_progress(lease(processor))
    crash_point("intent-kept")
    return await _confirmed(processor, row, intent)


async def _confirmed(processor: Processor, row: Row, intent: Intent) -> Intent:
    try:
        return await processor.charges.confirm(intent.id, key=f"geopera-confirm-{row['id']}")
    except ProcessorUnreachable:
        # The answer may be lost and the charge made: one look before the caller is told to come again.
        seen = await processor.charges.intent(intent.id)
        if seen.status in {"requires_confirmation", "processing"}:
            raise
        return seen


async def _withdraw(processor: Processor, row: Row) -> None:
    """Ends a refused intent at the processor, where another card could still pay it; what pays it all the same is granted."""
    try:
        await processor.charges.cancel(row["intent_id"])
    except ProcessorError as error:
        logger.warning("the refused charge %s could not be withdrawn: %s", row["id"], error)


async def _refused_outright(outside: Outside, processor: Processor, row: Row, error: ProcessorError) -> None:
    """Ends a charge that the processor will not make at all; one whose intent is kept is ended there first."""
    async with outside.connection() as conn:
        current = await topups.of_id(conn, row["id"])
    if current is None or current["holder"] != row["holder"]:
        return
    intent = None
    if current["intent_id"] is not None:
        try:
            intent = await processor.charges.cancel(current["intent_id"])
        except ProcessorError as second:
            logger.warning("the refused charge %s could not be withdrawn: %s", row["id"], second)
            return
    async with outside.connection() as conn, conn.transaction():
        await topups.lock_account(conn, row["organization_id"])
        if intent is not None:
            await record(conn, row["id"], intent, invocation_id=outside.invocation_id)
            return
        current = await topups.of_id(conn, row["id"], lock=True)
        if current is not None and current["state"] == "created" and current["holder"] == row["holder"]:
            await fail(conn, row, error, invocation_id=outside.invocation_id)
