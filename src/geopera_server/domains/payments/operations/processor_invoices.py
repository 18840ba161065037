"""Invoices that the card processor keeps."""

from __future__ import annotations

import logging
from datetime import datetime

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from geopera_server.domains.payments.cards import customer_of
from geopera_server.domains.pricing.rules import aud
from geopera_server.kernel.context import Outside
from geopera_server.kernel.errors import Denied
from geopera_server.kernel.operation import operation
from geopera_server.kernel.paging import clamped
from geopera_server.ports.payments import ProcessorError, ProcessorInvoice

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 100


class InvoicesInput(BaseModel):
    """How many to show."""

    limit: int = Field(50, ge=1)


class KeptInvoice(TypedDict):
    """One invoice of the card processor."""

    id: str
    number: str | None
    status: str
    amount_due_aud: float
    amount_paid_aud: float
    currency: str
    created_at: datetime
    hosted_invoice_url: str | None
    pdf_url: str | None


class KeptInvoices(TypedDict):
    """The newest invoices, which processor keeps them, and a warning when it could not be asked."""

    invoices: list[KeptInvoice]
    source: str
    warning: str | None


@operation("billing.stripe_invoices.list", effect="read", scope="billing:read", raw=True, example={"limit": 10})
async def list_kept_invoices(ctx: Outside, given: InvoicesInput) -> KeptInvoices:
    """Lists the invoices that the card processor keeps for your organization, newest first.

    Where it cannot be asked the list is empty and says so; your organization's own are under billing.invoices.list.
    """
    organization_id, processor = ctx.principal.organization_id, ctx.ports.processor
    if organization_id is None:
        raise Denied("This account belongs to no organization yet. Create one with organizations.create.")
    async with ctx.connection() as conn:
        customer_id = await customer_of(conn, organization_id, processor.name)
    if customer_id is None:
        return KeptInvoices(invoices=[], source=processor.name, warning=None)
    try:
        invoices = await processor.cards.invoices(customer_id, limit=clamped(given.limit, MOST_AT_ONCE))
    except ProcessorError as error:
        logger.warning("the card processor gives no invoices: %s", error)
        warning = "The card processor cannot be asked at the moment. Try again later."
        return KeptInvoices(invoices=[], source=processor.name, warning=warning)
    return KeptInvoices(invoices=[_as_kept(one) for one in invoices], source=processor.name, warning=None)


def _as_kept(invoice: ProcessorInvoice) -> KeptInvoice:
    return KeptInvoice(
        id=invoice.id,
        number=invoice.number,
        status=invoice.status,
        amount_due_aud=aud(invoice.amount_due_cents),
        amount_paid_aud=aud(invoice.amount_paid_cents),
        currency=invoice.currency.upper(),
        created_at=invoice.created_at,
        hosted_invoice_url=invoice.hosted_invoice_url,
        pdf_url=invoice.pdf_url,
    )
