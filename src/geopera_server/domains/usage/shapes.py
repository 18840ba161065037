"""The shapes that usage operations answer with."""

from __future__ import annotations

from datetime import datetime

from typing_extensions import TypedDict


class Period(TypedDict):
    """From start up to, not including, end."""

    start: datetime
    end: datetime


class StorageUsage(TypedDict):
    """Bytes stored at the end of the period or now, reserved for uploads now, and most at any moment; null is no limit."""

    bytes_used: int
    bytes_reserved: int
    bytes_peak: int
    bytes_limit: int | None


class TileUsage(TypedDict):
    """Tiles asked for by the organization itself, and through its share links; null is no limit."""

    requests: int
    shared_requests: int
    limit: int | None


class EgressUsage(TypedDict):
    """Downloads as the plan counts them, and the bytes that signed addresses really sent; null is no limit."""

    bytes: int
    sent_bytes: int
    limit_bytes: int | None


class CreditUsage(TypedDict):
    """Credits spent for good, granted and bought; `by_reason` sums the ledger's signed movements by their word."""

    spent: int
    granted: int
    purchased: int
    by_reason: dict[str, int]


class JobUsage(TypedDict):
    """Paid processing jobs that began in the period, by how they stand now; `credits` were settled in the period."""

    total: int
    completed: int
    failed: int
    running: int
    credits: int


class OrderUsage(TypedDict):
    """Orders placed and fulfilled in the period; `credits` were spent on orders in the period."""

    placed: int
    fulfilled: int
    credits: int


class ApiUsage(TypedDict):
    """Calls by the organization's people and keys, refused ones included."""

    requests: int


class PeriodUsage(TypedDict):
    """What an organization used in a period of whole UTC days."""

    period: Period
    storage: StorageUsage
    tiles: TileUsage
    egress: EgressUsage
    credits: CreditUsage
    jobs: JobUsage
    orders: OrderUsage
    api: ApiUsage


class BillableUsage(TypedDict):
    """What is charged for beyond the plan: bytes stored on average over the period, tiles, and bytes of egress."""

    storage_average_bytes: int
    storage_peak_bytes: int
    tile_requests: int
    shared_tile_requests: int
    egress_bytes: int


class UsedShare(TypedDict):
    """Percent of what the plan includes; null where it has no limit."""

    storage: float | None
    tiles: float | None
    egress: float | None


class ProjectUsage(TypedDict):
    """What one project stores now and used in the period."""

    project_id: str
    name: str
    storage_bytes: int
    tile_requests: int
    credits: int


class CurrentUsage(PeriodUsage):
    """The running calendar month."""

    organization_id: str
    plan: str
    percent: UsedShare
    projects: list[ProjectUsage]
    as_of: datetime


class MonthUsage(PeriodUsage):
    """One calendar month."""

    tile_requests: int
    peak_storage_bytes: int


class UsageHistory(TypedDict):
    """Calendar months, oldest first; the running one is the last."""

    organization_id: str
    months: list[MonthUsage]


class Recalculated(TypedDict):
    """The total before and after everything stored was counted."""

    organization_id: str
    previous_bytes: int
    recalculated_bytes: int
    difference_bytes: int
    assets_counted: int
    as_of: datetime


class AssetBytes(TypedDict):
    """An asset and the bytes in question."""

    asset_id: str
    bytes: int


class Drift(TypedDict):
    """The ledger against what is stored; drift is what the ledger says too much. Each list holds at most 1,000."""

    organization_id: str
    ledger_bytes: int
    actual_bytes: int
    drift_bytes: int
    missing_events: list[AssetBytes]
    stale_events: list[AssetBytes]
    negative_nets: list[AssetBytes]
    counts: DriftCounts
    computed_at: datetime


class DriftCounts(TypedDict):
    """How many differences of each sort there are."""

    missing: int
    stale: int
    negative: int


class StorageRun(TypedDict):
    """One comparison that was kept."""

    id: str
    organization_id: str
    ledger_bytes: int
    actual_bytes: int
    drift_bytes: int
    flagged: bool
    threshold_bytes: int
    counts: DriftCounts
    created_at: datetime


class RunOutcome(TypedDict):
    """The comparison just made."""

    run: StorageRun


class RunError(TypedDict):
    """An organization that could not be compared, and why."""

    organization_id: str
    code: str


class RunAllOutcome(TypedDict):
    """Comparisons of every organization; the total adds drifts up whatever their direction."""

    runs: int
    flagged: int
    failed: int
    errors: list[RunError]
    total_drift_bytes: int


class StorageRuns(TypedDict):
    """Comparisons, newest first."""

    runs: list[StorageRun]
    total: int


class Correction(TypedDict):
    """An entry that put the ledger right."""

    id: str
    organization_id: str
    asset_id: str | None
    bytes_delta: int
    reason: str
    applied_by: str
    ledger_bytes_after: int
    created_at: datetime


class CorrectionOutcome(TypedDict):
    """The correction just made."""

    correction: Correction


class Corrections(TypedDict):
    """Corrections, newest first."""

    corrections: list[Correction]
    total: int


class Backfilled(TypedDict):
    """Live assets that had no entry and have one now."""

    organization_id: str
    backfilled: int
    bytes_added: int


class StaleRemoved(TypedDict):
    """Assets that are gone and no longer counted."""

    organization_id: str
    removed: int
    bytes_removed: int


class NegativesZeroed(TypedDict):
    """Assets that are gone and no longer counted below nothing."""

    organization_id: str
    zeroed: int
    bytes_added: int


class DeadLetterGroup(TypedDict):
    """Counts that wait to be recorded: where they belong, and what they are of."""

    storage_type: str
    source: str
    count: int
    oldest_at: datetime


class DeadLetters(TypedDict):
    """Counts that could not be recorded, in groups, those waiting longest first."""

    groups: list[DeadLetterGroup]
    total: int


class Replayed(TypedDict):
    """What became of the counts that were tried again."""

    attempted: int
    resolved: int
    failed: int
    remaining: int
