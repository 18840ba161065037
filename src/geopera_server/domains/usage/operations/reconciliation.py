"""The operators' checks of the storage ledger, and their corrections."""

from __future__ import annotations

from typing import Annotated

import psycopg
from pydantic import BaseModel, Field, StringConstraints, field_validator

from geopera_server.domains.usage.presenting import as_correction, as_run
from geopera_server.domains.usage.reconciling import correct, locked_total, record_run, require_organization
from geopera_server.domains.usage.shapes import (
    Backfilled,
    CorrectionOutcome,
    Corrections,
    Drift,
    DriftCounts,
    NegativesZeroed,
    RunAllOutcome,
    RunError,
    RunOutcome,
    StaleRemoved,
    StorageRuns,
)
from geopera_server.domains.usage.store import storage as store
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import InvalidInput, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.kernel.paging import clamped
from geopera_server.kernel.pipeline import as_refusal
from geopera_server.values.ids import is_id

LISTED = 1_000
DEFAULT_THRESHOLD_BYTES = 1_048_576
MOST_BYTES = 2**60
_EXAMPLE = {"organization_id": "0192d3c4-0000-7000-8000-000000000000"}
Threshold = Annotated[int, Field(ge=0, le=MOST_BYTES)]


class DriftInput(BaseModel):
    """Whose ledger to compare."""

    organization_id: str


@operation("billing.reconciliation.detect_drift", effect="read", scope="admin:read", raw=True, snapshot=True, example=_EXAMPLE)
async def detect_drift(ctx: Context, given: DriftInput) -> Drift:
    """Compares an organization's storage ledger with the assets it stores, and keeps nothing of it."""
    await require_organization(ctx.conn, given.organization_id)
    found = await store.compared(ctx.conn, given.organization_id, listed=LISTED)
    return Drift(
        organization_id=given.organization_id,
        ledger_bytes=found["ledger_bytes"],
        actual_bytes=found["actual_bytes"],
        drift_bytes=found["ledger_bytes"] - found["actual_bytes"],
        missing_events=found["missing"],
        stale_events=found["stale"],
        negative_nets=found["negative"],
        counts=DriftCounts(missing=found["missing_count"], stale=found["stale_count"], negative=found["negative_count"]),
        computed_at=ctx.now,
    )


class RunInput(BaseModel):
    """Whose ledger to compare, and from how many bytes on a difference is flagged."""

    organization_id: str
    threshold_bytes: Threshold = DEFAULT_THRESHOLD_BYTES


@operation(
    "billing.reconciliation.run", effect="compute", scope="admin:write", raw=True, while_suspended=True, example=_EXAMPLE
)
async def run(ctx: Context, given: RunInput) -> RunOutcome:
    """Compares an organization's storage ledger with the assets it stores, and keeps the comparison."""
    await require_organization(ctx.conn, given.organization_id)
    ctx.touch("organization", given.organization_id)
    return RunOutcome(run=as_run(await record_run(ctx, given.organization_id, threshold_bytes=given.threshold_bytes)))


class RunAllInput(BaseModel):
    """From how many bytes on a difference is flagged."""

    threshold_bytes: Threshold = DEFAULT_THRESHOLD_BYTES


@operation("billing.reconciliation.run_all", effect="compute", scope="admin:write", raw=True, while_suspended=True, example={})
async def run_all(ctx: Context, given: RunAllInput) -> RunAllOutcome:
    """Compares the storage ledger of every organization with a plan or a balance; one that fails stops no other."""
    made, errors = [], []
    for organization_id in await store.billed_organizations(ctx.conn):
        try:
            async with ctx.conn.transaction():
                made.append(await record_run(ctx, organization_id, threshold_bytes=given.threshold_bytes))
        except psycopg.errors.DataError as error:
            refusal = as_refusal(error)
            errors.append(RunError(organization_id=organization_id, code="internal_error" if refusal is None else refusal.code))
    return RunAllOutcome(
        runs=len(made),
        flagged=sum(row["flagged"] for row in made),
        failed=len(errors),
        errors=errors,
        total_drift_bytes=sum(abs(row["drift_bytes"]) for row in made),
    )


class RunsInput(BaseModel):
    """Which comparisons."""

    organization_id: str | None = None
    flagged_only: bool = False
    limit: int = Field(50, ge=1)


@operation(
    "billing.reconciliation.list_runs", effect="read", scope="admin:read", raw=True, snapshot=True, example={"limit": 20}
)
async def list_runs(ctx: Context, given: RunsInput) -> StorageRuns:
    """Lists the comparisons that were kept, newest first."""
    if given.organization_id is not None and not is_id(given.organization_id):
        return StorageRuns(runs=[], total=0)
    rows = await store.runs(ctx.conn, given.organization_id, flagged_only=given.flagged_only, limit=clamped(given.limit))
    total = await store.runs_total(ctx.conn, given.organization_id, flagged_only=given.flagged_only)
    return StorageRuns(runs=[as_run(row) for row in rows], total=total)


