"""The rows of invoices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.invoicing.lines import NewLine

_WITH_LINES = (
    "SELECT i.*, coalesce((SELECT jsonb_agg(to_jsonb(l) ORDER BY l.position) FROM invoice_line l WHERE l.invoice_id = i.id),"
    " '[]') AS lines FROM invoice i"
)


async def take_number(conn: Connection, year: int) -> str:
    """The next number of a year, which nobody else can take one after until this transaction ends."""
    cursor = await conn.execute(
        "INSERT INTO invoice_counter AS counter (year, latest) VALUES (%s, 1)"
        " ON CONFLICT (year) DO UPDATE SET latest = counter.latest + 1 RETURNING latest",
        (year,),
    )
    row = await cursor.fetchone()
    assert row is not None
    return f"INV-{year}-{row['latest']:06d}"


async def is_taken(conn: Connection, organization_id: str, *, reference: str | None, kind: str, period: str) -> bool:
    """Whether an organization has an invoice of that reference, or a statement of that period that stands."""
    cursor = await conn.execute(
        "SELECT 1 FROM invoice WHERE organization_id = %(organization_id)s AND (reference = %(reference)s"
        " OR (%(kind)s = 'statement' AND kind = 'statement' AND period = %(period)s AND status <> 'void')) LIMIT 1",
        {"organization_id": organization_id, "reference": reference, "kind": kind, "period": period},
    )
    return await cursor.fetchone() is not None


async def insert_invoice(conn: Connection, row: Mapping[str, Any], lines: Sequence[NewLine]) -> Row:
    """A new invoice with its lines."""
    await conn.execute(
        "INSERT INTO invoice (id, number, organization_id, kind, period, status, total_credits, tax_credits, reference, note,"
        " created_at, issued_at, due_at, paid_at, principal_id, invocation_id) VALUES (%(id)s, %(number)s,"
        " %(organization_id)s, %(kind)s, %(period)s, %(status)s, %(total_credits)s, %(tax_credits)s, %(reference)s, %(note)s,"
        " %(created_at)s, %(issued_at)s, %(due_at)s, %(paid_at)s, %(principal_id)s, %(invocation_id)s)",
        row,
    )
    given = [{"position": position, **asdict(line)} for position, line in enumerate(lines)]
    for line in given:
        line.update({name: str(line[name]) for name in ("quantity", "unit_price_credits")})
        line["sqkm"] = None if line["sqkm"] is None else str(line["sqkm"])
    await conn.execute(
        "INSERT INTO invoice_line (invoice_id, organization_id, position, kind, description, order_id, job_id, commitment_id,"
        " sqkm, quantity, unit, unit_price_credits, credits) SELECT %s::uuid, %s::uuid, position, kind, description, order_id,"
        " job_id, commitment_id, sqkm, quantity, unit, unit_price_credits, credits FROM jsonb_to_recordset(%s::jsonb) AS line"
        " (position integer, kind text, description text, order_id uuid, job_id uuid, commitment_id uuid, sqkm numeric,"
        " quantity numeric, unit text, unit_price_credits numeric, credits bigint)",
        (row["id"], row["organization_id"], Jsonb(given)),
    )
    made = await invoice_of(conn, row["id"])
    assert made is not None
    return made


async def invoice_of(conn: Connection, invoice_id: str) -> Row | None:
    """An invoice of any organization with its lines."""
    cursor = await conn.execute(_WITH_LINES + " WHERE i.id = %s", (invoice_id,))
    return await cursor.fetchone()


async def newest_of(conn: Connection, organization_id: str, limit: int) -> list[Row]:
    """An organization's invoices that were issued, newest first."""
    cursor = await conn.execute(
        _WITH_LINES
        + " WHERE i.organization_id = %s AND i.issued_at IS NOT NULL ORDER BY i.created_at DESC, i.id DESC LIMIT %s",
        (organization_id, limit),
    )
    return await cursor.fetchall()


async def count_of(conn: Connection, organization_id: str) -> int:
    """How many invoices of an organization were issued."""
    cursor = await conn.execute(
        "SELECT count(*) AS found FROM invoice WHERE organization_id = %s AND issued_at IS NOT NULL", (organization_id,)
    )
    row = await cursor.fetchone()
    return 0 if row is None else int(row["found"])


