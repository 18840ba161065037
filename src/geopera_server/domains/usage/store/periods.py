"""What was used in periods; each question is asked of many periods at once, and answers name them by number, from 1."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from geopera_server.db.pool import Connection, Row

_DAYS = " FROM unnest(%(first)s::date[], %(after)s::date[]) WITH ORDINALITY AS p (first, after, number)"
_TIMES = " FROM unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) WITH ORDINALITY AS p (starts, ends, number)"


async def limits_of(conn: Connection, organization_id: str) -> Row | None:
    """An organization's plan, what it includes, and what is stored and reserved now."""
    cursor = await conn.execute(
        "SELECT o.plan_id, coalesce(p.included, '{}') AS included, coalesce(t.bytes, 0) AS bytes,"
        " coalesce(t.reserved_bytes, 0) AS reserved_bytes FROM organization o LEFT JOIN plan p ON p.id = o.plan_id"
        " LEFT JOIN storage_total t ON t.organization_id = o.id WHERE o.id = %s",
        (organization_id,),
    )
    return await cursor.fetchone()


async def counters_in(conn: Connection, organization_id: str, days: Sequence[tuple[date, date]]) -> dict[int, dict[str, int]]:
    """The sums of the daily counters, by period and kind."""
    cursor = await conn.execute(
        "SELECT p.number, d.kind, sum(d.amount)::bigint AS amount" + _DAYS + " JOIN usage_day d"
        " ON d.organization_id = %(organization)s AND d.day >= p.first AND d.day < p.after GROUP BY 1, 2",
        {"organization": organization_id, **_split(days)},
    )
    found: dict[int, dict[str, int]] = {}
    for row in await cursor.fetchall():
        found.setdefault(row["number"], {})[row["kind"]] = row["amount"]
    return found


async def storage_in(conn: Connection, organization_id: str, days: Sequence[tuple[date, date]]) -> dict[int, Row]:
    """Bytes before and after each period by the ledger, most at any moment, and byte-seconds of its movements."""
    cursor = await conn.execute(
        "SELECT p.number, before.bytes AS bytes_before, (before.bytes + within.bytes)::bigint AS bytes_after,"
        " greatest(before.bytes, within.peak)::bigint AS bytes_peak,"
        " before.bytes * 86400 * (p.after - p.first) + within.byte_seconds AS byte_seconds"
        + _DAYS
        + " CROSS JOIN LATERAL (SELECT coalesce(sum(d.bytes_delta), 0) AS bytes FROM storage_day d"
        "   WHERE d.organization_id = %(organization)s AND d.day < p.first) before"
        " CROSS JOIN LATERAL (SELECT coalesce(sum(d.bytes_delta), 0) AS bytes, max(d.bytes_peak) AS peak,"
        "   coalesce(sum(d.byte_seconds + d.bytes_delta * 86400 * (p.after - d.day - 1)), 0) AS byte_seconds"
        "   FROM storage_day d WHERE d.organization_id = %(organization)s AND d.day >= p.first AND d.day < p.after) within",
        {"organization": organization_id, **_split(days)},
    )
    return {row["number"]: row for row in await cursor.fetchall()}


async def credits_in(
    conn: Connection, organization_id: str, times: Sequence[tuple[datetime, datetime]]
) -> dict[int, list[Row]]:
    """The sums of the ledger's movements, by period, reason and whether they belong to an order or a job."""
    cursor = await conn.execute(
        "SELECT p.number, e.reason, e.order_id IS NOT NULL AS of_order, e.job_id IS NOT NULL AS of_job,"
        " sum(e.credits)::bigint AS credits,"
        " coalesce(-sum(e.reserved_delta) FILTER (WHERE e.reason = 'settle'), 0)::bigint AS settled"
        + _TIMES
        + " JOIN ledger_entry e ON e.organization_id = %(organization)s AND e.created_at >= p.starts AND e.created_at < p.ends"
        " GROUP BY 1, 2, 3, 4",
        {"organization": organization_id, **_split_times(times)},
    )
    found: dict[int, list[Row]] = {}
    for row in await cursor.fetchall():
        found.setdefault(row["number"], []).append(row)
    return found


async def accrued_in(conn: Connection, organization_id: str, times: Sequence[tuple[datetime, datetime]]) -> dict[int, Row]:
    """What organizations that pay afterwards have come to owe, by period, for orders and for jobs."""
    cursor = await conn.execute(
        "SELECT p.number, coalesce(sum(a.credits) FILTER (WHERE a.job_id IS NULL), 0)::bigint AS for_orders,"
        " coalesce(sum(a.credits) FILTER (WHERE a.job_id IS NOT NULL), 0)::bigint AS for_jobs"
        + _TIMES
        + " JOIN accrual a ON a.organization_id = %(organization)s AND a.reversed_at IS NULL"
        " AND a.billable_at >= p.starts AND a.billable_at < p.ends GROUP BY 1",
        {"organization": organization_id, **_split_times(times)},
    )
    return {row["number"]: row for row in await cursor.fetchall()}


