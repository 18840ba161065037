"""Bills a closed month, once: from the balance, and what is missing from the card, or not at all until it can be paid whole.

What the month came to is kept before a card is asked, so that every later attempt is about the same lines. Nothing is taken
from the balance until balance and card together cover the whole month.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.billing.fees import Line, month_lines
from geopera_server.domains.billing.standing import owes, settled
from geopera_server.domains.billing.store import months, plans, wallets
from geopera_server.domains.invoicing.issuing import issue_invoice
from geopera_server.domains.invoicing.lines import NewLine
from geopera_server.domains.payments.charging import Purchase, bought
from geopera_server.domains.payments.low_balance import notice_debit
from geopera_server.domains.payments.terms import terms
from geopera_server.domains.usage.periods import billable_usage
from geopera_server.kernel.context import Context, Outside
from geopera_server.kernel.crashing import crash_point
from geopera_server.kernel.errors import Conflict, NotFound, PaymentRequired
from geopera_server.kernel.interlude import Interlude
from geopera_server.ledger import postings, reading
from geopera_server.values.clock import now
from geopera_server.values.ids import is_id, new_id
from geopera_server.values.periods import Period, month_of

COUNTED_AFTER = timedelta(minutes=15)
_FINAL = {"billed": "already_billed", "nothing_due": "nothing_due"}
_DESCRIPTIONS = {
    "plan_fee": "Plan, {quantity} days of {period}",
    "storage_overage": "Storage beyond the plan, {period}",
    "tile_overage": "Tiles beyond the plan, {period}",
    "egress_overage": "Downloads beyond the plan, {period}",
    "share_tiles": "Tiles of shares beyond the plan, {period}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A month's row, and what has become of it in this call."""

    row: Row
    status: str


def last_closed(at: datetime) -> Period:
    """Returns the last month that is over and counted: what servers have counted in memory is written by then."""
    return month_of(at - COUNTED_AFTER).preceding


async def open_month(conn: Connection, organization_id: str, last: Period) -> Period | None:
    """Returns the first closed month that is not done with; None when all up to the last one are."""
    began = await months.first_month_at(conn, organization_id)
    done = await months.final_periods(conn, organization_id)
    period = last if began is None else min(month_of(began), last)
    while str(period) in done and period < last:
        period = period.following
    return None if str(period) in done else period


async def bill(ctx: Context, organization_id: str, *, charge: bool = True) -> Outcome:
    """Bills the first closed month that is not done with, or finds the last one done; raises NotFound and Conflict.

    Without `charge` the balance alone may pay. A month that cannot be paid leaves the organization past due; one that is paid
    ends that, as soon as no other is open and the balance is not in debt.
    """
    if not await months.take_turn(ctx.conn, organization_id):
        raise Conflict(
            "This organization is being billed by another call. Ask again shortly for what came of it.",
            code="resource_busy",
            retry_after_s=5,
        )
    if not await wallets.lock_account(ctx.conn, organization_id):
        raise NotFound("organization")
    organization = await months.lock_organization(ctx.conn, organization_id)
    if organization is None:
        raise NotFound("organization")
    ctx.touch("organization", organization_id)
    if organization["suspended_at"] is not None and ctx.principal.kind == "service":
        charge = False  # a card that was declined until this came of it is asked by people again, not by the clock
    last = last_closed(ctx.now)
    period = await open_month(ctx.conn, organization_id, last)
    outcome = await _settle_month(ctx, organization, period or last, charge=charge)
    if outcome.status == "past_due":
        await owes(ctx.conn, organization_id, ctx.now)
    else:
        await settled(ctx.conn, organization_id, ctx.now)
    crash_point("month-before-commit")
    return outcome


async def _settle_month(ctx: Context, organization: Row, period: Period, *, charge: bool) -> Outcome:
    run = await months.run_of(ctx.conn, organization["id"], str(period))
    if run is not None and run["status"] in _FINAL:
        return Outcome(row=run, status=_FINAL[run["status"]])
    if run is None:
        run = await _reckoned(ctx, organization, period)
    if run["status"] == "nothing_due":
        return Outcome(row=run, status="nothing_due")
    lines = [Line.from_json(line) for line in run["lines"]]
    if organization["billing_mode"] == "enterprise":
        return await _invoiced(ctx, run, lines)
    if not await _covered(ctx, run, charge=charge):
        await months.set_past_due(ctx.conn, run["id"], ctx.now)
        return Outcome(row=run, status="past_due")
    return await _debited(ctx, run, lines)


async def _reckoned(ctx: Context, organization: Row, period: Period) -> Row:
    """Keeps and returns what a month came to, from what is closed and changes no more."""
    changes = await plans.changes_before(ctx.conn, organization["id"], period.end)
    used = await billable_usage(ctx.conn, organization["id"], period.start, period.end)
    lines = month_lines(changes, used, period)
    row = {
        "id": new_id(),
        "organization_id": organization["id"],
        "period": str(period),
        "status": "computed" if lines else "nothing_due",
        "lines": [line.as_json() for line in lines],
        "total_credits": sum(line.credits for line in lines),
        "at": ctx.now,
    }
    await months.keep_run(ctx.conn, row)
    return {**row, "charged_credits": 0, "topup_id": None, "invoice_id": None, "refused_in": None}


