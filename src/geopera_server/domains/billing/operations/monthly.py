"""What the months cost: billed for one organization, and by the clock for all."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from pydantic import BaseModel
from typing_extensions import TypedDict

from geopera_server.domains.billing.each import for_each
from geopera_server.domains.billing.fees import Line
from geopera_server.domains.billing.monthly import Outcome, bill, last_closed
from geopera_server.domains.billing.shapes import MonthLine, MonthlyRun
from geopera_server.domains.billing.store import months, standing
from geopera_server.domains.identity.access import own_organization, require_org_admin
from geopera_server.domains.payments.terms import terms
from geopera_server.domains.pricing.rules import aud
from geopera_server.kernel.context import Context, Outside
from geopera_server.kernel.errors import NotFound
from geopera_server.kernel.operation import operation

ORGANIZATION = "0192d3c4-0000-7000-8000-000000000000"
MOST_MONTHS = 24


class OrgInput(BaseModel):
    """Which organization."""

    organization_id: str


@operation(
    "billing.run_monthly_for_org",
    effect="external_spend",
    scope="billing:write",
    raw=True,
    while_suspended=True,
    while_past_due=True,
    while_leaving=True,
    example={"organization_id": ORGANIZATION},
)
async def run_monthly_for_org(ctx: Context, given: OrgInput) -> MonthlyRun:
    """Bills the first closed month that is not paid yet: plan fee and use beyond the plan, from the balance, then the card.

    Each month is billed once. When balance and card do not cover it nothing is taken: the organization is past due, and the
    same call pays later. With all closed months paid it answers `already_billed`.
    """
    organization_id = await own_organization(ctx.conn, ctx.principal, given.organization_id, to_change=True)
    require_org_admin(ctx.principal)
    return _presented(await bill(ctx, organization_id))


def _presented(outcome: Outcome) -> MonthlyRun:
    row = outcome.row
    return MonthlyRun(
        run_id=row["id"],
        organization_id=row["organization_id"],
        period=row["period"],
        status=outcome.status,
        lines=[_line(Line.from_json(line)) for line in row["lines"]],
        total_credits=row["total_credits"],
        charged_credits=row["charged_credits"],
        charged_aud=aud(row["charged_credits"]),
        invoice_id=row["invoice_id"],
    )


def _line(line: Line) -> MonthLine:
    return MonthLine(kind=line.kind, quantity=float(line.quantity), unit=line.unit, credits=line.credits)


@operation("billing.month.collect", effect="compute", scope="admin:write", raw=True, internal=True)
async def collect(ctx: Context, given: OrgInput) -> MonthlyRun:
    """Pays an open month from the balance alone, as after a top-up, and ends being past due once nothing is owed."""
    return _presented(await bill(ctx, given.organization_id, charge=False))


class Suspension(TypedDict):
    """Whether the organization was suspended in this call."""

    organization_id: str
    suspended: bool


@operation("billing.month.suspend", effect="compute", scope="admin:write", raw=True, internal=True)
async def suspend_overdue(ctx: Context, given: OrgInput) -> Suspension:
    """Suspends an organization that has been past due for as long as the terms allow."""
    organization = await months.lock_organization(ctx.conn, given.organization_id)
    if organization is None:
        raise NotFound("organization")
    days = timedelta(days=(await terms(ctx.conn))["days_until_suspension"])
    since = organization["past_due_since"]
    overdue = since is not None and since <= ctx.now - days and organization["suspended_at"] is None
    if overdue:
        reason = f"A payment has been past due since {since:%Y-%m-%d}."
        await standing.set_suspended(ctx.conn, organization["id"], reason=reason, for_debt=True, at=ctx.now)
    ctx.touch("organization", organization["id"])
    return Suspension(organization_id=organization["id"], suspended=overdue)


class _Empty(BaseModel):
    """Nothing to say."""


class RunError(TypedDict):
    """An organization whose run broke, and the code of the refusal."""

    organization_id: str
    code: str


class MonthlyRuns(TypedDict):
    """What billing all organizations came to."""

    period: str
    processed: int
    billed: int
    nothing_due: int
    past_due: int
    failed: int
    errors: list[RunError]


@dataclass(slots=True)
class Tally:
    """What has become of each organization."""

    statuses: dict[str, str] = field(default_factory=dict)
    errors: list[RunError] = field(default_factory=list)

    def count(self, *statuses: str) -> int:
        return sum(status in statuses for status in self.statuses.values())


async def _bill_all(outside: Outside, given: _Empty) -> Tally:  # noqa: ARG001
    """Bills whoever has a closed month open, then suspends who has owed for too long."""
    tally, last = Tally(), last_closed(outside.now)
    today = outside.now.replace(hour=0, minute=0, second=0, microsecond=0)
    async with outside.connection() as conn:
        waiting = await months.organizations_to_bill(conn, str(last), last.end, today)
    for _ in range(MOST_MONTHS):
        again = []
        async for organization_id, run, code in for_each(outside, run_monthly_for_org, waiting):
            if run is None:
                tally.errors.append(RunError(organization_id=organization_id, code=code))
            else:
                tally.statuses[organization_id] = _dearer(tally.statuses.get(organization_id), run["status"])
                if run["status"] != "past_due" and run["period"] != str(last):
                    again.append(organization_id)
        if not again:
            break
        waiting = again
    await _suspend_overdue(outside, tally)
    return tally


def _dearer(before: str | None, status: str) -> str:
    """Returns what an organization with several open months is counted as."""
    known = ("already_billed", "nothing_due", "billed", "past_due")
    return status if before is None else max(before, status, key=known.index)


async def _suspend_overdue(outside: Outside, tally: Tally) -> None:
    async with outside.connection() as conn:
        days = timedelta(days=(await terms(conn))["days_until_suspension"])
        overdue = await months.overdue_organizations(conn, outside.now - days)
    async for organization_id, _, code in for_each(outside, suspend_overdue, overdue):
        if code:
            tally.errors.append(RunError(organization_id=organization_id, code=code))


@operation(
    "billing.run_monthly_cron",
    effect="external_spend",
    scope="admin:write",
    raw=True,
    while_suspended=True,
    while_past_due=True,
    while_leaving=True,
    prepare=_bill_all,
    rate_class="default",
    example={},
)
async def run_monthly_cron(ctx: Context, given: _Empty, tally: Tally) -> MonthlyRuns:  # noqa: ARG001
    """Bills every organization with a closed month that is not paid, each by itself, and suspends who has owed too long.

    Whose card was refused is asked again once a day.
    """
    return MonthlyRuns(
        period=str(last_closed(ctx.now)),
        processed=len(tally.statuses.keys() | {error["organization_id"] for error in tally.errors}),
        billed=tally.count("billed"),
        nothing_due=tally.count("nothing_due", "already_billed"),
        past_due=tally.count("past_due"),
        failed=len(tally.errors),
        errors=tally.errors,
    )
