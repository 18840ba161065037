"""What follows from a wallet's level: an alarm that rings once on the way down, and the automatic top-up.

A balance is low under a tenth of the last purchase, or under the organization's own `low_credit_threshold`. Both functions run
in the transaction of the posting, which holds the account: nobody else moves the wallet or its alarm meanwhile.
"""

from __future__ import annotations

from datetime import datetime

from geopera_server.db.pool import Row
from geopera_server.domains.payments.approvals import notice_paid
from geopera_server.domains.payments.auto_topup import AUTO_TOPUP
from geopera_server.domains.payments.store import wallets
from geopera_server.domains.pricing.rules import aud
from geopera_server.kernel.context import Context

# A shortfall charge is spent at once: it says nothing about how much the organization likes to have.
PURCHASES = frozenset({"topup", "auto_topup", "approval_purchase"})
LOW_PART = 10


async def notice_debit(ctx: Context, entry: Row) -> None:
    """Tells of a balance that this entry has made low, and wakes the automatic top-up when it is under its threshold."""
    organization_id, balance = entry["organization_id"], entry["balance_after"]
    alarm = await wallets.alarm_of(ctx.conn, organization_id)
    if entry["credits"] >= 0 or alarm is None:
        return
    limit = low_limit(alarm)
    # Credits may have come in without anybody looking: who was above before this entry is told again.
    if balance < limit and (not alarm["low_alerted"] or balance - entry["credits"] >= limit):
        await wallets.set_low_alerted(ctx.conn, organization_id, alerted=True)
        ctx.emit(
            "credits.low",
            ("organization", organization_id),
            _figures(ctx, entry, alarm, limit),
            organization_id=organization_id,
        )
    if alarm["auto_topup"] and balance < alarm["threshold_credits"]:
        ctx.enqueue(AUTO_TOPUP, organization_id, organization_id=organization_id, run_after=_not_before(ctx, alarm))


async def notice_credit(ctx: Context, entry: Row) -> None:
    """Keeps what was bought last, and arms the alarm again once the balance is not low.

    A purchase ends what it was made for: a row of refused automatic top-ups, or the request that was approved.
    """
    organization_id = entry["organization_id"]
    if entry["approval_id"] is not None:
        await notice_paid(ctx, entry)
    if entry["reason"] in PURCHASES:
        await wallets.note_purchase(ctx.conn, organization_id, credits_bought=entry["credits"])
    if entry["reason"] == "auto_topup":
        await wallets.note_auto_topup(ctx.conn, organization_id, ctx.now)
    alarm = await wallets.alarm_of(ctx.conn, organization_id)
    if alarm is not None and alarm["low_alerted"] and entry["balance_after"] >= low_limit(alarm):
        await wallets.set_low_alerted(ctx.conn, organization_id, alerted=False)


def is_quiet(alarm: Row, balance: int) -> bool:
    """Says whether a debit that leaves this balance needs no notice, by an alarm that was read before the debit.

    Whoever has read the alarm along with something else saves a reading of its own by asking this first. Others may have set
    it off or armed it in between, which matters only to a balance that is low.
    """
    wakes = alarm["auto_topup"] and balance < alarm["threshold_credits"]
    return balance >= low_limit(alarm) and not wakes


def low_limit(alarm: Row) -> int:
    """Returns the balance in credits below which it is low; 0 when nothing says so."""
    own = alarm["low_credit_threshold"]
    # Settings are the organization's own JSON: anything but a whole number sets nothing.
    configured = own if isinstance(own, int) and not isinstance(own, bool) else 0
    return max(-(-int(alarm["last_purchase_credits"]) // LOW_PART), configured)


def _not_before(ctx: Context, alarm: Row) -> datetime:
    return ctx.now if alarm["retry_after"] is None else max(ctx.now, alarm["retry_after"])


def _figures(ctx: Context, entry: Row, alarm: Row, limit: int) -> dict[str, object]:
    return {
        "organization_id": entry["organization_id"],
        "balance": entry["balance_after"],
        "reserved": entry["reserved_after"],
        "total": entry["balance_after"] + entry["reserved_after"],
        "balance_aud": aud(entry["balance_after"]),
        "currency": "AUD",
        "billing_mode": alarm["billing_mode"],
        "as_of": ctx.now,
        "threshold_credits": limit,
    }
