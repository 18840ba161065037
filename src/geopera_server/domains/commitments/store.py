"""The rows of commitments, and of what was delivered under them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row

_WITH_ADJUSTMENTS = (
    "SELECT c.*, coalesce((SELECT sum(a.size_sqkm) FROM commitment_adjustment a WHERE a.commitment_id = c.id), 0)"
    " AS adjusted_sqkm, coalesce((SELECT jsonb_agg(jsonb_build_object('size_sqkm', a.size_sqkm, 'note', a.note,"
    " 'at', a.at) ORDER BY a.at, a.id) FROM commitment_adjustment a WHERE a.commitment_id = c.id), '[]') AS adjustments,"
    " coalesce((SELECT sum(l.sqkm) FROM invoice_line l WHERE l.invoice_id = c.settled_invoice_id AND l.commitment_id = c.id"
    "   AND l.kind = 'take_or_pay'), 0) AS settled_sqkm,"
    " EXISTS (SELECT 1 FROM invoice_line l JOIN invoice i ON i.id = l.invoice_id"
    "   WHERE l.commitment_id = c.id AND i.status <> 'void') AS is_invoiced"
    " FROM commitment c"
)


async def commitments_of(conn: Connection, organization_id: str) -> list[Row]:
    """An organization's commitments, first begun first, with adjustments and with what invoices have billed under them."""
    cursor = await conn.execute(
        _WITH_ADJUSTMENTS + " WHERE c.organization_id = %s AND c.deleted_at IS NULL ORDER BY c.start_date, c.id",
        (organization_id,),
    )
    return await cursor.fetchall()


async def owner_of(conn: Connection, commitment_id: str) -> str | None:
    """The organization that has made a commitment; None for unknown and deleted ones."""
    cursor = await conn.execute("SELECT organization_id FROM commitment WHERE id = %s AND deleted_at IS NULL", (commitment_id,))
    row = await cursor.fetchone()
    return None if row is None else str(row["organization_id"])


async def lock_organization(conn: Connection, organization_id: str) -> bool:
    """Keeps others from changing an organization's commitments and invoices until this transaction ends."""
    cursor = await conn.execute(
        "SELECT 1 FROM organization WHERE id = %s AND purged_at IS NULL FOR NO KEY UPDATE", (organization_id,)
    )
    return await cursor.fetchone() is not None


# Everything delivered, with what it costs: accruals that are billable, and orders and jobs paid from the balance.
_DELIVERED = (
    "WITH delivered AS ("
    " SELECT a.id AS key, a.order_id, a.job_id, a.billable_at AS at, a.credits, true AS is_owed, a.invoice_id FROM accrual a"
    "  WHERE a.organization_id = %(organization_id)s AND a.billable_at >= %(since)s AND a.reversed_at IS NULL"
    " UNION ALL"
    " SELECT o.id, o.id, NULL, coalesce(o.fulfilled_at, (SELECT max(g.settled_at) FROM order_group g WHERE g.order_id = o.id)),"
    "  coalesce(h.settled, 0), false, NULL FROM orders o LEFT JOIN ledger_hold h ON h.order_id = o.id"
    "  WHERE o.organization_id = %(organization_id)s AND o.billing_mode <> 'enterprise'"
    "   AND o.status IN ('fulfilled', 'failed') AND o.updated_at >= %(since)s"
    " UNION ALL"
    " SELECT h.id, NULL, h.job_id, (SELECT max(e.created_at) FROM ledger_entry e WHERE e.hold_id = h.id"
    "   AND e.reason = 'settle'), h.settled, false, NULL FROM ledger_hold h"
    "  WHERE h.organization_id = %(organization_id)s AND h.job_id IS NOT NULL AND h.settled > 0 AND h.remaining = 0)"
    " SELECT d.*, o.display_name, o.status, o.fulfilled_at, o.data_product_id,"
    " (SELECT jsonb_agg(jsonb_build_object('credits', g.credits, 'area_sqkm', g.priced -> 'areaSqkm',"
    "   'product', g.priced -> 'dataProductId', 'host', g.priced -> 'host', 'collection', g.priced -> 'collection',"
    "   'shapes', CASE WHEN o.status <> 'fulfilled' THEN (SELECT jsonb_agg(shown -> 'geometry')"
    "     FROM jsonb_array_elements(g.priced -> 'captures') AS shown WHERE EXISTS (SELECT 1 FROM order_capture c"
    "       WHERE c.group_id = g.id AND c.delivered_at IS NOT NULL AND c.host = shown ->> 'host'"
    "       AND c.capture_id = shown ->> 'id')) END) ORDER BY g.position)"
    "  FROM order_group g WHERE g.order_id = d.order_id AND (o.status = 'fulfilled' OR g.settled_at IS NOT NULL)) AS groups,"
    " (SELECT jsonb_agg(jsonb_build_object('commitment_id', l.commitment_id, 'sqkm', l.sqkm, 'credits', l.credits))"
    "  FROM invoice_line l WHERE l.invoice_id = d.invoice_id AND l.subject_id = coalesce(d.order_id, d.job_id)) AS lines"
    " FROM delivered d LEFT JOIN orders o ON o.id = d.order_id WHERE d.at >= %(since)s ORDER BY d.at, d.key"
)


