"""What operators do for organizations that pay afterwards: see what is owed, and bill it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from geopera_server.db.pool import Row
from geopera_server.domains.commitments.burning import Shortfall, mark_settled, take_or_pay_due
from geopera_server.domains.invoicing import store
from geopera_server.domains.invoicing.billing import Unbilled, lines_of, unbilled_of
from geopera_server.domains.invoicing.issuing import issue_invoice
from geopera_server.domains.invoicing.periods import read_period
from geopera_server.domains.invoicing.presenting import as_invoice
from geopera_server.domains.invoicing.shapes import Accrual, AccruedOrder, MarkedInvoiced
from geopera_server.domains.pricing.rules import aud
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, InvalidInput, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.ledger import accruals
from geopera_server.values.ids import is_id
from geopera_server.values.periods import Period, month_of

_EXAMPLE_ID = "0192d3c4-0000-7000-8000-000000000000"


class AccrualInput(BaseModel):
    """Whose debt, and of which month; all that is unbilled unless said."""

    organization_id: str
    period: str | None = None


@operation(
    "billing.enterprise.accrual",
    effect="read",
    scope="admin:read",
    raw=True,
    snapshot=True,
    example={"organization_id": _EXAMPLE_ID, "period": "2026-03"},
)
async def accrual(ctx: Context, given: AccrualInput) -> Accrual:
    """Shows what an enterprise organization owes that no invoice has billed.

    Of a month: what was delivered in it. Of no month: everything, what is still under way too. Orders are at what an invoice
    would bill now, commitments applied; processing jobs are in the totals only, and take-or-pay is in neither.
    """
    period = None if given.period is None else read_period(given.period)
    organization = await store.organization_of(ctx.conn, given.organization_id) if is_id(given.organization_id) else None
    if organization is None:
        raise NotFound("organization")
    if organization["billing_mode"] != "enterprise":
        raise Conflict("This organization pays from its balance and accrues nothing.", code="illegal_state")
    unbilled = await unbilled_of(ctx.conn, organization["id"])
    keys = unbilled.of(period)
    waiting = await store.under_way(ctx.conn, organization["id"]) if period is None else []
    later = sum(row["credits"] for row in waiting)
    total = later + sum(unbilled.credits_of(key) for key in keys)
    uncommitted = later + sum(unbilled.credits_of(key, uncommitted=True) for key in keys)
    delivered = [_delivered(unbilled, key) for key in keys if unbilled.deliveries[key]["order_id"] is not None]
    return Accrual(
        organization_id=organization["id"],
        period=None if period is None else str(period),
        currency="AUD",
        accrued_aud=aud(total),
        accrued_credits=total,
        orders=[*delivered, *(_under_way(row) for row in waiting if row["order_id"] is not None)],
        uncommitted_aud=aud(uncommitted),
        as_of=ctx.now,
    )


def _delivered(unbilled: Unbilled, key: str) -> AccruedOrder:
    row, parts = unbilled.deliveries[key], unbilled.standing.parts_of(key)
    return AccruedOrder(
        orderId=row["order_id"],
        displayName=row["display_name"],
        status=row["status"],
        fulfilledAt=row["fulfilled_at"],
        areaSqkm=float(sum((part.sqkm for part in parts.values()), Decimal(0))),
        totalAud=aud(unbilled.credits_of(key)),
        commitment_id=next((each for each in parts if each is not None), None),
    )


def _under_way(row: Row) -> AccruedOrder:
    return AccruedOrder(
        orderId=row["order_id"],
        displayName=row["display_name"],
        status=row["status"],
        fulfilledAt=None,
        areaSqkm=float(row["area_sqkm"]),
        totalAud=aud(row["credits"]),
        commitment_id=None,
    )


class MarkInvoicedInput(BaseModel):
    """What to bill, and the reference of the invoice in the operator's own books."""

    organization_id: str
    reference: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    period: str | None = None
    order_ids: list[str] | None = Field(None, max_length=10_000)
    note: str | None = Field(None, max_length=2_000)


@operation(
    "billing.enterprise.mark_invoiced",
    effect="compute",
    scope="admin:write",
    raw=True,
    idempotent=True,
    while_suspended=True,
    while_past_due=True,
    example={"organization_id": _EXAMPLE_ID, "reference": "PO-2026-03", "period": "2026-03"},
)
async def mark_invoiced(ctx: Context, given: MarkInvoicedInput) -> MarkedInvoiced:
    """Makes the invoice of what an organization owes, and marks that as billed, each order once.

    Without order ids: everything delivered in the month and not billed, and the shortfalls of commitments whose term ended by
    the end of it; without a month everything up to now, on an invoice of the current month. A reference is good for one
    invoice.
    """
    period = None if given.period is None else read_period(given.period)
    organization = await store.lock_organization(ctx.conn, given.organization_id) if is_id(given.organization_id) else None
    if organization is None:
        raise NotFound("organization")
    organization_id = organization["id"]
    label = str(period or month_of(ctx.now))
    if await store.is_taken(ctx.conn, organization_id, reference=given.reference, kind="enterprise", period=label):
        raise Conflict(f"The reference {given.reference!r} is on another invoice of this organization. Choose a new one.")
    chosen = None if given.order_ids is None else await _chosen(ctx, organization_id, given.order_ids)
    unbilled = await unbilled_of(ctx.conn, organization_id)
    keys, due = chosen, list[Shortfall]()
    if keys is None:
        keys = unbilled.of(period)
        due = take_or_pay_due(unbilled.standing, at=ctx.now, ended_before=None if period is None else period.end)
    if not keys and not due:
        raise Conflict(_nothing_to_bill(period), code="illegal_state")
    row = await issue_invoice(
        ctx,
        organization_id=organization_id,
        period=label,
        lines=lines_of(unbilled, keys, due),
        kind="enterprise",
        reference=given.reference,
        note=given.note,
    )
    if await accruals.mark_billed(ctx.conn, organization_id, keys, row["id"]) != len(keys):
        raise Conflict("Some of these orders have just been billed by another call. Send the same request again.")
    await mark_settled(ctx.conn, organization_id, due, row["id"])
    ctx.touch("organization", organization_id)
    orders = sum(unbilled.deliveries[key]["order_id"] is not None for key in keys)
    return MarkedInvoiced(invoice=as_invoice(row), marked_orders=orders, total_aud=aud(row["total_credits"]))


def _nothing_to_bill(period: Period | None) -> str:
    when = "" if period is None else f" in {period}"
    return f"Nothing was delivered{when} that is not billed yet. See billing.enterprise.accrual and billing.invoices.list."


async def _chosen(ctx: Context, organization_id: str, order_ids: Sequence[str]) -> list[str]:
    """Returns the accruals of orders.

    Raises InvalidInput for one that is foreign or not delivered, Conflict for one that is billed.
    """
    wanted = list(dict.fromkeys(each.lower() for each in order_ids))
    if not wanted:
        raise InvalidInput("Name at least one order, or leave order_ids out to bill all.", loc=("order_ids",))
    found = await store.accruals_of(ctx.conn, organization_id, [each for each in wanted if is_id(each)])
    for index, order_id in enumerate(wanted):
        if order_id not in found or found[order_id]["billable_at"] is None:
            raise InvalidInput(
                f"Order {order_id} is not a delivered order that this organization owes for.", loc=("order_ids", index)
            )
    for order_id in wanted:
        if (number := found[order_id]["number"]) is not None:
            raise Conflict(f"Order {order_id} is on invoice {number} already.", code="illegal_state")
    return [found[order_id]["id"] for order_id in wanted]
