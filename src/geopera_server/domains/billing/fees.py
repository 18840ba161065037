"""What a closed month costs: the plan's fee by days, and what was used beyond what the plan includes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from geopera_server.values.periods import Period

BYTES_PER_GB = 1_000_000_000
TILES_PER_UNIT = 1_000
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a month, rounded once: `kind` is the reason of its ledger entry, `quantity` counts its unit."""

    kind: str
    quantity: Decimal
    unit: str
    credits: int

    def as_json(self) -> dict[str, Any]:
        """Returns the line as it is kept; the quantity as text, so that it stays exact."""
        return {"kind": self.kind, "quantity": str(self.quantity), "unit": self.unit, "credits": self.credits}

    @classmethod
    def from_json(cls, kept: Row) -> Line:
        """Returns the line that was kept."""
        return cls(kind=kept["kind"], quantity=Decimal(kept["quantity"]), unit=kept["unit"], credits=kept["credits"])


def half_up(amount: Fraction) -> int:
    """Returns an amount that is not negative as a whole number, halves upwards."""
    return (2 * amount.numerator + amount.denominator) // (2 * amount.denominator)


def days_in(period: Period) -> int:
    """Returns how many days a month has."""
    return (period.end - period.start).days


def plan_of_each_day(changes: Sequence[Row], period: Period) -> list[Row]:
    """Returns the plan of each day of the month on which there was one: that in force when the UTC day ended.

    `changes` are the organization's plans with the time (`at`) it came to each, first to last.
    """
    ends = [period.start + timedelta(days=day) for day in range(1, days_in(period) + 1)]
    in_force = [[change for change in changes if change["at"] < end] for end in ends]
    return [before[-1] for before in in_force if before]


def plan_fee(changes: Sequence[Row], period: Period) -> Line | None:
    """Returns the month's fee: of each plan its part by days, summed exactly and rounded once; None when there is none."""
    days = [day for day in plan_of_each_day(changes, period) if day["price_credits_monthly"]]
    credits_due = half_up(Fraction(sum(day["price_credits_monthly"] for day in days), days_in(period)))
    return _line("plan_fee", Decimal(len(days)), "day", credits_due)


def overage(plan: Row, used: Row) -> list[Line]:
    """Returns what was used beyond what a plan includes, as far as the plan sells more.

    Included tiles go to the organization's own requests first and to those of its shares after them.
    """
    included, rates = plan["included"], plan["overage"]
    own, shared = used["tile_requests"], used["shared_tile_requests"]
    tiles_over = _over(own + shared, included.get("tile_requests"))
    shared_over = min(shared, tiles_over)
    per_gb_month, per_gb = rates.get("storage_gb_month_credits"), rates.get("egress_gb_credits")
    per_1000_tiles = rates.get("tiles_per_1000_credits")
    stored_over = _over(used["storage_average_bytes"], included.get("storage_bytes"))
    sent_over = _over(used["egress_bytes"], included.get("egress_bytes"))
    lines = [
        _measured("storage_overage", stored_over, BYTES_PER_GB, "GB-month", per_gb_month),
        _measured("tile_overage", tiles_over - shared_over, TILES_PER_UNIT, "1000 tiles", per_1000_tiles),
        _measured("egress_overage", sent_over, BYTES_PER_GB, "GB", per_gb),
        _measured("share_tiles", shared_over, TILES_PER_UNIT, "1000 tiles", per_1000_tiles),
    ]
    return [line for line in lines if line is not None]


def month_lines(changes: Sequence[Row], used: Row, period: Period) -> list[Line]:
    """Returns the lines of a month; beyond-the-plan use is charged by the plan in force when the month ended."""
    fee = plan_fee(changes, period)
    return [*([] if fee is None else [fee]), *(overage(changes[-1], used) if changes else [])]


def _over(used: int, included: int | None) -> int:
    return 0 if included is None else max(0, used - included)


def _measured(kind: str, amount: int, per: int, unit: str, rate: float | None) -> Line | None:
    return _line(kind, Decimal(amount) / per, unit, half_up(Fraction(amount, per) * Fraction(str(rate or 0))))


def _line(kind: str, quantity: Decimal, unit: str, credits_due: int) -> Line | None:
    return Line(kind=kind, quantity=quantity, unit=unit, credits=credits_due) if credits_due > 0 else None