async def orders_in(conn: Connection, organization_id: str, times: Sequence[tuple[datetime, datetime]]) -> dict[int, Row]:
    """How many orders were placed and how many fulfilled, by period."""
    cursor = await conn.execute(
        "SELECT p.number, (SELECT count(*) FROM orders o WHERE o.organization_id = %(organization)s"
        "  AND o.created_at >= p.starts AND o.created_at < p.ends) AS placed,"
        " (SELECT count(*) FROM orders o WHERE o.organization_id = %(organization)s"
        "  AND o.fulfilled_at >= p.starts AND o.fulfilled_at < p.ends) AS fulfilled" + _TIMES,
        {"organization": organization_id, **_split_times(times)},
    )
    return {row["number"]: row for row in await cursor.fetchall()}


async def jobs_in(conn: Connection, organization_id: str, times: Sequence[tuple[datetime, datetime]]) -> dict[int, Row]:
    """How many jobs reserved credits, by period and by what became of the hold: each paid job has exactly one."""
    cursor = await conn.execute(
        "SELECT p.number, count(*) AS total, count(*) FILTER (WHERE h.remaining > 0) AS running,"
        " count(*) FILTER (WHERE h.remaining = 0 AND h.settled > 0) AS completed,"
        " count(*) FILTER (WHERE h.remaining = 0 AND h.settled = 0) AS failed"
        + _TIMES
        + " JOIN ledger_hold h ON h.organization_id = %(organization)s AND h.job_id IS NOT NULL"
        " AND h.created_at >= p.starts AND h.created_at < p.ends GROUP BY 1",
        {"organization": organization_id, **_split_times(times)},
    )
    return {row["number"]: row for row in await cursor.fetchall()}


async def projects_in(
    conn: Connection, organization_id: str, days: tuple[date, date], times: tuple[datetime, datetime]
) -> list[Row]:
    """What each live project stores now, and its tiles and spent credits in a period, by name."""
    cursor = await conn.execute(
        "SELECT p.id AS project_id, p.name, coalesce(s.bytes, 0) AS storage_bytes,"
        " coalesce(t.amount, 0)::bigint AS tile_requests, (coalesce(c.credits, 0) + coalesce(a.credits, 0))::bigint AS credits"
        " FROM project p LEFT JOIN storage_of_project s ON s.project_id = p.id"
        " LEFT JOIN (SELECT d.project_id, sum(d.amount) AS amount FROM usage_day d WHERE d.organization_id = %(organization)s"
        "  AND d.kind = 'tile_requests' AND d.day >= %(first)s AND d.day < %(after)s GROUP BY 1) t ON t.project_id = p.id"
        " LEFT JOIN (SELECT e.project_id, sum(CASE e.reason WHEN 'settle' THEN -e.reserved_delta"
        "  WHEN 'charge_adjustment' THEN -e.credits WHEN 'refund' THEN -e.credits WHEN 'share_tiles' THEN -e.credits"
        "  ELSE 0 END) AS credits FROM ledger_entry e WHERE e.organization_id = %(organization)s"
        "  AND e.created_at >= %(start)s AND e.created_at < %(end)s GROUP BY 1) c ON c.project_id = p.id"
        " LEFT JOIN (SELECT x.project_id, sum(x.credits) AS credits FROM accrual x WHERE x.organization_id = %(organization)s"
        "  AND x.reversed_at IS NULL AND x.billable_at >= %(start)s AND x.billable_at < %(end)s GROUP BY 1) a"
        "  ON a.project_id = p.id"
        " WHERE p.organization_id = %(organization)s AND p.deleted_at IS NULL ORDER BY lower(p.name), p.id",
        {
            "organization": organization_id, "first": days[0], "after": days[1], "start": times[0], "end": times[1],
        },
    )  # fmt: skip
    return await cursor.fetchall()


def _split(days: Sequence[tuple[date, date]]) -> dict[str, list[date]]:
    return {"first": [first for first, _ in days], "after": [after for _, after in days]}


def _split_times(times: Sequence[tuple[datetime, datetime]]) -> dict[str, list[datetime]]:
    return {"starts": [start for start, _ in times], "ends": [end for _, end in times]}
