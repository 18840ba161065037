"""What an invoice is made of."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLine:
    """One line of an invoice to be; its `credits` include the tax and are what counts, whatever the unit price rounds to."""

    kind: str
    description: str
    credits: int
    quantity: Decimal | int = 1
    unit: str = "order"
    unit_price_credits: Decimal | int
    order_id: str | None = None
    job_id: str | None = None
    commitment_id: str | None = None
    sqkm: Decimal | None = None