class CorrectInput(BaseModel):
    """Bytes to add to an organization's ledger, or to take off with a minus, and why."""

    organization_id: str
    bytes_delta: int = Field(ge=-MOST_BYTES, le=MOST_BYTES, strict=True)
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=5, max_length=1_000)]
    asset_id: str | None = None

    @field_validator("bytes_delta")
    @classmethod
    def _moves_something(cls, bytes_delta: int) -> int:
        if bytes_delta == 0:
            raise ValueError("bytes_delta must not be 0")
        return bytes_delta


@operation(
    "billing.reconciliation.correct_drift",
    effect="compute",
    scope="admin:write",
    raw=True,
    while_suspended=True,
    example={**_EXAMPLE, "bytes_delta": 4096, "reason": "Left out by the move"},
)
async def correct_drift(ctx: Context, given: CorrectInput) -> CorrectionOutcome:
    """Adds one audited entry to an organization's storage ledger, which never goes below zero."""
    await locked_total(ctx, given.organization_id)
    asset_id = given.asset_id
    if asset_id is not None:
        if not is_id(asset_id) or not await store.asset_is_of(ctx.conn, given.organization_id, asset_id):
            raise NotFound("asset")
        ctx.touch("asset", asset_id)
    there = await store.ledger_bytes(ctx.conn, given.organization_id)
    if there + given.bytes_delta < 0:
        raise InvalidInput(
            f"The ledger holds {there:,} bytes and cannot go below zero. Take off at most that.", loc=("bytes_delta",)
        )
    [made] = await correct(ctx, given.organization_id, "corrected", [(asset_id, given.bytes_delta)], reason=given.reason)
    return CorrectionOutcome(correction=as_correction(made))


class OrgInput(BaseModel):
    """Whose ledger to put right."""

    organization_id: str


@operation(
    "billing.reconciliation.backfill_missing",
    effect="compute",
    scope="admin:write",
    raw=True,
    while_suspended=True,
    example=_EXAMPLE,
)
async def backfill_missing(ctx: Context, given: OrgInput) -> Backfilled:
    """Adds entries for the live assets of an organization that have none; again changes nothing."""
    count, moved = await _compensate(ctx, given.organization_id, "missing", 1, "backfilled", "The asset had no entry")
    return Backfilled(organization_id=given.organization_id, backfilled=count, bytes_added=moved)


@operation(
    "billing.reconciliation.remove_stale",
    effect="compute",
    scope="admin:write",
    raw=True,
    while_suspended=True,
    example=_EXAMPLE,
)
async def remove_stale(ctx: Context, given: OrgInput) -> StaleRemoved:
    """Takes off what is still counted of assets that are gone; again changes nothing."""
    count, moved = await _compensate(ctx, given.organization_id, "stale", -1, "stale_removed", "The asset is gone")
    return StaleRemoved(organization_id=given.organization_id, removed=count, bytes_removed=-moved)


@operation(
    "billing.reconciliation.zero_negative_nets",
    effect="compute",
    scope="admin:write",
    raw=True,
    while_suspended=True,
    example=_EXAMPLE,
)
async def zero_negative_nets(ctx: Context, given: OrgInput) -> NegativesZeroed:
    """Adds back what was taken off too much of assets that are gone; again changes nothing."""
    count, moved = await _compensate(
        ctx, given.organization_id, "negative", -1, "negative_zeroed", "More was taken off than was stored"
    )
    return NegativesZeroed(organization_id=given.organization_id, zeroed=count, bytes_added=moved)


async def _compensate(
    ctx: Context, organization_id: str, difference: str, sign: int, kind: str, reason: str
) -> tuple[int, int]:
    """Corrects every difference of one sort and returns how many there were and the bytes moved."""
    await locked_total(ctx, organization_id)
    found = await store.compared(ctx.conn, organization_id, listed=None)
    movements = [(each["asset_id"], sign * each["bytes"]) for each in found[difference]]
    await correct(ctx, organization_id, kind, movements, reason=reason)
    return len(movements), sum(bytes_delta for _, bytes_delta in movements)


class CorrectionsInput(BaseModel):
    """Which corrections."""

    organization_id: str | None = None
    limit: int = Field(100, ge=1)


@operation(
    "billing.reconciliation.list_corrections",
    effect="read",
    scope="admin:read",
    raw=True,
    snapshot=True,
    example={"limit": 20},
)
async def list_corrections(ctx: Context, given: CorrectionsInput) -> Corrections:
    """Lists the corrections of storage ledgers, newest first."""
    if given.organization_id is not None and not is_id(given.organization_id):
        return Corrections(corrections=[], total=0)
    rows = await store.corrections(ctx.conn, given.organization_id, limit=clamped(given.limit))
    total = await store.corrections_total(ctx.conn, given.organization_id)
    return Corrections(corrections=[as_correction(row) for row in rows], total=total)
