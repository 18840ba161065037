"""Moves credits. The database checks each posting itself (0003_ledger.sql); what it refuses does not happen.

Every posting has an `external_ref` that is unique within its reason, so that nothing is ever posted twice: a repeat raises
psycopg's UniqueViolation and takes its transaction back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from psycopg import errors

from geopera_server.db.pool import Connection, Row
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import PaymentRequired
from geopera_server.kernel.overspending import NOT_COVERED, OVER_BUDGET, over_budget
from geopera_server.values.ids import new_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What a posting is made for, kept with the entry."""

    organization_id: str
    invocation_id: str
    at: datetime
    principal_id: str | None = None
    api_key_id: str | None = None
    project_id: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """One entry to be."""

    reason: str
    credits: int
    external_ref: str
    reserved_delta: int = 0
    hold_id: str | None = None
    order_id: str | None = None
    job_id: str | None = None
    topup_id: str | None = None
    approval_id: str | None = None
    invoice_id: str | None = None


_INSERT = (
    "INSERT INTO ledger_entry (id, organization_id, created_at, reason, credits, reserved_delta, hold_id, project_id,"
    " order_id, job_id, topup_id, approval_id, invoice_id, principal_id, api_key_id, invocation_id, external_ref, note,"
    " balance_after, reserved_after, number)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 0, 0, 0) RETURNING *"
)


async def open_account(conn: Connection, organization_id: str) -> None:
    """Opens an organization's account with nothing in it."""
    await conn.execute("INSERT INTO ledger_account (organization_id) VALUES (%s)", (organization_id,))


async def post(conn: Connection, cause: Cause, posting: Posting) -> Row:
    """Posts one entry and returns it with the balances after it.

    Raises PaymentRequired (`insufficient_credits`) when the spendable balance does not cover it.
    """
    values = (
        new_id(), cause.organization_id, cause.at, posting.reason, posting.credits, posting.reserved_delta,
        posting.hold_id, cause.project_id, posting.order_id, posting.job_id, posting.topup_id, posting.approval_id,
        posting.invoice_id, cause.principal_id, cause.api_key_id, cause.invocation_id, posting.external_ref, cause.note,
    )  # fmt: skip
    try:
        row = await (await conn.execute(_INSERT, values)).fetchone()
    except errors.DatabaseError as error:
        if error.sqlstate == NOT_COVERED:
            raise _not_covered(posting.credits, error) from error
        if error.sqlstate == OVER_BUDGET:
            raise over_budget(error) from error
        raise
    assert row is not None
    return row


def _not_covered(credits_needed: int, error: errors.DatabaseError) -> PaymentRequired:
    return PaymentRequired(
        f"Not enough credits: {error.diag.message_detail}. Top up at least the difference, then send the same request again.",
        needed_credits=-credits_needed,
    )


async def reserve(
    conn: Connection, cause: Cause, *, credits_held: int, order_id: str | None = None, job_id: str | None = None
) -> Row:
    """Reserves credits for one order or job and returns the entry, which names the hold.

    Raises PaymentRequired when the balance is short.
    """
    hold_id = new_id()
    posting = Posting(
        reason="reserve",
        credits=-credits_held,
        reserved_delta=credits_held,
        hold_id=hold_id,
        order_id=order_id,
        job_id=job_id,
        external_ref=f"hold:{hold_id}",
    )
    async with conn.pipeline():
        await conn.execute(
            "INSERT INTO ledger_hold (id, organization_id, order_id, job_id, created_at) VALUES (%s, %s, %s, %s, %s)",
            (hold_id, cause.organization_id, order_id, job_id, cause.at),
        )
        return await post(conn, cause, posting)


async def hold_of(
    conn: Connection, organization_id: str, *, order_id: str | None = None, job_id: str | None = None
) -> Row | None:
    """Returns the hold of an order or job, locked until the transaction ends; None when nothing was reserved for it."""
    cursor = await conn.execute(
        "SELECT id, reserved, settled, released, remaining FROM ledger_hold"
        " WHERE organization_id = %s AND (order_id = %s OR job_id = %s) FOR UPDATE",
        (organization_id, order_id, job_id),
    )
    return await cursor.fetchone()


async def settle(
    conn: Connection,
    cause: Cause,
    *,
    hold_id: str,
    credits_settled: int,
    external_ref: str,
    order_id: str | None = None,
    job_id: str | None = None,
) -> None:
    """Turns a part of a hold into money spent; settling nothing posts nothing."""
    if credits_settled == 0:
        return
    await post(
        conn,
        replace(cause, note=f"settled {credits_settled} credits"),
        Posting(
            reason="settle",
            credits=0,
            reserved_delta=-credits_settled,
            hold_id=hold_id,
            order_id=order_id,
            job_id=job_id,
            external_ref=external_ref,
        ),
    )


async def release_rest(conn: Connection, cause: Cause, *, order_id: str | None = None, job_id: str | None = None) -> int:
    """Gives back what the hold of an order or job still holds, closing it, and returns how much that was."""
    hold = await hold_of(conn, cause.organization_id, order_id=order_id, job_id=job_id)
    if hold is None or hold["remaining"] == 0:
        return 0
    remaining = int(hold["remaining"])
    await post(
        conn,
        cause,
        Posting(
            reason="release",
            credits=remaining,
            reserved_delta=-remaining,
            hold_id=hold["id"],
            order_id=order_id,
            job_id=job_id,
            external_ref=f"close:{hold['id']}",
        ),
    )
    return remaining


def cause_of(ctx: Context, *, project_id: str | None = None, note: str | None = None) -> Cause:
    """Returns what the entries of a call name as their cause."""
    return Cause(
        organization_id=ctx.organization_id,
        invocation_id=ctx.invocation_id,
        at=ctx.now,
        principal_id=ctx.principal.id,
        api_key_id=ctx.principal.api_key_id,
        project_id=project_id,
        note=note,
    )
