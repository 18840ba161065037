"""The shapes that invoicing operations answer with."""

from __future__ import annotations

from datetime import datetime

from typing_extensions import TypedDict


class InvoiceLine(TypedDict):
    """One thing that is billed."""

    kind: str
    description: str
    order_id: str | None
    quantity: float
    unit: str
    unit_price_aud: float
    amount_aud: float


class Invoice(TypedDict):
    """An invoice or a monthly statement; amounts include the tax, of which `tax_aud` is the part."""

    id: str
    number: str
    organization_id: str
    period: str
    status: str
    currency: str
    total_aud: float
    tax_aud: float
    total_credits: int
    lines: list[InvoiceLine]
    reference: str | None
    issued_at: datetime | None
    due_at: datetime | None
    paid_at: datetime | None
    pdf_url: str | None


class Invoices(TypedDict):
    """The newest invoices of an organization, and how many it has in all."""

    invoices: list[Invoice]
    total: int


class MarkedInvoiced(TypedDict):
    """An invoice just made, and what it bills."""

    invoice: Invoice
    marked_orders: int
    total_aud: float


class AccruedOrder(TypedDict):
    """An order that is owed for; `areaSqkm` is what was delivered of it, or what is to be."""

    orderId: str
    displayName: str
    status: str
    fulfilledAt: datetime | None
    areaSqkm: float
    totalAud: float
    commitment_id: str | None


class Accrual(TypedDict):
    """What an organization owes and no invoice has billed."""

    organization_id: str
    period: str | None
    currency: str
    accrued_aud: float
    accrued_credits: int
    orders: list[AccruedOrder]
    uncommitted_aud: float
    as_of: datetime
