"""What an organization uses, and counting what it stores anew."""

from __future__ import annotations

import math
from datetime import timedelta

from pydantic import BaseModel, Field

from geopera_server.domains.identity.access import own_organization, require_org_admin
from geopera_server.domains.usage import rules
from geopera_server.domains.usage.periods import usage_in
from geopera_server.domains.usage.reconciling import keep_run, locked_total
from geopera_server.domains.usage.shapes import (
    CurrentUsage,
    MonthUsage,
    PeriodUsage,
    ProjectUsage,
    Recalculated,
    UsageHistory,
    UsedShare,
)
from geopera_server.domains.usage.store import periods as store
from geopera_server.domains.usage.store import storage
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import NotFound, RateLimited
from geopera_server.kernel.operation import operation

MOST_MONTHS = 36
RECALCULATE_EVERY = timedelta(minutes=10)
_EXAMPLE = {"organization_id": "0192d3c4-0000-7000-8000-000000000000"}


class UsageCurrentInput(BaseModel):
    """Whose use."""

    organization_id: str


@operation("usage.current", effect="read", scope="usage:read", raw=True, snapshot=True, example=_EXAMPLE)
async def current(ctx: Context, given: UsageCurrentInput) -> CurrentUsage:
    """Returns what an organization has used in the running calendar month (UTC), and how much of its plan that is.

    Counters lag by a few seconds. What is stored and spent is exact.
    """
    organization_id = await own_organization(ctx.conn, ctx.principal, given.organization_id)
    [month] = rules.months_until(ctx.now, 1)
    [usage] = await usage_in(ctx.conn, organization_id, [month])
    plan = await store.limits_of(ctx.conn, organization_id)
    if plan is None:
        raise NotFound("organization")
    rows = await store.projects_in(ctx.conn, organization_id, rules.days_of(month), (month["start"], month["end"]))
    return CurrentUsage(
        **usage,
        organization_id=organization_id,
        plan=plan["plan_id"],
        percent=_shares(usage),
        projects=[
            ProjectUsage(
                project_id=row["project_id"],
                name=row["name"],
                storage_bytes=max(0, row["storage_bytes"]),
                tile_requests=row["tile_requests"],
                credits=row["credits"],
            )
            for row in rows
        ],
        as_of=ctx.now,
    )


def _shares(usage: PeriodUsage) -> UsedShare:
    return UsedShare(
        storage=rules.percent_of(usage["storage"]["bytes_used"], usage["storage"]["bytes_limit"]),
        tiles=rules.percent_of(usage["tiles"]["requests"], usage["tiles"]["limit"]),
        egress=rules.percent_of(usage["egress"]["bytes"], usage["egress"]["limit_bytes"]),
    )


class UsageHistoryInput(BaseModel):
    """Whose use, and of how many months, the running one included."""

    organization_id: str
    months: int = Field(3, ge=1, le=MOST_MONTHS)


@operation("usage.history", effect="read", scope="usage:read", raw=True, snapshot=True, example={**_EXAMPLE, "months": 12})
async def history(ctx: Context, given: UsageHistoryInput) -> UsageHistory:
    """Returns what an organization used month by month (UTC), oldest first; months without any use are zeros."""
    organization_id = await own_organization(ctx.conn, ctx.principal, given.organization_id)
    months = await usage_in(ctx.conn, organization_id, rules.months_until(ctx.now, given.months))
    return UsageHistory(
        organization_id=organization_id,
        months=[
            MonthUsage(**usage, tile_requests=usage["tiles"]["requests"], peak_storage_bytes=usage["storage"]["bytes_peak"])
            for usage in months
        ],
    )


class RecalculateInput(BaseModel):
    """Whose stored bytes to count."""

    organization_id: str


@operation("usage.recalculate_storage", effect="compute", scope="usage:write", raw=True, example=_EXAMPLE)
async def recalculate_storage(ctx: Context, given: RecalculateInput) -> Recalculated:
    """Counts everything an organization stores and makes that its total; possible once in ten minutes.

    The ledger stays as it is: where it says something else, a flagged reconciliation run tells the operators.
    """
    organization_id = await own_organization(ctx.conn, ctx.principal, given.organization_id, to_change=True)
    require_org_admin(ctx.principal)
    before = await locked_total(ctx, organization_id)
    if before["recalculated_at"] is not None:
        wait_s = math.ceil((before["recalculated_at"] + RECALCULATE_EVERY - ctx.now).total_seconds())
        if wait_s > 0:
            raise RateLimited(
                f"Everything stored was counted a moment ago. Try again in {wait_s} s.",
                code="too_many_attempts",
                retry_after_s=wait_s,
            )
    found = await storage.compared(ctx.conn, organization_id, listed=0)
    if found["ledger_bytes"] != found["actual_bytes"]:
        await keep_run(ctx, organization_id, found, threshold_bytes=0)
    await storage.recount(ctx.conn, organization_id)
    await storage.note_recalculation(ctx.conn, organization_id, ctx.now)
    return Recalculated(
        organization_id=organization_id,
        previous_bytes=before["bytes"],
        recalculated_bytes=found["actual_bytes"],
        difference_bytes=found["actual_bytes"] - before["bytes"],
        assets_counted=found["assets"],
        as_of=ctx.now,
    )
