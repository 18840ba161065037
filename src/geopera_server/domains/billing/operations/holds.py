"""Giving back what jobs that are over still hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from geopera_server.db.pool import Connection
from geopera_server.domains.billing.each import run_for
from geopera_server.domains.billing.holds import standing_of
from geopera_server.domains.billing.store import holds, standing, wallets
from geopera_server.kernel.context import Context, Outside
from geopera_server.kernel.errors import NotFound
from geopera_server.kernel.operation import operation
from geopera_server.kernel.paging import clamped
from geopera_server.ledger import postings
from geopera_server.values.ids import is_id

# A job's row may be written a moment after its hold, in another transaction.
OLD_ENOUGH = timedelta(minutes=1)


class HeldJob(BaseModel):
    """Which job."""

    job_id: str


class HoldEnd(TypedDict):
    """What has become of a hold: settled, released, or open because the job still runs."""

    outcome: str
    registered_items: int


@operation("billing.hold.end", effect="compute", scope="admin:write", raw=True, internal=True)
async def end_hold(ctx: Context, given: HeldJob) -> HoldEnd:
    """Settles the hold of a job that completed, and releases that of one that failed, was cancelled, or is gone."""
    await wallets.lock_account(ctx.conn, ctx.organization_id)
    end, source = await standing_of(ctx.conn, given.job_id)
    ctx.touch("processing_job", given.job_id)
    if end == "running":
        return HoldEnd(outcome="open", registered_items=0)
    if end == "completed" and source is not None:
        return HoldEnd(outcome="settled", registered_items=await source.settle(ctx, given.job_id))
    await postings.release_rest(ctx.conn, postings.cause_of(ctx, note=f"job {end}"), job_id=given.job_id)
    return HoldEnd(outcome="released", registered_items=0)


class SettleInput(BaseModel):
    """How many holds to look at, and of which organization."""

    limit: int = Field(500, ge=1)
    organization_id: str | None = None


class SettleError(TypedDict):
    """A job whose hold could not be ended, and the code of the refusal."""

    job_id: str
    code: str


@dataclass(slots=True)
class Ends:
    """What has become of the holds."""

    outcomes: list[str] = field(default_factory=list)
    registered_items: int = 0
    errors: list[SettleError] = field(default_factory=list)


async def _end_all(outside: Outside, given: SettleInput) -> Ends:
    ends = Ends()
    async with outside.connection() as conn:
        if given.organization_id is not None:
            await _require_organization(conn, given.organization_id)
        waiting = await holds.open_holds_of_jobs(conn, given.organization_id, outside.now - OLD_ENOUGH, clamped(given.limit))
    for hold in waiting:
        reply, code = await run_for(outside, end_hold, hold["organization_id"], {"job_id": hold["job_id"]})
        if reply is None:
            ends.errors.append(SettleError(job_id=hold["job_id"], code=code))
        else:
            ends.outcomes.append(reply["outcome"])
            ends.registered_items += reply["registered_items"]
    return ends


async def _require_organization(conn: Connection, organization_id: str) -> None:
    if not is_id(organization_id) or await standing.organization_of(conn, organization_id) is None:
        raise NotFound("organization")


class SettledHolds(TypedDict):
    """How many holds were looked at, and what has become of them."""

    scanned: int
    settled: int
    released: int
    registered_items: int
    failed: int
    errors: list[SettleError]


@operation(
    "billing.jobs.settle_unsettled",
    effect="compute",
    scope="admin:write",
    raw=True,
    while_suspended=True,
    prepare=_end_all,
    example={"limit": 100},
)
async def settle_unsettled(ctx: Context, given: SettleInput, ends: Ends) -> SettledHolds:  # noqa: ARG001
    """Ends the reservations of jobs that are over: completed ones are registered and settled, all others released.

    Each in a call of its own, oldest first; those of jobs that still run stay.
    """
    return SettledHolds(
        scanned=len(ends.outcomes) + len(ends.errors),
        settled=ends.outcomes.count("settled"),
        released=ends.outcomes.count("released"),
        registered_items=ends.registered_items,
        failed=len(ends.errors),
        errors=ends.errors,
    )
