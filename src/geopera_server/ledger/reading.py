"""What an account holds and how it came to that."""

from __future__ import annotations

from collections.abc import Sequence

from geopera_server.db.pool import Connection, Row

REASONS = (
    "signup_grant", "monthly_grant", "operator_grant", "topup", "auto_topup", "approval_purchase", "shortfall_charge",
    "reserve", "release", "settle", "refund", "charge_adjustment", "plan_fee", "storage_overage", "tile_overage",
    "egress_overage", "share_tiles", "correction",
)  # fmt: skip


async def balance_of(conn: Connection, organization_id: str) -> Row:
    """Returns spendable `balance` and `reserved` credits, read at one moment."""
    cursor = await conn.execute(
        "SELECT balance, reserved, entry_count FROM ledger_account WHERE organization_id = %s", (organization_id,)
    )
    return await cursor.fetchone() or {"balance": 0, "reserved": 0, "entry_count": 0}


async def newest_entries(
    conn: Connection, organization_id: str, *, reasons: Sequence[str], limit: int, offset: int
) -> list[Row]:
    """Returns entries newest first; no reasons means all."""
    cursor = await conn.execute(
        "SELECT * FROM ledger_entry WHERE organization_id = %s AND (%s::text[] = '{}' OR reason = ANY(%s::text[]))"
        " ORDER BY number DESC LIMIT %s OFFSET %s",
        (organization_id, list(reasons), list(reasons), limit, offset),
    )
    return await cursor.fetchall()


async def count_entries(conn: Connection, organization_id: str, reasons: Sequence[str]) -> int:
    """Returns how many entries there are; without reasons the account itself knows."""
    if not reasons:
        return int((await balance_of(conn, organization_id))["entry_count"])
    cursor = await conn.execute(
        "SELECT count(*) AS found FROM ledger_entry WHERE organization_id = %s AND reason = ANY(%s::text[])",
        (organization_id, list(reasons)),
    )
    row = await cursor.fetchone()
    return 0 if row is None else int(row["found"])