async def lock_organization(conn: Connection, organization_id: str) -> Row | None:
    """The organization, whose invoices and commitments nobody else changes until this transaction ends."""
    cursor = await conn.execute(
        "SELECT id, name, billing_mode FROM organization WHERE id = %s AND purged_at IS NULL FOR NO KEY UPDATE",
        (organization_id,),
    )
    return await cursor.fetchone()


async def set_status(conn: Connection, row: Mapping[str, Any]) -> None:
    """Moves an invoice to paid or void; the database refuses moves that are not allowed."""
    await conn.execute(
        "UPDATE invoice SET status = %(status)s, status_reference = %(status_reference)s,"
        " paid_at = CASE WHEN %(status)s = 'paid' THEN %(at)s::timestamptz END,"
        " voided_at = CASE WHEN %(status)s = 'void' THEN %(at)s::timestamptz END WHERE id = %(id)s",
        row,
    )


async def is_debited(conn: Connection, organization_id: str, invoice_id: str) -> bool:
    """Whether credits were taken from the balance for an invoice."""
    cursor = await conn.execute(
        "SELECT 1 FROM ledger_entry WHERE organization_id = %s AND invoice_id = %s LIMIT 1", (organization_id, invoice_id)
    )
    return await cursor.fetchone() is not None


async def organization_of(conn: Connection, organization_id: str) -> Row | None:
    """The organization and how it pays."""
    cursor = await conn.execute(
        "SELECT id, name, billing_mode FROM organization WHERE id = %s AND purged_at IS NULL", (organization_id,)
    )
    return await cursor.fetchone()


async def oldest_unbilled(conn: Connection, organization_id: str) -> datetime | None:
    """When the first delivery was that no invoice has billed."""
    cursor = await conn.execute(
        "SELECT min(billable_at) AS at FROM accrual WHERE organization_id = %s AND invoice_id IS NULL AND reversed_at IS NULL",
        (organization_id,),
    )
    row = await cursor.fetchone()
    return None if row is None else row["at"]


async def under_way(conn: Connection, organization_id: str) -> list[Row]:
    """What is owed for orders and jobs that are not delivered yet, oldest first."""
    cursor = await conn.execute(
        "SELECT a.credits, a.order_id, o.display_name, o.status,"
        " (SELECT coalesce(sum((g.priced ->> 'areaSqkm')::numeric), 0) FROM order_group g WHERE g.order_id = a.order_id)"
        " AS area_sqkm FROM accrual a LEFT JOIN orders o ON o.id = a.order_id WHERE a.organization_id = %s"
        " AND a.billable_at IS NULL AND a.reversed_at IS NULL ORDER BY a.created_at, a.id",
        (organization_id,),
    )
    return await cursor.fetchall()


async def accruals_of(conn: Connection, organization_id: str, order_ids: Sequence[str]) -> dict[str, Row]:
    """What is owed for some orders, by order."""
    cursor = await conn.execute(
        "SELECT a.id, a.order_id, a.billable_at, a.invoice_id, i.number FROM accrual a LEFT JOIN invoice i"
        " ON i.id = a.invoice_id WHERE a.organization_id = %s AND a.order_id = ANY(%s::uuid[]) AND a.reversed_at IS NULL",
        (organization_id, list(order_ids)),
    )
    return {row["order_id"]: row for row in await cursor.fetchall()}


async def lock_billing_mode(conn: Connection, organization_id: str) -> str | None:
    """How an organization pays; nobody else changes that or places anything to be paid afterwards until this ends."""
    cursor = await conn.execute(
        "SELECT billing_mode FROM organization WHERE id = %s AND purged_at IS NULL FOR UPDATE", (organization_id,)
    )
    row = await cursor.fetchone()
    return None if row is None else str(row["billing_mode"])


async def set_billing_mode(conn: Connection, organization_id: str, billing_mode: str, at: datetime) -> None:
    """Lets an organization pay before or afterwards from now on."""
    await conn.execute(
        "UPDATE organization SET billing_mode = %s, updated_at = %s WHERE id = %s", (billing_mode, at, organization_id)
    )
