"""What operators do with organizations: find them, change their plan, suspend them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from geopera_server.db.pool import Row
from geopera_server.domains.billing.operations.monthly import ORGANIZATION, OrgInput
from geopera_server.domains.billing.store import administration, months, plans, standing
from geopera_server.domains.pricing.rules import aud
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.kernel.paging import MAX_OFFSET, clamped
from geopera_server.kernel.principal import PLATFORM_ORGANIZATION_ID
from geopera_server.values.ids import is_id

Standing = Literal["active", "past_due", "suspended", "pending_deletion"]


class OrganizationsInput(BaseModel):
    """Which organizations, and which page of them."""

    search: str | None = Field(None, max_length=200, description="part of name or slug, or an id")
    standing: Standing | None = None
    plan: str | None = None
    billing_mode: Literal["prepaid", "enterprise"] | None = None
    limit: int = Field(50, ge=1)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)


class OrganizationAccount(TypedDict):
    """An organization with what it holds, owes and stores."""

    id: str
    name: str
    slug: str
    plan: str
    billing_mode: str
    standing: str
    balance: int
    accrued_aud: float
    storage_bytes: int
    member_count: int
    created_at: datetime


class OrganizationAccounts(TypedDict):
    """A page of organizations, newest first."""

    organizations: list[OrganizationAccount]
    total: int
    limit: int
    offset: int


@operation(
    "billing.admin.organizations.list",
    effect="read",
    scope="admin:read",
    raw=True,
    extension=True,
    snapshot=True,
    example={"search": "harbour", "standing": "past_due", "limit": 20},
)
async def list_organizations(ctx: Context, given: OrganizationsInput) -> OrganizationAccounts:
    """Lists the organizations of this deployment, newest first."""
    wanted = {**given.model_dump(), "search": given.search or None, "limit": clamped(given.limit)}
    rows = await administration.organizations(ctx.conn, wanted)
    return OrganizationAccounts(
        organizations=[_account(row) for row in rows],
        total=await administration.count_organizations(ctx.conn, wanted),
        limit=wanted["limit"],
        offset=given.offset,
    )


def _account(row: Row) -> OrganizationAccount:
    return OrganizationAccount(
        id=row["id"],
        name=row["name"],
        slug=row["slug"],
        plan=row["plan_id"],
        billing_mode=row["billing_mode"],
        standing=row["standing"],
        balance=row["balance"],
        accrued_aud=aud(row["accrued"]),
        storage_bytes=row["storage_bytes"],
        member_count=row["member_count"],
        created_at=row["created_at"],
    )


class SetPlanInput(BaseModel):
    """Which organization goes to which plan."""

    organization_id: str
    plan: str
    force: bool = Field(False, description="also to a plan that is smaller than what is in use")


class PlanChange(BaseModel):
    """The plan that the organization is on now."""

    organization_id: str
    plan: str


@operation(
    "billing.admin.set_plan",
    effect="compute",
    scope="admin:write",
    extension=True,
    while_suspended=True,
    example={"organization_id": ORGANIZATION, "plan": "professional"},
)
async def set_plan(ctx: Context, given: SetPlanInput) -> PlanChange:
    """Moves an organization to another plan at once; the fee of the month is charged by days, in the month's run.

    Refused when more is in use than the plan allows at most, unless `force` is set.
    """
    organization = await _organization(ctx, given.organization_id)
    plan = await plans.plan_named(ctx.conn, given.plan)
    if plan is None:
        raise NotFound("plan")
    over = _too_much(plan, await administration.in_use(ctx.conn, organization["id"]))
    if over and not given.force:
        raise Conflict(
            f"More is in use than the plan {plan['name']} allows: {'; '.join(over)}. Remove some, or set force.",
            code="illegal_state",
        )
    if plan["id"] != organization["plan_id"]:
        await plans.set_plan(ctx.conn, organization["id"], plan["id"], ctx.now)
    return PlanChange(organization_id=organization["id"], plan=plan["id"])


def _too_much(plan: Row, used: Row) -> list[str]:
    """Returns what is over a limit of a plan that it sells nothing beyond."""
    hard = ["projects", "api_keys", "seats"]
    if not plan["overage"].get("storage_gb_month_credits"):
        hard.append("storage_bytes")
    limits = {name: plan["included"].get(name) for name in hard}
    return [
        f"{used[name]:,} {name.replace('_', ' ')} of {limit:,}"
        for name, limit in limits.items()
        if limit is not None and used[name] > limit
    ]


class SuspendInput(BaseModel):
    """Which organization, and why, as it will read."""

    organization_id: str
    reason: str | None = Field(None, max_length=1_000)


class StandingOutput(BaseModel):
    """Where the organization stands now."""

    organization_id: str
    standing: str


@operation(
    "billing.admin.suspend",
    effect="compute",
    scope="admin:write",
    extension=True,
    while_suspended=True,
    example={"organization_id": ORGANIZATION, "reason": "Disputed payments"},
)
async def suspend(ctx: Context, given: SuspendInput) -> StandingOutput:
    """Suspends an organization: reads and billing go on, everything else is refused, and its shares serve nobody.

    What runs already runs to its end. A suspension for debt becomes the operator's own and no longer ends with the debt.
    """
    organization = await _organization(ctx, given.organization_id)
    if organization["suspended_at"] is not None and not organization["suspended_for_debt"]:
        raise Conflict("This organization is suspended already.", code="illegal_state")
    await standing.set_suspended(ctx.conn, organization["id"], reason=given.reason, for_debt=False, at=ctx.now)
    return await _standing(ctx, organization["id"])


@operation(
    "billing.admin.unsuspend",
    effect="compute",
    scope="admin:write",
    extension=True,
    while_suspended=True,
    example={"organization_id": ORGANIZATION},
)
async def unsuspend(ctx: Context, given: OrgInput) -> StandingOutput:
    """Ends a suspension; who still owes is past due then, with all the days that the terms allow before them."""
    organization = await _organization(ctx, given.organization_id)
    if organization["suspended_at"] is None:
        raise Conflict("This organization is not suspended.", code="illegal_state")
    await standing.end_suspension(ctx.conn, organization["id"], ctx.now)
    if organization["past_due_since"] is not None:
        await standing.set_owing(ctx.conn, organization["id"], None, ctx.now)
        await standing.set_owing(ctx.conn, organization["id"], ctx.now, ctx.now)
    return await _standing(ctx, organization["id"])


async def _organization(ctx: Context, organization_id: str) -> dict[str, Any]:
    found = await months.lock_organization(ctx.conn, organization_id) if is_id(organization_id) else None
    if found is None:
        raise NotFound("organization")
    if found["id"] == PLATFORM_ORGANIZATION_ID:
        raise Conflict("This is the platform's own organization, which stays as it is.", code="illegal_state")
    ctx.touch("organization", organization_id)
    return found


async def _standing(ctx: Context, organization_id: str) -> StandingOutput:
    row = await standing.organization_of(ctx.conn, organization_id)
    assert row is not None
    return StandingOutput(organization_id=organization_id, standing=row["standing"])
