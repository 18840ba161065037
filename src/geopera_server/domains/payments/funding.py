"""Paying for an order or a job: from the balance, with a card for what is missing, or on account.

The last thing that a spend does, since it locks the wallet.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, Literal

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.budgets.alerts import crossings
from geopera_server.domains.payments.auto_topup import auto_topup_size
from geopera_server.domains.payments.cards import has_default_card
from geopera_server.domains.payments.charging import Purchase, call_off, charge, granted, purpose_of_call
from geopera_server.domains.payments.low_balance import is_quiet, notice_debit
from geopera_server.domains.payments.store import topups
from geopera_server.domains.payments.terms import terms
from geopera_server.kernel.context import Context, Outside
from geopera_server.kernel.errors import NotFound, PaymentRequired
from geopera_server.kernel.interlude import Interlude
from geopera_server.ledger import accruals, postings
from geopera_server.values.clock import now

Mode = Literal["credit", "card", "enterprise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Funded:
    """How a spend was paid; nothing is held for one that costs nothing or is paid on account."""

    mode: Mode
    hold_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a spend would meet if it came now."""

    billing_mode: str
    balance: int
    shortfall_credits: int
    approval_threshold_credits: int
    has_card: bool

    @property
    def approval_required(self) -> bool:
        """Whether more is missing than may be charged without approval."""
        return self.shortfall_credits > self.approval_threshold_credits


async def fund(
    ctx: Context, *, credits_needed: int, project_id: str | None, order_id: str | None = None, job_id: str | None = None
) -> Funded:
    """Reserves the credits of one order or job, or notes them as owed, and says how they were paid.

    What the balance lacks is bought with the default card first: the card is charged outside, and the call begins anew.
    Raises PaymentRequired (`insufficient_credits`, `approval_required`, `budget_exceeded`, and those of a charge).
    """
    purpose = purpose_of_call(ctx)
    means = await topups.means_of(ctx.conn, ctx.organization_id, purpose)
    if means is None:
        raise NotFound("organization")
    cause = postings.cause_of(ctx, project_id=project_id)
    if means["billing_mode"] == "enterprise":
        await accruals.accrue(ctx.conn, cause, credits_accrued=credits_needed, order_id=order_id, job_id=job_id)
        if means["has_budgets"]:
            await crossings(ctx)
        return Funded(mode="enterprise", hold_id=None)
    mode: Mode = (
        "card" if means["attempts"] and await _bring_in(ctx, purpose, enough=credits_needed <= means["balance"]) else "credit"
    )
    if credits_needed == 0:
        return Funded(mode=mode, hold_id=None)
    try:
        entry = await postings.reserve(ctx.conn, cause, credits_held=credits_needed, order_id=order_id, job_id=job_id)
    except PaymentRequired as error:
        if error.code != "insufficient_credits":
            raise
        raise Interlude(functools.partial(_cover, credits_needed, purpose, project_id, means["attempts"])) from error
    # What has just been bought moves the alarm, which was read before.
    if mode == "card" or not is_quiet(means, entry["balance_after"]):
        await notice_debit(ctx, entry)
    if means["has_budgets"]:
        await crossings(ctx)
    return Funded(mode=mode, hold_id=entry["hold_id"])


async def _bring_in(ctx: Context, purpose: str, *, enough: bool) -> bool:
    """Grants what was charged for this purpose and says whether anything was; an open charge is brought to its end first.

    The balance comes before the card: where there is enough by now, a payment that waits for its card holder is called off.
    """
    await topups.lock_account(ctx.conn, ctx.organization_id)
    charges = await topups.of_purpose(ctx.conn, ctx.organization_id, purpose)
    for row in charges:
        if row["state"] == "requires_action" and enough:
            raise Interlude(functools.partial(call_off, row["organization_id"], row["id"], row["intent_id"]))
        if row["state"] in topups.OPEN:
            raise Interlude(functools.partial(charge, _as_before(row)))
    succeeded = [row for row in charges if row["state"] == "succeeded"]
    for row in succeeded:
        await granted(ctx, row)
    return bool(succeeded)


