"""What usage figures mean, whatever stores them: months, shares of a limit, and which movements are spending. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from geopera_server.domains.usage.shapes import Period
from geopera_server.values.periods import month_of

GRANTS = frozenset({"signup_grant", "monthly_grant", "operator_grant"})
PURCHASES = frozenset({"topup", "auto_topup", "approval_purchase", "shortfall_charge"})
CHARGES = frozenset(
    {"charge_adjustment", "plan_fee", "storage_overage", "tile_overage", "egress_overage", "share_tiles", "refund"}
)
"""Movements that are spending, or undo it, by themselves; what is reserved is spent once it is settled."""


def months_until(at: datetime, count: int) -> list[Period]:
    """Returns as many UTC calendar months, oldest first, the last being that of the given time."""
    month, newest_first = month_of(at), []
    for _ in range(count):
        newest_first.append(Period(start=month.start, end=month.end))
        month = month.preceding
    return newest_first[::-1]


def days_of(period: Period) -> tuple[date, date]:
    """Returns the first UTC day of a period and the first after it; a day that it only touches is whole in it."""
    first, end = period["start"].astimezone(UTC), period["end"].astimezone(UTC)
    last = end.date() if end == end.replace(hour=0, minute=0, second=0, microsecond=0) else end.date() + timedelta(days=1)
    return first.date(), last


def percent_of(used: int, limit: int | None) -> float | None:
    """Returns how many percent of a limit are used, to two decimals; None where there is no limit.

    Anything used of a limit of nothing is all of it.
    """
    if limit is None:
        return None
    if limit <= 0:
        return 100.0 if used > 0 else 0.0
    return round(100 * used / limit, 2)


def storage_is_open(room: Mapping[str, Any], more_bytes: int) -> bool:
    """Says whether more may be stored: within what the plan includes, or beyond where the plan sells more."""
    limit = room["included"].get("storage_bytes")
    if limit is None or room["overage"].get("storage_gb_month_credits"):
        return True
    return bool(room["bytes"] + room["reserved_bytes"] + more_bytes <= limit)


def spent_by(reason: str, credits_moved: int, settled: int) -> int:
    """Returns what movements of one reason spent for good: what was settled, fees and adjustments; refunds are negative."""
    if reason == "settle":
        return settled
    return -credits_moved if reason in CHARGES else 0


def total_of(by_reason: Mapping[str, int], reasons: frozenset[str]) -> int:
    """Returns the sum over some reasons."""
    return sum(amount for reason, amount in by_reason.items() if reason in reasons)
