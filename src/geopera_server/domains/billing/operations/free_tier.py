"""The free tier: who waits for it, who is in it, and its credits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel
from typing_extensions import TypedDict

from geopera_server.db.pool import Row
from geopera_server.domains.billing.each import for_each
from geopera_server.domains.billing.granting import Granted, grant, is_free
from geopera_server.domains.billing.operations.monthly import ORGANIZATION, OrgInput
from geopera_server.domains.billing.store import free_tier, standing, wallets
from geopera_server.kernel.context import Context, Outside
from geopera_server.kernel.errors import Conflict, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.ledger.reading import balance_of
from geopera_server.values.ids import is_id
from geopera_server.values.periods import month_of


class _Empty(BaseModel):
    """Nothing to say."""


class Waiting(TypedDict):
    """An organization that waits for approval."""

    id: str
    name: str
    slug: str
    owner_email: str | None
    country: str | None
    created_at: datetime
    requested_at: datetime


class WaitingList(TypedDict):
    """Everybody who waits, oldest first."""

    organizations: list[Waiting]
    total: int


@operation("billing.free_tier.list_pending", effect="read", scope="admin:read", raw=True, example={})
async def list_pending(ctx: Context, given: _Empty) -> WaitingList:  # noqa: ARG001
    """Lists the organizations that wait for the free tier, oldest first; each has asked by signing up."""
    waiting = [
        Waiting(
            id=row["id"],
            name=row["name"],
            slug=row["slug"],
            owner_email=row["owner_email"],
            country=row["country"],
            created_at=row["created_at"],
            requested_at=row["created_at"],
        )
        for row in await free_tier.pending(ctx.conn)
    ]
    return WaitingList(organizations=waiting, total=len(waiting))


class ApproveInput(BaseModel):
    """Which organization; whoever acts is named where a service calls for them."""

    organization_id: str
    admin_user_id: str | None = None


class Approval(TypedDict):
    """The free tier as it is now, and what was given for it in this call."""

    organization_id: str
    free_tier: str
    granted_credits: int
    balance: int


@operation(
    "billing.free_tier.approve",
    effect="compute",
    scope="admin:write",
    raw=True,
    while_suspended=True,
    example={"organization_id": ORGANIZATION},
)
async def approve(ctx: Context, given: ApproveInput) -> Approval:
    """Lets an organization into the free tier and grants its signup credits and this month's at once; a repeat grants none."""
    organization = await _locked(ctx, given.organization_id)
    if not is_free(organization):
        raise Conflict(
            "The free tier is for the free plan, paid in advance. Move the organization there with billing.admin.set_plan and"
            " billing.admin.set_billing_mode first.",
            code="illegal_state",
        )
    if organization["free_tier"] != "approved":
        await standing.set_free_tier(ctx.conn, organization["id"], "approved", ctx.now)
    granted = await grant(ctx, organization["id"], actor_id=given.admin_user_id)
    balance = await balance_of(ctx.conn, organization["id"])
    return Approval(
        organization_id=organization["id"],
        free_tier="approved",
        granted_credits=granted.total,
        balance=balance["balance"],
    )


class Revocation(TypedDict):
    """The free tier as it is now."""

    organization_id: str
    free_tier: str


@operation(
    "billing.free_tier.revoke",
    effect="compute",
    scope="admin:write",
    raw=True,
    while_suspended=True,
    example={"organization_id": ORGANIZATION},
)
async def revoke(ctx: Context, given: OrgInput) -> Revocation:
    """Ends an organization's free tier: it gets no more grants, and keeps what it has had."""
    organization = await _locked(ctx, given.organization_id)
    if organization["free_tier"] != "approved":
        raise Conflict("This organization is not in the free tier: it was never approved, or revoked.", code="illegal_state")
    await standing.set_free_tier(ctx.conn, organization["id"], "revoked", ctx.now)
    return Revocation(organization_id=organization["id"], free_tier="revoked")


async def _locked(ctx: Context, organization_id: str) -> Row:
    """Returns an organization whose wallet nobody else moves until the call ends."""
    if not is_id(organization_id) or not await wallets.lock_account(ctx.conn, organization_id):
        raise NotFound("organization")
    organization = await standing.organization_of(ctx.conn, organization_id)
    if organization is None:
        raise NotFound("organization")
    ctx.touch("organization", organization_id)
    return organization


class MonthGrant(TypedDict):
    """What one organization was given."""

    signup: int
    monthly: int


@operation("billing.free_tier.grant", effect="compute", scope="admin:write", raw=True, internal=True)
async def grant_one(ctx: Context, given: OrgInput) -> MonthGrant:
    """Gives one organization of the free tier what it has not had; nothing while it is suspended or to be deleted."""
    organization = await _locked(ctx, given.organization_id)
    entitled = (
        organization["free_tier"] == "approved"
        and is_free(organization)
        and organization["suspended_at"] is None
        and organization["deletion_due_at"] is None
    )
    granted = await grant(ctx, organization["id"]) if entitled else Granted()
    return MonthGrant(signup=granted.signup, monthly=granted.monthly)


@dataclass(slots=True)
class Grants:
    """What everybody was given."""

    organizations: int = 0
    signup: int = 0
    monthly: int = 0
    skipped: int = 0
    credits: int = 0


async def _grant_all(outside: Outside, given: _Empty) -> Grants:  # noqa: ARG001
    async with outside.connection() as conn:
        members = await free_tier.approved(conn)
    grants = Grants()
    async for _, reply, _ in for_each(outside, grant_one, members):
        signup, monthly = (0, 0) if reply is None else (reply["signup"], reply["monthly"])
        grants.organizations += 1
        grants.signup += signup > 0
        grants.monthly += monthly > 0
        grants.skipped += not (signup or monthly)
        grants.credits += signup + monthly
    return grants


class GrantRound(TypedDict):
    """What the round gave: how many organizations were looked at, how many got each grant, and how many got nothing."""

    period: str
    organizations: int
    granted_signup: int
    granted_monthly: int
    skipped: int
    total_credits: int


@operation(
    "billing.free_tier.grant_all",
    effect="compute",
    scope="admin:write",
    raw=True,
    while_suspended=True,
    prepare=_grant_all,
    example={},
)
async def grant_all(ctx: Context, given: _Empty, grants: Grants) -> GrantRound:  # noqa: ARG001
    """Gives every organization of the free tier the signup and month grants it has not had; again gives nothing more."""
    return GrantRound(
        period=str(month_of(ctx.now)),
        organizations=grants.organizations,
        granted_signup=grants.signup,
        granted_monthly=grants.monthly,
        skipped=grants.skipped,
        total_credits=grants.credits,
    )