async def _covered(ctx: Context, run: Row, *, charge: bool) -> bool:
    """Says whether the balance covers the month, after the card was charged for what was missing if it may be."""
    balance = int((await reading.balance_of(ctx.conn, run["organization_id"]))["balance"])
    while balance < run["total_credits"]:
        if not charge or run["refused_in"] == ctx.invocation_id:
            return False
        try:
            topup = await bought(ctx, await _purchase(ctx, run, run["total_credits"] - balance))
        except Interlude as interlude:
            raise Interlude(_asking(run, interlude)) from interlude
        balance += topup["credits"]
    return True


async def _purchase(ctx: Context, run: Row, short_credits: int) -> Purchase:
    """Returns what to buy: what a charge under way is for, else what is missing now.

    A charge whose credits came into the wallet and are gone again has had its time: the next one has the next number.
    """
    base = f"month:{run['period']}"
    made = {row["purpose"]: row for row in await months.charges_for(ctx.conn, run["organization_id"], base)}
    names = (base if number == 1 else f"{base}:{number}" for number in count(1))
    purpose = next(name for name in names if name not in made or not made[name]["granted"])
    least = (await terms(ctx.conn))["minimum_charge_credits"]
    return Purchase(
        organization_id=run["organization_id"],
        kind="shortfall",
        purpose=purpose,
        credits=made[purpose]["credits"] if purpose in made else max(short_credits, least),
        note=f"For {run['period']}",
    )


def _asking(run: Row, interlude: Interlude) -> Any:
    """Returns an interlude that keeps the month's lines before the card is asked, and its refusal instead of raising it."""

    async def play(outside: Outside) -> None:
        async with outside.connection() as conn:
            await months.keep_run(conn, {"at": now(), **run})
        crash_point("month-computed")
        try:
            await interlude.play(outside)
        except PaymentRequired as refusal:
            async with outside.connection() as conn:
                await months.note_refusal(
                    conn,
                    {
                        "organization_id": run["organization_id"],
                        "period": run["period"],
                        "code": refusal.code,
                        "invocation_id": outside.invocation_id,
                        "at": now(),
                    },
                )

    return play


async def _debited(ctx: Context, run: Row, lines: list[Line]) -> Outcome:
    organization_id, period = run["organization_id"], run["period"]
    invoice = await _statement(ctx, run, lines, status="paid")
    cause = postings.Cause(
        organization_id=organization_id,
        invocation_id=ctx.invocation_id,
        at=ctx.now,
        principal_id=ctx.principal.id if ctx.principal.id is not None and is_id(ctx.principal.id) else None,
        api_key_id=ctx.principal.api_key_id,
        note=period,
    )
    for line in lines:
        posting = postings.Posting(
            reason=line.kind,
            credits=-line.credits,
            external_ref=f"{organization_id}:{period}",
            invoice_id=invoice["id"],
        )
        entry = await postings.post(ctx.conn, cause, posting)
    await notice_debit(ctx, entry)
    charges = await months.charges_for(ctx.conn, organization_id, f"month:{period}")
    paid = [row for row in charges if row["granted"]]
    return await _billed(ctx, run, invoice, paid)


async def _invoiced(ctx: Context, run: Row, lines: list[Line]) -> Outcome:
    """Bills the month by an invoice to be paid: who pays afterwards is not debited."""
    return await _billed(ctx, run, await _statement(ctx, run, lines, status="issued"), [])


async def _statement(ctx: Context, run: Row, lines: list[Line], *, status: Any) -> Row:
    return await issue_invoice(
        ctx,
        organization_id=run["organization_id"],
        period=run["period"],
        lines=[_invoice_line(line, run["period"]) for line in lines],
        kind="statement",
        status=status,
    )


def _invoice_line(line: Line, period: str) -> NewLine:
    return NewLine(
        kind=line.kind,
        description=_DESCRIPTIONS[line.kind].format(quantity=line.quantity, period=period),
        credits=line.credits,
        quantity=line.quantity,
        unit=line.unit,
        unit_price_credits=(line.credits / line.quantity).quantize(Decimal("0.0001")),
    )


async def _billed(ctx: Context, run: Row, invoice: Row, charges: list[Row]) -> Outcome:
    row = await months.set_billed(
        ctx.conn,
        {
            "id": run["id"],
            "charged_credits": sum(charge["credits"] for charge in charges),
            "topup_id": charges[-1]["id"] if charges else None,
            "invoice_id": invoice["id"],
            "at": ctx.now,
        },
    )
    return Outcome(row=row, status="billed")