async def deliveries_since(conn: Connection, organization_id: str, since: datetime) -> list[Row]:
    """What was delivered to an organization from a moment on, with its areas, its price and what was billed for it."""
    cursor = await conn.execute(_DELIVERED, {"organization_id": organization_id, "since": since})
    return await cursor.fetchall()


async def insert_commitment(conn: Connection, row: Mapping[str, Any]) -> None:
    """A new commitment."""
    await conn.execute(
        "INSERT INTO commitment (id, organization_id, sqkm_amount, rate_credits, products, start_date, end_date, created_at,"
        " updated_at) VALUES (%(id)s, %(organization_id)s, %(sqkm_amount)s, %(rate_credits)s, %(products)s, %(start_date)s,"
        " %(end_date)s, %(at)s, %(at)s)",
        row,
    )


async def update_commitment(conn: Connection, row: Mapping[str, Any]) -> None:
    """Changes what a commitment says."""
    await conn.execute(
        "UPDATE commitment SET sqkm_amount = %(sqkm_amount)s, rate_credits = %(rate_credits)s, products = %(products)s,"
        " start_date = %(start_date)s, end_date = %(end_date)s, updated_at = %(at)s"
        " WHERE organization_id = %(organization_id)s AND id = %(id)s",
        row,
    )


async def insert_adjustment(conn: Connection, row: Mapping[str, Any]) -> None:
    """An operator's correction of a burn-down."""
    await conn.execute(
        "INSERT INTO commitment_adjustment (id, commitment_id, organization_id, size_sqkm, note, at, principal_id,"
        " invocation_id) VALUES (%(id)s, %(commitment_id)s, %(organization_id)s, %(size_sqkm)s, %(note)s, %(at)s,"
        " %(principal_id)s, %(invocation_id)s)",
        row,
    )


async def delete_commitment(conn: Connection, organization_id: str, commitment_id: str, at: datetime) -> None:
    """Ends a commitment as if it had never been; its row stays."""
    await conn.execute(
        "UPDATE commitment SET deleted_at = %s, updated_at = %s WHERE organization_id = %s AND id = %s",
        (at, at, organization_id, commitment_id),
    )


async def mark_settled(conn: Connection, organization_id: str, ids: Sequence[str], invoice_id: str) -> None:
    """Notes the invoice that bills the shortfall of some commitments."""
    await conn.execute(
        "UPDATE commitment SET settled_invoice_id = %s WHERE organization_id = %s AND id = ANY(%s::uuid[])",
        (invoice_id, organization_id, list(ids)),
    )


async def free_settled(conn: Connection, organization_id: str, invoice_id: str) -> None:
    """Lets the shortfalls of an invoice that was made void be billed again."""
    await conn.execute(
        "UPDATE commitment SET settled_invoice_id = NULL WHERE organization_id = %s AND settled_invoice_id = %s",
        (organization_id, invoice_id),
    )


async def lock_running(conn: Connection, organization_id: str, at: datetime) -> dict[str, int]:
    """The commitments whose term runs, locked, with the percentage that was last told of."""
    cursor = await conn.execute(
        "SELECT id, alerted_percent FROM commitment WHERE organization_id = %(organization_id)s AND deleted_at IS NULL"
        " AND (%(at)s::timestamptz AT TIME ZONE 'UTC')::date BETWEEN start_date AND end_date ORDER BY id FOR UPDATE",
        {"organization_id": organization_id, "at": at},
    )
    return {row["id"]: row["alerted_percent"] for row in await cursor.fetchall()}


async def set_alerted(conn: Connection, organization_id: str, commitment_id: str, percent: int) -> None:
    """Notes the highest percentage that was told of."""
    await conn.execute(
        "UPDATE commitment SET alerted_percent = %s WHERE organization_id = %s AND id = %s",
        (percent, organization_id, commitment_id),
    )


async def corrections_between(conn: Connection, organization_id: str, start: datetime, end: datetime) -> list[Row]:
    """Charges that operators raised or lowered after an order was paid."""
    cursor = await conn.execute(
        "SELECT created_at, order_id, job_id, -credits AS credits, note FROM ledger_entry WHERE organization_id = %s"
        " AND reason IN ('charge_adjustment', 'refund') AND created_at >= %s AND created_at < %s ORDER BY number",
        (organization_id, start, end),
    )
    return await cursor.fetchall()


async def holds_between(conn: Connection, organization_id: str, start: datetime, end: datetime) -> Row:
    """How many credits were reserved, settled and released in a time."""
    cursor = await conn.execute(
        "SELECT coalesce(sum(reserved_delta) FILTER (WHERE reason = 'reserve'), 0)::bigint AS reserved,"
        " coalesce(-sum(reserved_delta) FILTER (WHERE reason = 'settle'), 0)::bigint AS settled,"
        " coalesce(-sum(reserved_delta) FILTER (WHERE reason = 'release'), 0)::bigint AS released"
        " FROM ledger_entry WHERE organization_id = %s AND reason IN ('reserve', 'settle', 'release')"
        " AND created_at >= %s AND created_at < %s",
        (organization_id, start, end),
    )
    row = await cursor.fetchone()
    assert row is not None
    return row
