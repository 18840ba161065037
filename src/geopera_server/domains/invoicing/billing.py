"""What an enterprise organization owes, and the lines of the invoice that bills it.

An order's accrual is of the price its buyer agreed to. What falls under a commitment is worked out when it is billed: the
covered part at the commitment's rate if that is less, the rest at the order's own price; the lines of the invoice then say
for good what was covered. So what is owed, what a statement shows and what an invoice bills are one calculation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.commitments.burning import Shortfall, Standing, standing_of
from geopera_server.domains.commitments.rules import Commitment, Part, at_rate
from geopera_server.domains.invoicing import store
from geopera_server.domains.invoicing.lines import NewLine
from geopera_server.values.periods import Period


@dataclass(frozen=True, slots=True)
class Unbilled:
    """Deliveries that no invoice has billed, by accrual, and where the organization's commitments stand."""

    standing: Standing
    deliveries: Mapping[str, Row]

    def of(self, period: Period | None) -> list[str]:
        """Returns the accruals that became billable in a month, oldest first; None means all."""
        return [key for key, row in self.deliveries.items() if period is None or period.holds(row["at"])]

    def credits_of(self, key: str, *, uncommitted: bool = False) -> int:
        """Returns what a delivery costs, or what of that falls under no commitment."""
        parts = self.standing.parts_of(key).items()
        return sum(part.credits for commitment_id, part in parts if not uncommitted or commitment_id is None)


async def unbilled_of(conn: Connection, organization_id: str) -> Unbilled:
    """Returns everything that could be billed now."""
    since = await store.oldest_unbilled(conn, organization_id)
    standing = await standing_of(conn, organization_id, since=since)
    owed = {key: row for key, row in standing.deliveries.items() if row["is_owed"] and row["invoice_id"] is None}
    return Unbilled(standing, owed)


async def owed_credits(conn: Connection, organization_id: str) -> int:
    """Returns what the organization owes and no invoice has billed, commitments applied to what is delivered."""
    unbilled = await unbilled_of(conn, organization_id)
    waiting = await store.under_way(conn, organization_id)
    later: int = sum(row["credits"] for row in waiting)
    return later + sum(unbilled.credits_of(key) for key in unbilled.deliveries)


def lines_of(unbilled: Unbilled, keys: Sequence[str], shortfalls: Sequence[Shortfall]) -> list[NewLine]:
    """Returns the lines that bill some deliveries and shortfalls; a delivery has one for each commitment it falls under."""
    lines = [line for key in keys for line in _delivery_lines(unbilled, key)]
    return [*lines, *(_shortfall_line(each) for each in shortfalls)]


def _delivery_lines(unbilled: Unbilled, key: str) -> Iterator[NewLine]:
    row = unbilled.deliveries[key]
    for commitment_id, part in unbilled.standing.parts_of(key).items():
        if commitment_id is None:
            yield _own_price(row, part)
        else:
            yield _covered(row, unbilled.standing.allotment.uses[commitment_id].commitment, part)


def _own_price(row: Row, part: Part) -> NewLine:
    is_order = row["order_id"] is not None
    return NewLine(
        kind="order" if is_order else "job",
        description=row["display_name"] or "Processing job",
        credits=part.credits,
        unit="order" if is_order else "job",
        unit_price_credits=part.credits,
        order_id=row["order_id"],
        job_id=row["job_id"],
    )


def _covered(row: Row, commitment: Commitment, part: Part) -> NewLine:
    """Returns the line of an area at its commitment's rate, or as one whole where the order's own price is less."""
    is_at_rate = part.credits == at_rate(part.sqkm, commitment.rate_credits)
    quantity: Decimal | int = part.sqkm if is_at_rate else 1
    return NewLine(
        kind="committed_area",
        description=f"{row['display_name']}: {part.sqkm.normalize():f} km² under a commitment",
        credits=part.credits,
        quantity=quantity,
        unit="km2" if is_at_rate else "order",
        unit_price_credits=commitment.rate_credits if is_at_rate else part.credits,
        order_id=row["order_id"],
        commitment_id=commitment.id,
        sqkm=part.sqkm,
    )


def _shortfall_line(due: Shortfall) -> NewLine:
    term = f"{due.commitment.start_date} to {due.commitment.end_date}"
    return NewLine(
        kind="take_or_pay",
        description=f"Take-or-pay: {due.sqkm.normalize():f} km² promised from {term} and not ordered",
        credits=due.credits,
        quantity=due.sqkm,
        unit="km2",
        unit_price_credits=due.commitment.rate_credits,
        commitment_id=due.commitment.id,
        sqkm=due.sqkm,
    )
