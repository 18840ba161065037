"""Requests to buy a large amount, and how one becomes approved: with the credits that were paid for it, in one transaction.

Approving charges a card, which happens outside any transaction. Nobody can reject a request once a charge for it has been
begun, and no charge can be begun for one that was rejected (0009_approvals.sql); so whatever is charged arrives as credits and
the request is approved then, whoever sees the charge through. A charge that ends without money leaves the request pending.
"""

from __future__ import annotations

from datetime import datetime

from typing_extensions import TypedDict

from geopera_server.db.pool import Row
from geopera_server.domains.payments.store import approvals
from geopera_server.domains.pricing.rules import aud
from geopera_server.kernel.context import Context
from geopera_server.values.ids import is_id

STATUSES = ("pending", "approved", "rejected", "expired", "failed")


class ApprovalOutput(TypedDict):
    """A request to buy credits, and what was decided."""

    id: str
    organization_id: str
    credits: int
    amount_aud: float
    currency: str
    status: str
    requested_by: str
    requested_by_type: str
    created_at: datetime
    expires_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    reason: str | None
    topup_id: str | None
    failure_code: str | None


def as_approval(row: Row) -> ApprovalOutput:
    """Returns a request as its organization sees it; `failure_code` is why the last charge for it was refused."""
    return ApprovalOutput(
        id=row["id"],
        organization_id=row["organization_id"],
        credits=row["credits"],
        amount_aud=aud(row["credits"]),
        currency="AUD",
        status=row["status"],
        requested_by=row["requested_by"],
        requested_by_type=row["requested_by_type"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        decided_by=row["decided_by"],
        decided_at=row["decided_at"],
        reason=row["reason"],
        topup_id=row["topup_id"],
        failure_code=None if row["status"] == "approved" else row["failure_code"],
    )


def purpose_of(approval_id: str) -> str:
    """Returns what the charge for a request is known by; 0009_approvals.sql and the store read it too."""
    return f"approval:{approval_id}"


async def notice_paid(ctx: Context, entry: Row) -> None:
    """Approves the request that this ledger entry has paid for, unless that is done."""
    decided_by = decider(ctx) or entry["principal_id"]
    if await approvals.set_approved(ctx.conn, entry, decided_by=decided_by, at=ctx.now):
        await tell_decided(ctx, entry["approval_id"])


def decider(ctx: Context) -> str | None:
    """Returns the human who decides in this call: the caller, or the operator whom a service names."""
    if ctx.principal.kind != "service":
        return ctx.principal.id
    named = ctx.given.get("admin_user_id")
    return named if isinstance(named, str) and is_id(named) else None


async def tell_decided(ctx: Context, approval_id: str) -> Row:
    """Emits approval.decided for a request as it stands now, and returns it."""
    row = await approvals.of_id(ctx.conn, approval_id, organization_id=None, at=ctx.now)
    assert row is not None
    ctx.emit("approval.decided", ("approval", row["id"]), as_approval(row), organization_id=row["organization_id"])
    return row
