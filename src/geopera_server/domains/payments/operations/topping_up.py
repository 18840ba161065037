"""What the worker does to top up by itself, as operations like any other: charging, and taking note of a refusal.

Each ends the job in its own transaction, which holds the account: a debit is either in the balance that is looked at last, or
comes when the job is over and queues the next one.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from datetime import datetime

from pydantic import BaseModel
from typing_extensions import TypedDict

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.payments import charging
from geopera_server.domains.payments.auto_topup import (
    AUTO_TOPUP,
    LOOK_AGAIN,
    MOST_FAILURES,
    WAIT_AFTER_FAILURE,
    Plan,
    day_start,
    plan,
)
from geopera_server.domains.payments.charging import Purchase
from geopera_server.domains.payments.refusals import refusal_of
from geopera_server.domains.payments.store import topups, wallets
from geopera_server.kernel.context import Context
from geopera_server.kernel.interlude import Interlude
from geopera_server.kernel.jobs import finish, require_lease
from geopera_server.kernel.operation import operation
from geopera_server.ledger.reading import balance_of
from geopera_server.values.clock import now


class TopUpInput(BaseModel):
    """The job that tops up."""

    job_id: str
    attempt: int


class ToppedUp(TypedDict):
    """What was bought, and when somebody looks again; None for never mind."""

    credits: int | None
    look_at: datetime | None


@operation(
    "billing.auto_topup.charge",
    effect="external_spend",
    scope="admin:write",
    raw=True,
    internal=True,
    while_suspended=True,
    while_past_due=True,
)
async def charge_when_low(ctx: Context, given: TopUpInput) -> ToppedUp:
    """Charges the default card so that the balance is back at its threshold, once for this job.

    Raises what charging raises; a charge that this job has seen refused is not tried again.
    """
    await topups.lock_account(ctx.conn, ctx.organization_id)
    await require_lease(ctx.conn, given.job_id, given.attempt)
    purchase = _purchase(ctx.organization_id, given.job_id)
    begun = next(iter(await topups.of_purpose(ctx.conn, ctx.organization_id, purchase.purpose)), None)
    if begun is not None and begun["state"] == "failed":
        raise refusal_of(begun)
    if begun is not None and begun["state"] != "canceled":
        await charging.bought(ctx, replace(purchase, credits=begun["credits"]))
        planned = await _planned(ctx.conn, ctx.organization_id, ctx.now)
        return await _end(ctx, given, begun["credits"], ctx.now if planned.credits else planned.look_at)
    planned = await _planned(ctx.conn, ctx.organization_id, ctx.now)
    if planned.credits is not None:
        over = replace(purchase, attempts_over=0 if begun is None else begun["attempt"])
        raise Interlude(functools.partial(charging.charge, over, size=_sized))
    return await _end(ctx, given, None, planned.look_at)


def _purchase(organization_id: str, job_id: str) -> Purchase:
    return Purchase(organization_id=organization_id, kind="auto", credits=0, purpose=f"auto:{job_id}", note="Automatic top-up")


async def _sized(conn: Connection, purchase: Purchase) -> Purchase | None:
    """Returns the purchase as it is needed at the moment at which the charge is begun; None when it is not any more."""
    planned = await _planned(conn, purchase.organization_id, now())
    return None if planned.credits is None else replace(purchase, credits=planned.credits)


async def _planned(conn: Connection, organization_id: str, at: datetime) -> Plan:
    row = await wallets.auto_topup_of(conn, organization_id, day_start(at))
    balance = (await balance_of(conn, organization_id))["balance"]
    return Plan() if row is None else plan(row, balance, at)


async def _end(ctx: Context, given: TopUpInput, credits_bought: int | None, look_at: datetime | None) -> ToppedUp:
    await finish(ctx.conn, given.job_id, given.attempt)
    if look_at is not None:
        ctx.enqueue(AUTO_TOPUP, ctx.organization_id, run_after=look_at)
    return ToppedUp(credits=credits_bought, look_at=look_at)


class RefusedInput(TopUpInput):
    """What became of the job's charge; one that counts is a refusal of the card."""

    code: str
    detail: str
    counts: bool


@operation("billing.auto_topup.refuse", effect="compute", scope="admin:write", raw=True, internal=True, while_suspended=True)
async def refuse(ctx: Context, given: RefusedInput) -> ToppedUp:
    """Takes note of a top-up that was not made: it is tried again later, and turned off after three refusals in a row."""
    await topups.lock_account(ctx.conn, ctx.organization_id)
    await require_lease(ctx.conn, given.job_id, given.attempt)
    if not given.counts:
        return await _end(ctx, given, None, ctx.now + LOOK_AGAIN)
    retry_after = ctx.now + WAIT_AFTER_FAILURE
    wallet = await wallets.note_failure(
        ctx.conn, ctx.organization_id, error=given.detail, retry_after=retry_after, most_failures=MOST_FAILURES
    )
    if wallet is None or wallet["auto_topup"]:
        return await _end(ctx, given, None, None if wallet is None else retry_after)
    _tell_turned_off(ctx, wallet, given)
    return await _end(ctx, given, None, None)


def _tell_turned_off(ctx: Context, wallet: Row, given: RefusedInput) -> None:
    ctx.emit(
        "topup.failed",
        ("organization", ctx.organization_id),
        {
            "organization_id": ctx.organization_id,
            "kind": "auto",
            "auto_topup_enabled": False,
            "threshold_credits": wallet["threshold_credits"],
            "topup_amount_credits": wallet["topup_amount_credits"],
            "failures_in_a_row": wallet["failures_in_a_row"],
            "failure_code": given.code,
            "message": f"Automatic top-up is off: the card was refused {wallet['failures_in_a_row']} times in a row, at last"
            f" with: {given.detail} See to the card, then turn it on again with billing.set_auto_topup.",
        },
    )
