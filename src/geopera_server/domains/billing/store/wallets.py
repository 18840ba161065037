"""What billing asks of wallets."""

from __future__ import annotations

from geopera_server.db.pool import Connection, Row


async def wallet_of(conn: Connection, organization_id: str) -> Row | None:
    """An organization's credits at one moment: spendable, reserved, and what it owes where it pays afterwards."""
    cursor = await conn.execute(
        "SELECT o.id AS organization_id, o.billing_mode, coalesce(a.balance, 0) AS balance,"
        " coalesce(a.reserved, 0) AS reserved,"
        " (SELECT coalesce(sum(x.credits), 0)::bigint FROM accrual x WHERE x.organization_id = o.id"
        "  AND x.invoice_id IS NULL AND x.reversed_at IS NULL AND o.billing_mode = 'enterprise') AS accrued,"
        " EXISTS (SELECT 1 FROM commitment c WHERE c.organization_id = o.id AND c.deleted_at IS NULL) AS has_commitments"
        " FROM organization o LEFT JOIN ledger_account a ON a.organization_id = o.id WHERE o.id = %s",
        (organization_id,),
    )
    return await cursor.fetchone()


async def order_is_of(conn: Connection, organization_id: str, order_id: str) -> bool:
    """Whether an order is the organization's."""
    cursor = await conn.execute("SELECT 1 FROM orders WHERE organization_id = %s AND id = %s", (organization_id, order_id))
    return await cursor.fetchone() is not None


async def lock_account(conn: Connection, organization_id: str) -> bool:
    """Keeps others from moving an organization's credits until the transaction ends; False when there is no such account."""
    cursor = await conn.execute(
        "SELECT 1 FROM ledger_account a WHERE organization_id = %s AND NOT EXISTS"
        " (SELECT FROM organization o WHERE o.id = a.organization_id AND o.purged_at IS NOT NULL) FOR NO KEY UPDATE OF a",
        (organization_id,),
    )
    return await cursor.fetchone() is not None


async def operator_entry_of(conn: Connection, organization_id: str, external_ref: str) -> Row | None:
    """What an operator posted under a reference, whether grant or correction."""
    cursor = await conn.execute(
        "SELECT * FROM ledger_entry WHERE organization_id = %s AND reason IN ('operator_grant', 'correction')"
        " AND external_ref = %s",
        (organization_id, external_ref),
    )
    return await cursor.fetchone()


async def has_entry(conn: Connection, reason: str, external_ref: str) -> bool:
    """Whether a movement was posted under a reference."""
    cursor = await conn.execute("SELECT FROM ledger_entry WHERE reason = %s AND external_ref = %s", (reason, external_ref))
    return await cursor.fetchone() is not None
