"""Makes invoices: numbered without gaps, adding up to their lines, told to who listens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

from geopera_server.db.pool import Row
from geopera_server.domains.invoicing import store
from geopera_server.domains.invoicing.lines import NewLine
from geopera_server.domains.invoicing.periods import read_period
from geopera_server.domains.invoicing.presenting import as_invoice
from geopera_server.domains.payments.terms import tax_part, terms
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, NotFound
from geopera_server.values.ids import is_id, new_id

InvoiceKind = Literal["enterprise", "statement"]


async def issue_invoice(
    ctx: Context,
    *,
    organization_id: str,
    period: str,
    lines: Sequence[NewLine],
    kind: InvoiceKind,
    reference: str | None = None,
    status: Literal["draft", "issued", "paid"] = "issued",
    note: str | None = None,
) -> Row:
    """Makes an invoice within the call's transaction and returns its row with its `lines`.

    Emits `invoice.issued`, except for a draft. Numbers follow on each other within a year of issue: the number is taken under
    a lock that is held until the call commits, and given back when it does not, so issue last. Raises Conflict for a reference
    the organization has used before, or a second statement of a period.
    """
    if await store.lock_organization(ctx.conn, organization_id) is None:
        raise NotFound("organization")
    if await store.is_taken(ctx.conn, organization_id, reference=reference, kind=kind, period=str(read_period(period))):
        what = f"The reference {reference!r}" if kind == "enterprise" else f"The statement of {period}"
        raise Conflict(f"{what} is on another invoice of this organization. See billing.invoices.list.")
    agreed = await terms(ctx.conn)
    total = sum(line.credits for line in lines)
    final = status != "draft"
    row = {
        "id": new_id(),
        "organization_id": organization_id,
        "kind": kind,
        "period": period,
        "status": status,
        "total_credits": total,
        "tax_credits": tax_part(total, agreed["tax_percent"]),
        "reference": reference,
        "note": note,
        "created_at": ctx.now,
        "issued_at": ctx.now if final else None,
        "due_at": ctx.now + timedelta(days=agreed["invoice_due_days"]) if final else None,
        "paid_at": ctx.now if status == "paid" else None,
        "principal_id": ctx.principal.id if ctx.principal.id is not None and is_id(ctx.principal.id) else None,
        "invocation_id": ctx.invocation_id,
    }
    number = await store.take_number(ctx.conn, ctx.now.year)
    made = await store.insert_invoice(ctx.conn, {**row, "number": number}, lines)
    ctx.touch("invoice", made["id"])
    if final:
        ctx.emit("invoice.issued", ("invoice", made["id"]), as_invoice(made), organization_id=organization_id)
    return made
