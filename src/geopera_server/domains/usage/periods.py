"""What an organization used in a period: figures that other domains show and bill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.usage import rules
from geopera_server.domains.usage.shapes import (
    ApiUsage,
    BillableUsage,
    CreditUsage,
    EgressUsage,
    JobUsage,
    OrderUsage,
    Period,
    PeriodUsage,
    StorageUsage,
    TileUsage,
)
from geopera_server.domains.usage.store import periods as store
from geopera_server.kernel.errors import NotFound
from geopera_server.values.clock import now


async def period_usage(conn: Connection, organization_id: str, start: datetime, end: datetime) -> PeriodUsage:
    """Returns what an organization used from start up to end, in whole UTC days; raises NotFound for an unknown one."""
    return (await usage_in(conn, organization_id, [Period(start=start, end=end)]))[0]


async def usage_in(conn: Connection, organization_id: str, periods: Sequence[Period]) -> list[PeriodUsage]:
    """Returns what an organization used in each of some periods; limits and reserved bytes are those of the present."""
    plan = await store.limits_of(conn, organization_id)
    if plan is None:
        raise NotFound("organization")
    days = [rules.days_of(period) for period in periods]
    times = [(period["start"], period["end"]) for period in periods]
    counters = await store.counters_in(conn, organization_id, days)
    stored = await store.storage_in(conn, organization_id, days)
    moved = await store.credits_in(conn, organization_id, times)
    accrued = await store.accrued_in(conn, organization_id, times)
    orders = await store.orders_in(conn, organization_id, times)
    jobs = await store.jobs_in(conn, organization_id, times)
    at = now()
    return [
        _usage(
            period,
            plan,
            counters=counters.get(number, {}),
            storage=_storage(plan, stored[number], running=period["start"] <= at < period["end"]),
            movements=moved.get(number, []),
            accrued=accrued.get(number, {}),
            orders=orders[number],
            jobs=jobs.get(number, {}),
        )
        for number, period in enumerate(periods, start=1)
    ]


async def usage_of_project(conn: Connection, organization_id: str, project_id: str, at: datetime) -> tuple[int, int]:
    """Returns the tiles asked for and the credits spent in a live project in the UTC month of a time."""
    period = rules.months_until(at, 1)[0]
    rows = await store.projects_in(conn, organization_id, rules.days_of(period), (period["start"], period["end"]))
    return next(((row["tile_requests"], row["credits"]) for row in rows if row["project_id"] == project_id), (0, 0))


async def billable_usage(conn: Connection, organization_id: str, start: datetime, end: datetime) -> BillableUsage:
    """Returns what is charged for beyond the plan from start up to end, in whole UTC days and whole units.

    `storage_average_bytes` is the ledger's bytes over time divided by the time, rounded down: times the months in the period
    it is byte-months.
    """
    days = rules.days_of(Period(start=start, end=end))
    counters = (await store.counters_in(conn, organization_id, [days])).get(1, {})
    stored = (await store.storage_in(conn, organization_id, [days]))[1]
    seconds = (days[1] - days[0]).days * 86400
    return BillableUsage(
        storage_average_bytes=max(0, int(stored["byte_seconds"]) // seconds),
        storage_peak_bytes=max(0, stored["bytes_peak"]),
        tile_requests=counters.get("tile_requests", 0),
        shared_tile_requests=counters.get("shared_tile_requests", 0),
        egress_bytes=counters.get("egress_bytes", 0),
    )


def _usage(
    period: Period,
    plan: Row,
    *,
    counters: Mapping[str, int],
    storage: StorageUsage,
    movements: Sequence[Row],
    accrued: Mapping[str, Any],
    orders: Row,
    jobs: Mapping[str, Any],
) -> PeriodUsage:
    included = plan["included"]
    on_orders = _spent(row for row in movements if row["of_order"]) + accrued.get("for_orders", 0)
    on_jobs = _spent(row for row in movements if row["of_job"]) + accrued.get("for_jobs", 0)
    on_neither = _spent(row for row in movements if not row["of_order"] and not row["of_job"])
    return PeriodUsage(
        period=period,
        storage=storage,
        tiles=TileUsage(
            requests=counters.get("tile_requests", 0),
            shared_requests=counters.get("shared_tile_requests", 0),
            limit=included.get("tile_requests"),
        ),
        egress=EgressUsage(
            bytes=counters.get("egress_bytes", 0),
            sent_bytes=counters.get("sent_bytes", 0),
            limit_bytes=included.get("egress_bytes"),
        ),
        credits=_credits(movements, spent=on_orders + on_jobs + on_neither),
        jobs=JobUsage(
            total=jobs.get("total", 0),
            completed=jobs.get("completed", 0),
            failed=jobs.get("failed", 0),
            running=jobs.get("running", 0),
            credits=on_jobs,
        ),
        orders=OrderUsage(placed=orders["placed"], fulfilled=orders["fulfilled"], credits=on_orders),
        api=ApiUsage(requests=counters.get("api_requests", 0)),
    )


def _storage(plan: Row, stored: Row, *, running: bool) -> StorageUsage:
    used = plan["bytes"] if running else stored["bytes_after"]
    return StorageUsage(
        bytes_used=max(0, used),
        bytes_reserved=plan["reserved_bytes"] if running else 0,
        bytes_peak=max(0, stored["bytes_peak"], used),
        bytes_limit=plan["included"].get("storage_bytes"),
    )


def _spent(movements: Any) -> int:
    return sum(rules.spent_by(row["reason"], row["credits"], row["settled"]) for row in movements)


def _credits(movements: Sequence[Row], *, spent: int) -> CreditUsage:
    by_reason: dict[str, int] = {}
    for row in movements:
        by_reason[row["reason"]] = by_reason.get(row["reason"], 0) + row["credits"]
    return CreditUsage(
        spent=spent,
        granted=rules.total_of(by_reason, rules.GRANTS),
        purchased=rules.total_of(by_reason, rules.PURCHASES),
        by_reason=dict(sorted(by_reason.items())),
    )