def _as_before(row: Row) -> Purchase:
    return Purchase(
        organization_id=row["organization_id"],
        kind=row["kind"],
        credits=row["credits"],
        purpose=row["purpose"],
        project_id=row["project_id"],
        attempts_over=row["attempt"] - 1,
    )


async def _cover(credits_needed: int, purpose: str, project_id: str | None, attempts_over: int, outside: Outside) -> None:
    """Buys what a spend lacks; returns at once when the balance covers it meanwhile."""
    wanted = Purchase(
        organization_id=outside.organization_id,
        kind="shortfall",
        credits=credits_needed,
        purpose=purpose,
        project_id=project_id,
        attempts_over=attempts_over,
    )
    await charge(wanted, outside, size=functools.partial(_sized, credits_needed, outside.ports.processor.name))


async def _sized(credits_needed: int, processor: str, conn: Connection, wanted: Purchase) -> Purchase | None:
    """Returns what to charge for a spend: the organization's automatic top-up where that is on, else exactly what is missing.

    What other spends are about to take is not there any more: without that, spends that come together would each count on
    the same balance and be charged twice.
    """
    at = now()
    seen = await outlook(conn, wanted.organization_id, credits_needed)
    arriving = await topups.bought_but_not_granted(conn, wanted.organization_id, wanted.purpose)
    claimed = await topups.claimed_by_others(conn, wanted.organization_id, wanted.purpose, at)
    # Others claim no more than there is; a debt has to be paid as well, or the spend still finds no cover.
    available = max(min(seen.balance, 0), seen.balance - claimed) + arriving
    missing = credits_needed - available
    if seen.billing_mode == "enterprise" or credits_needed <= seen.balance + arriving:
        return None
    if await topups.chargeable_method(conn, wanted.organization_id, processor, None) is None:
        raise PaymentRequired(
            f"Not enough credits: {credits_needed:,} needed, {seen.balance:,} available. Top up at least"
            f" {seen.shortfall_credits:,}, or save a card, then send the same request again.",
            needed_credits=credits_needed,
            available_credits=seen.balance,
            shortfall_credits=seen.shortfall_credits,
        )
    if missing > seen.approval_threshold_credits:
        raise PaymentRequired(
            f"{missing:,} credits are missing, which is more than may be charged without approval. Ask for it with"
            " billing.approvals.request, then send the same request again.",
            code="approval_required",
            shortfall_credits=missing,
        )
    claim = max(0, available)
    automatic = await auto_topup_size(conn, wanted.organization_id, missing, at)
    if automatic is not None:
        return replace(wanted, kind="auto", credits=automatic, claimed_credits=claim)
    # No processor charges less than its minimum; what that brings too much stays in the balance.
    minimum = int((await terms(conn))["minimum_charge_credits"])
    return replace(wanted, credits=max(missing, minimum), claimed_credits=claim)


async def outlook(conn: Connection, organization_id: str, credits_needed: int) -> Outlook:
    """Returns what a spend of so many credits would meet now; changes nothing."""
    means = await topups.means_of(conn, organization_id, "")
    if means is None:
        raise NotFound("organization")
    enterprise = means["billing_mode"] == "enterprise"
    balance = int(means["balance"])
    shortfall = 0 if enterprise else max(0, credits_needed - balance)
    return Outlook(
        billing_mode=means["billing_mode"],
        balance=balance,
        shortfall_credits=shortfall,
        approval_threshold_credits=_threshold(means["settings"], await terms(conn)),
        has_card=await has_default_card(conn, organization_id),
    )


async def approval_threshold(conn: Connection, organization_id: str, numbers: Row) -> int:
    """Returns the most credits that may be bought at once without approval: the organization's own number, else the terms'."""
    settings = await topups.settings_of(conn, organization_id)
    if settings is None:
        raise NotFound("organization")
    return _threshold(settings, numbers)


def _threshold(settings: dict[str, Any], numbers: Row) -> int:
    own = settings.get("approval_threshold_credits")
    # Settings are the organization's own JSON: anything but a whole number sets nothing.
    if isinstance(own, int) and not isinstance(own, bool) and own >= 0:
        return own
    return int(numbers["approval_threshold_credits"])
