"""Asking to buy a large amount, and deciding on it."""

from __future__ import annotations

import functools
from datetime import timedelta

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from geopera_server.db.pool import Row
from geopera_server.domains.identity.access import require_human, require_org_billing
from geopera_server.domains.payments import charging
from geopera_server.domains.payments.approvals import (
    STATUSES,
    ApprovalOutput,
    as_approval,
    decider,
    purpose_of,
    tell_decided,
)
from geopera_server.domains.payments.charging import Purchase
from geopera_server.domains.payments.operations.topup import MAX_CHARGE_CREDITS
from geopera_server.domains.payments.overtaking import unless_overtaken
from geopera_server.domains.payments.store import approvals
from geopera_server.domains.payments.terms import terms
from geopera_server.domains.pricing.rules import aud
from geopera_server.kernel.context import Context, Outside
from geopera_server.kernel.errors import Conflict, Denied, Gone, InvalidInput, NotFound
from geopera_server.kernel.interlude import Interlude
from geopera_server.kernel.operation import operation
from geopera_server.kernel.paging import MAX_LIMIT
from geopera_server.kernel.policy import leaving, past_due
from geopera_server.values.ids import is_id, new_id

_ID = "0192d3c4-0000-7000-8000-000000000000"
_BEING_CHARGED = frozenset({"created", "confirming", "succeeded"})


class RequestApprovalInput(BaseModel):
    """How many credits to buy, and for how many hours the request stands."""

    credits: int = Field(gt=0, le=MAX_CHARGE_CREDITS, strict=True)
    expiry_hours: int | None = Field(None, gt=0, le=720)


@operation(
    "billing.approvals.request",
    effect="compute",
    scope="billing:write",
    idempotent=True,
    while_suspended=True,
    example={"credits": 1_000_000},
)
async def request(ctx: Context, given: RequestApprovalInput) -> ApprovalOutput:
    """Asks the organization's owners, admins and billing members to approve a large purchase; no money moves."""
    policy = await approvals.policy_of(ctx.conn, ctx.organization_id)
    numbers = await terms(ctx.conn)
    if given.credits < numbers["minimum_charge_credits"]:
        smallest = numbers["minimum_charge_credits"]
        raise InvalidInput(f"No card is charged less than {smallest} credits (A${aud(smallest):.2f}).", loc=("credits",))
    approval_id = new_id()
    wanted = {
        "id": approval_id,
        "organization_id": ctx.organization_id,
        "credits": given.credits,
        "requested_by": ctx.principal.id,
        "requested_by_type": ctx.principal.kind,
        "at": ctx.now,
        "expires_at": ctx.now + timedelta(hours=given.expiry_hours or numbers["approval_hours"]),
    }
    if (same := await approvals.pending_like(ctx.conn, wanted)) is not None:
        raise Conflict(
            f"You have asked for {given.credits:,} credits already. Wait for a decision on request {same}, or reject it.",
            approval_id=same,
        )
    if policy is not None and policy["owes"]:
        raise past_due()
    if policy is not None and policy["leaving"]:
        raise leaving()
    await approvals.insert(ctx.conn, wanted)
    asked = as_approval(await _found(ctx, approval_id, ctx.organization_id))
    ctx.emit("approval.requested", ("approval", asked["id"]), asked)
    return asked


class ApprovalsListInput(BaseModel):
    """Which requests to show; without status all."""

    status: str | None = None


class Approvals(TypedDict):
    """An organization's requests, newest first; `total` counts those beyond the thousand shown too."""

    approvals: list[ApprovalOutput]
    total: int


@operation(
    "billing.approvals.list", effect="read", scope="billing:read", raw=True, snapshot=True, example={"status": "pending"}
)
async def approvals_list(ctx: Context, given: ApprovalsListInput) -> Approvals:
    """Lists your organization's requests to buy credits, newest first."""
    if given.status is not None and given.status not in STATUSES:
        raise InvalidInput(
            f"There is no status {given.status!r}. Use one of: {', '.join(STATUSES)}.",
            loc=("status",),
            code="unknown_field_value",
        )
    rows = await approvals.newest(ctx.conn, ctx.organization_id, status=given.status, at=ctx.now, limit=MAX_LIMIT)
    return Approvals(
        approvals=[as_approval(row) for row in rows],
        total=await approvals.count(ctx.conn, ctx.organization_id, status=given.status, at=ctx.now),
    )


class ApprovalGetInput(BaseModel):
    """The request to read."""

    approval_id: str


@operation("billing.approvals.get", effect="read", scope="billing:read", raw=True, example={"approval_id": _ID})
async def get(ctx: Context, given: ApprovalGetInput) -> ApprovalOutput:
    """Returns one request to buy credits."""
    return as_approval(await _found(ctx, given.approval_id, ctx.organization_id))


class ApprovalRefInput(BaseModel):
    """The request to approve."""

    approval_id: str


@operation(
    "billing.approvals.approve",
    effect="external_spend",
    scope="billing:write",
    while_suspended=True,
    while_past_due=True,
    example={"approval_id": _ID},
)
async def approve(ctx: Context, given: ApprovalRefInput) -> ApprovalOutput:
    """Approves a request: charges the default card and grants the credits.

    Another person than the one who asked does this, where there is one who may. A refused card leaves the request pending.
    """
    row = await _found(ctx, given.approval_id, ctx.organization_id)
    user_id = require_human(ctx.principal)
    require_org_billing(ctx.principal)
    await _require_four_eyes(ctx, row, user_id)
    return await _charged(ctx, row)


