"""From where commitments stand to the shapes that are sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from geopera_server.domains.commitments.burning import Standing
from geopera_server.domains.commitments.rules import Commitment, Use
from geopera_server.domains.commitments.shapes import Adjustment, CommitmentRow, LineItem
from geopera_server.domains.pricing.rules import aud


def as_commitment_row(standing: Standing, commitment_id: str, at: datetime, *, with_items: bool = False) -> CommitmentRow:
    """Returns a commitment as it stands at a moment, with adjustments until then."""
    row = standing.commitments[commitment_id]
    adjustments = [each for each in row["adjustments"] if _moment(each["at"]) <= at]
    adjusted = sum((Decimal(str(each["size_sqkm"])) for each in adjustments), Decimal(0))
    found = standing.allotment.uses[commitment_id]
    commitment = replace(found.commitment, adjusted_sqkm=adjusted)
    use = replace(found, commitment=commitment)
    return CommitmentRow(
        id=commitment.id,
        sqkm_amount=float(commitment.sqkm_amount),
        rate_aud=aud(commitment.rate_credits),
        products=list(row["products"]),
        start_date=commitment.start_date.isoformat(),
        end_date=commitment.end_date.isoformat(),
        status=commitment.status(at),
        consumed_sqkm=float(use.consumed_sqkm),
        remaining_sqkm=float(use.remaining_sqkm),
        consumed_percent=round(float(use.percent), 2),
        expected_percent=commitment.expected_percent(at),
        overage_sqkm=float(use.overage_sqkm),
        committed_aud=aud(commitment.committed_credits),
        consumed_aud=aud(use.credits),
        take_or_pay_aud=aud(_take_or_pay(commitment, use, at)),
        adjustments=[_as_adjustment(each) for each in adjustments],
        line_items=_items(standing, commitment_id) if with_items else None,
    )


def _take_or_pay(commitment: Commitment, use: Use, at: datetime) -> int:
    return use.shortfall_credits if commitment.ends <= at else 0


def _as_adjustment(given: Mapping[str, Any]) -> Adjustment:
    return Adjustment(size_sqkm=float(given["size_sqkm"]), note=given["note"], at=_moment(given["at"]))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _items(standing: Standing, commitment_id: str) -> list[LineItem]:
    items: list[LineItem] = []
    for key, delivery in standing.deliveries.items():
        part = standing.parts_of(key).get(commitment_id)
        if part is not None and delivery["order_id"] is not None:
            items.append(
                LineItem(
                    order_id=delivery["order_id"],
                    display_name=delivery["display_name"],
                    fulfilled_at=delivery["at"],
                    sqkm=float(part.sqkm),
                    amount_aud=aud(part.credits),
                )
            )
    return items
