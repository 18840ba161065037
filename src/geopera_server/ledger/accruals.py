"""What organizations that pay afterwards owe: one accrual for each order or job, until an invoice bills it.

The database keeps the rules (0012_invoices.sql): an accrual is never deleted, who owes what for which order never changes, an
amount is only ever lowered, and what an invoice has billed stays until that invoice is void.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from geopera_server.db.pool import Connection
from geopera_server.kernel.errors import Conflict
from geopera_server.ledger import postings
from geopera_server.values.ids import new_id

_INSERT = (
    "INSERT INTO accrual (id, organization_id, order_id, job_id, credits, created_at, project_id, principal_id, api_key_id,"
    " invocation_id) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)


async def accrue(
    conn: Connection,
    cause: postings.Cause,
    *,
    credits_accrued: int,
    order_id: str | None = None,
    job_id: str | None = None,
) -> None:
    """Notes what an organization owes for an order or a job that was just placed; nothing is reserved.

    Raises Conflict when the organization does not pay afterwards, also when it has just stopped doing so.
    """
    # The row is read under a lock that changing the billing mode waits for, so that no accrual slips in behind a change.
    cursor = await conn.execute("SELECT billing_mode FROM organization WHERE id = %s FOR KEY SHARE", (cause.organization_id,))
    organization = await cursor.fetchone()
    if organization is None or organization["billing_mode"] != "enterprise":
        raise Conflict("How your organization pays has just changed. Send the same request again.", code="resource_busy")
    values = (
        new_id(), cause.organization_id, order_id, job_id, credits_accrued, cause.at, cause.project_id, cause.principal_id,
        cause.api_key_id, cause.invocation_id,
    )  # fmt: skip
    await conn.execute(_INSERT, values)


async def reverse(
    conn: Connection, organization_id: str, *, at: datetime, order_id: str | None, job_id: str | None = None
) -> None:
    """Takes back what is owed for an order or job that will not be delivered."""
    await conn.execute(
        "UPDATE accrual SET reversed_at = %s WHERE organization_id = %s AND (order_id = %s::uuid OR job_id = %s::uuid)"
        " AND reversed_at IS NULL",
        (at, organization_id, order_id, job_id),
    )


async def make_billable(
    conn: Connection,
    organization_id: str,
    *,
    at: datetime,
    order_id: str | None,
    job_id: str | None = None,
    credits_due: int | None = None,
) -> None:
    """Makes what is owed for a delivered order or job billable, or only `credits_due` of it; nothing due reverses it."""
    if credits_due == 0:
        await reverse(conn, organization_id, at=at, order_id=order_id, job_id=job_id)
        return
    await conn.execute(
        "UPDATE accrual SET billable_at = %s, credits = coalesce(%s::bigint, credits)"
        " WHERE organization_id = %s AND (order_id = %s::uuid OR job_id = %s::uuid) AND billable_at IS NULL",
        (at, credits_due, organization_id, order_id, job_id),
    )


async def mark_billed(conn: Connection, organization_id: str, accrual_ids: Sequence[str], invoice_id: str) -> int:
    """Notes the invoice that bills some accruals and returns how many it billed: those that no other one had billed."""
    cursor = await conn.execute(
        "UPDATE accrual SET invoice_id = %s WHERE organization_id = %s AND id = ANY(%s::uuid[]) AND invoice_id IS NULL",
        (invoice_id, organization_id, list(accrual_ids)),
    )
    return cursor.rowcount


async def free_billed(conn: Connection, organization_id: str, invoice_id: str) -> int:
    """Lets the accruals of an invoice that was made void be billed again, and returns how many there are."""
    cursor = await conn.execute(
        "UPDATE accrual SET invoice_id = NULL WHERE organization_id = %s AND invoice_id = %s", (organization_id, invoice_id)
    )
    return cursor.rowcount


async def has_unbilled(conn: Connection, organization_id: str) -> bool:
    """Says whether the organization owes anything that no invoice has billed yet, delivered or not."""
    cursor = await conn.execute(
        "SELECT 1 FROM accrual WHERE organization_id = %s AND credits > 0 AND invoice_id IS NULL AND reversed_at IS NULL"
        " LIMIT 1",
        (organization_id,),
    )
    return await cursor.fetchone() is not None
