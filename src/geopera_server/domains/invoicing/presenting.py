"""From rows to the shapes that are sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geopera_server.domains.invoicing.shapes import Invoice, InvoiceLine
from geopera_server.domains.pricing.rules import CREDITS_PER_AUD, aud

Row = Mapping[str, Any]


def as_invoice(row: Row) -> Invoice:
    """Returns an invoice, whose row has its `lines` in order."""
    return Invoice(
        id=row["id"],
        number=row["number"],
        organization_id=row["organization_id"],
        period=row["period"],
        status=row["status"],
        currency=row["currency"],
        total_aud=aud(row["total_credits"]),
        tax_aud=aud(row["tax_credits"]),
        total_credits=row["total_credits"],
        lines=[_as_line(line) for line in row["lines"]],
        reference=row["reference"],
        issued_at=row["issued_at"],
        due_at=row["due_at"],
        paid_at=row["paid_at"],
        pdf_url=None,
    )


def _as_line(line: Row) -> InvoiceLine:
    return InvoiceLine(
        kind=line["kind"],
        description=line["description"],
        order_id=line["order_id"],
        quantity=float(line["quantity"]),
        unit=line["unit"],
        unit_price_aud=float(line["unit_price_credits"]) / CREDITS_PER_AUD,
        amount_aud=aud(line["credits"]),
    )
