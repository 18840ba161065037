"""Reading invoices, and what operators do with them and with how organizations pay."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from geopera_server.domains.commitments.burning import free_settled
from geopera_server.domains.invoicing import store
from geopera_server.domains.invoicing.presenting import as_invoice
from geopera_server.domains.invoicing.shapes import Invoice, Invoices
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.kernel.paging import clamped
from geopera_server.ledger import accruals
from geopera_server.values.ids import is_id

_MAY_BECOME = {"draft": ("void",), "issued": ("paid", "void")}
_EXAMPLE_ID = "0192d3c4-0000-7000-8000-000000000000"


class InvoicesInput(BaseModel):
    """How many to show."""

    limit: int = Field(50, ge=1)


@operation("billing.invoices.list", effect="read", scope="billing:read", raw=True, snapshot=True, example={"limit": 20})
async def invoices_list(ctx: Context, given: InvoicesInput) -> Invoices:
    """Lists your organization's invoices and monthly statements, newest first."""
    rows = await store.newest_of(ctx.conn, ctx.organization_id, clamped(given.limit))
    return Invoices(invoices=[as_invoice(row) for row in rows], total=await store.count_of(ctx.conn, ctx.organization_id))


class InvoiceStatusInput(BaseModel):
    """What has become of an invoice, and a reference for it in the operator's own books, such as the payment's."""

    invoice_id: str
    status: Literal["paid", "void"]
    reference: str | None = Field(None, max_length=200)


@operation(
    "billing.admin.invoices.set_status",
    effect="compute",
    scope="admin:write",
    extension=True,
    while_suspended=True,
    while_past_due=True,
    example={"invoice_id": _EXAMPLE_ID, "status": "paid", "reference": "bank 2026-04-02"},
)
async def invoices_set_status(ctx: Context, given: InvoiceStatusInput) -> Invoice:
    """Marks an issued invoice as paid, or makes one void, which lets its orders be billed again.

    Both are final. A monthly statement whose credits were debited cannot be made void: give them back with
    billing.admin.grant_credits.
    """
    found = await store.invoice_of(ctx.conn, given.invoice_id) if is_id(given.invoice_id) else None
    if found is None:
        raise NotFound("invoice")
    organization_id = found["organization_id"]
    await store.lock_organization(ctx.conn, organization_id)
    row = await store.invoice_of(ctx.conn, found["id"])
    assert row is not None
    if given.status not in _MAY_BECOME.get(row["status"], ()):
        raise Conflict(f"This invoice is {row['status']} and cannot become {given.status}.", code="illegal_state")
    if given.status == "void" and await store.is_debited(ctx.conn, organization_id, row["id"]):
        raise Conflict(
            "This statement was debited from the balance and stays. Give credits back with billing.admin.grant_credits.",
            code="illegal_state",
        )
    changes = {"id": row["id"], "status": given.status, "status_reference": given.reference, "at": ctx.now}
    await store.set_status(ctx.conn, changes)
    if given.status == "void":
        await accruals.free_billed(ctx.conn, organization_id, row["id"])
        await free_settled(ctx.conn, organization_id, row["id"])
    ctx.touch("organization", organization_id)
    ctx.touch("invoice", row["id"])
    return as_invoice({**row, "status": given.status, "paid_at": ctx.now if given.status == "paid" else None})


class BillingModeInput(BaseModel):
    """Whether an organization pays afterwards, by invoice."""

    organization_id: str
    enterprise: bool


class BillingMode(TypedDict):
    """How an organization pays from now on."""

    organization_id: str
    billing_mode: str


@operation(
    "billing.admin.set_billing_mode",
    effect="compute",
    scope="admin:write",
    extension=True,
    while_suspended=True,
    while_past_due=True,
    example={"organization_id": _EXAMPLE_ID, "enterprise": True},
)
async def set_billing_mode(ctx: Context, given: BillingModeInput) -> BillingMode:
    """Lets an organization pay afterwards by invoice, or before from its balance.

    What is reserved for open orders stays reserved. Back to paying before: only once all that is owed has been billed.
    """
    before = await store.lock_billing_mode(ctx.conn, given.organization_id) if is_id(given.organization_id) else None
    if before is None:
        raise NotFound("organization")
    wanted = "enterprise" if given.enterprise else "prepaid"
    if wanted == "prepaid" and await accruals.has_unbilled(ctx.conn, given.organization_id):
        raise Conflict(
            "This organization owes for orders that are not billed. Bill them with billing.enterprise.mark_invoiced, and wait"
            " for those under way or cancel them.",
            code="illegal_state",
        )
    if wanted != before:
        await store.set_billing_mode(ctx.conn, given.organization_id, wanted, ctx.now)
    ctx.touch("organization", given.organization_id)
    return BillingMode(organization_id=given.organization_id, billing_mode=wanted)
