"""Where an organization stands with its billing."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel
from typing_extensions import TypedDict

from geopera_server.domains.billing.crons import next_monthly_run
from geopera_server.domains.billing.operations.monthly import ORGANIZATION
from geopera_server.domains.billing.presenting import as_plan
from geopera_server.domains.billing.shapes import Plan
from geopera_server.domains.billing.store import plans, standing
from geopera_server.domains.identity.access import own_organization
from geopera_server.domains.payments.cards import has_default_card
from geopera_server.domains.usage.periods import period_usage
from geopera_server.domains.usage.shapes import Period, PeriodUsage
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import NotFound
from geopera_server.kernel.operation import operation
from geopera_server.values.periods import month_of


class OrgStatusInput(BaseModel):
    """Which organization; one's own."""

    organization_id: str


class BillingStatus(TypedDict):
    """Plan, standing and use of an organization in the running month."""

    organization_id: str
    billing_mode: str
    plan: Plan | None
    standing: str
    past_due_since: datetime | None
    suspended_reason: str | None
    free_tier: str
    deletion_scheduled_at: datetime | None
    current_period: Period
    usage: PeriodUsage
    has_payment_method: bool
    next_run_at: datetime


@operation(
    "billing.status.get",
    effect="read",
    scope="billing:read",
    raw=True,
    snapshot=True,
    example={"organization_id": ORGANIZATION},
)
async def status_get(ctx: Context, given: OrgStatusInput) -> BillingStatus:
    """Returns where your organization stands: plan, standing, use in the running month, and when that is billed."""
    organization_id = await own_organization(ctx.conn, ctx.principal, given.organization_id)
    organization = await standing.organization_of(ctx.conn, organization_id)
    if organization is None:
        raise NotFound("organization")
    ctx.touch("organization", organization_id)
    plan = await plans.plan_named(ctx.conn, organization["plan_id"])
    month = month_of(ctx.now)
    return BillingStatus(
        organization_id=organization_id,
        billing_mode=organization["billing_mode"],
        plan=None if plan is None else as_plan(plan),
        standing=organization["standing"],
        past_due_since=organization["past_due_since"],
        suspended_reason=organization["suspended_reason"],
        free_tier=organization["free_tier"],
        deletion_scheduled_at=organization["deletion_due_at"],
        current_period=Period(start=month.start, end=month.end),
        usage=await period_usage(ctx.conn, organization_id, month.start, month.end),
        has_payment_method=await has_default_card(ctx.conn, organization_id),
        next_run_at=next_monthly_run(ctx.now),
    )