class AdminApproveInput(BaseModel):
    """The request to approve; a service names the human it acts for."""

    approval_id: str
    admin_user_id: str | None = None


@operation(
    "billing.admin.approvals.approve",
    effect="external_spend",
    scope="admin:write",
    extension=True,
    while_suspended=True,
    while_past_due=True,
    example={"approval_id": _ID},
)
async def admin_approve(ctx: Context, given: AdminApproveInput) -> ApprovalOutput:
    """Approves a request of any organization, charging that organization's default card."""
    return await _charged(ctx, await _found(ctx, given.approval_id, None))


async def _charged(ctx: Context, row: Row) -> ApprovalOutput:
    """Returns the request approved and paid; the card is charged outside, and the call comes here again."""
    ctx.touch("approval", row["id"])
    if row["status"] == "approved" and await _is_own(ctx, row):
        return as_approval(row)
    _require_open(row)
    try:
        paid = await charging.bought(
            ctx,
            Purchase(
                organization_id=row["organization_id"],
                kind="approval",
                credits=row["credits"],
                purpose=purpose_of(row["id"]),
                approval_id=row["id"],
            ),
        )
    except Interlude as interlude:
        raise Interlude(functools.partial(_set_out, ctx, row["id"], unless_overtaken(interlude))) from interlude
    if ctx.invocation_id not in {paid["invocation_id"], paid["entry"]["invocation_id"]}:
        raise _decided("approved")
    return as_approval(await _found(ctx, row["id"], row["organization_id"]))


async def _is_own(ctx: Context, row: Row) -> bool:
    """Says whether it is this very call whose charge somebody else has brought to its end first."""
    if row["charge_invocation_id"] == ctx.invocation_id:
        return True
    return row["decided_by"] == ctx.principal.id and await approvals.has_called(
        ctx.conn, row["id"], principal_id=ctx.principal.id, idempotency_key=ctx.idempotency_key
    )


async def _set_out(ctx: Context, approval_id: str, interlude: Interlude, outside: Outside) -> None:
    if ctx.idempotency_key is not None and ctx.principal.user_id is not None:
        async with outside.connection() as conn:
            await approvals.note_call(
                conn, approval_id, principal_id=ctx.principal.user_id, idempotency_key=ctx.idempotency_key
            )
    await interlude.play(outside)


async def _require_four_eyes(ctx: Context, row: Row, user_id: str) -> None:
    if row["requested_by"] != user_id:
        return
    policy = await approvals.policy_of(ctx.conn, row["organization_id"])
    if policy is not None and policy["four_eyes"] is False:
        return
    if await approvals.has_other_approver(ctx.conn, row["organization_id"], user_id):
        raise Denied(
            "You have asked for this yourself. Let another owner, admin or billing member of your organization approve it."
        )


class RejectApprovalInput(BaseModel):
    """The request to reject, and why."""

    approval_id: str
    reason: str | None = Field(None, max_length=1_000)


@operation(
    "billing.approvals.reject", effect="compute", scope="billing:write", while_suspended=True, example={"approval_id": _ID}
)
async def reject(ctx: Context, given: RejectApprovalInput) -> ApprovalOutput:
    """Rejects a request; whoever has asked may withdraw it this way."""
    row = await _locked(ctx, given.approval_id, ctx.organization_id)
    if row["requested_by"] != ctx.principal.id:
        require_org_billing(ctx.principal)
    return await _rejected(ctx, row, given.reason)


class AdminRejectInput(BaseModel):
    """The request to reject, and why; a service names the human it acts for."""

    approval_id: str
    reason: str | None = Field(None, max_length=1_000)
    admin_user_id: str | None = None


@operation(
    "billing.admin.approvals.reject",
    effect="compute",
    scope="admin:write",
    extension=True,
    while_suspended=True,
    example={"approval_id": _ID, "reason": "Asked for twice"},
)
async def admin_reject(ctx: Context, given: AdminRejectInput) -> ApprovalOutput:
    """Rejects a request of any organization."""
    return await _rejected(ctx, await _locked(ctx, given.approval_id, None), given.reason)


async def _rejected(ctx: Context, row: Row, reason: str | None) -> ApprovalOutput:
    ctx.touch("approval", row["id"])
    _require_open(row)
    if row["charge_state"] in _BEING_CHARGED:
        raise Conflict(
            "The card is being charged for this request at the moment. Look at it again shortly.",
            code="resource_busy",
            retry_after_s=5,
        )
    if row["charge_state"] == "requires_action":
        raise Interlude(functools.partial(charging.call_off, row["organization_id"], row["charge_id"], row["charge_intent_id"]))
    await approvals.set_rejected(ctx.conn, row["id"], decided_by=decider(ctx), reason=reason, at=ctx.now)
    return as_approval(await tell_decided(ctx, row["id"]))


async def _locked(ctx: Context, approval_id: str, organization_id: str | None) -> Row:
    row = await _found(ctx, approval_id, organization_id)
    await approvals.lock(ctx.conn, row["id"])
    return await _found(ctx, row["id"], organization_id)


async def _found(ctx: Context, approval_id: str, organization_id: str | None) -> Row:
    row = None
    if is_id(approval_id):
        row = await approvals.of_id(ctx.conn, approval_id, organization_id=organization_id, at=ctx.now)
    if row is None:
        raise NotFound("approval")
    return row


def _require_open(row: Row) -> None:
    if row["status"] == "expired":
        raise Gone("This request has expired. Ask again with billing.approvals.request.")
    if row["status"] != "pending":
        raise _decided(row["status"])


def _decided(status: str) -> Conflict:
    return Conflict(f"This request is {status} already.", code="illegal_state")
