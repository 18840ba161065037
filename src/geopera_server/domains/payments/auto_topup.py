"""How much an organization's automatic top-up buys: whole multiples of the amount it has set, within its cap per UTC day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from geopera_server.db.pool import Connection
from geopera_server.domains.payments.store import wallets

AUTO_TOPUP = "billing.auto_topup"


def day_start(at: datetime) -> datetime:
    """Returns the start of the UTC day, from which the cap counts."""
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def next_day(at: datetime) -> datetime:
    """Returns when the cap begins anew."""
    return day_start(at) + timedelta(days=1)


def multiples(needed_credits: int, amount_credits: int) -> int:
    """Returns the smallest whole multiple of the amount that covers what is needed; at least one."""
    return max(1, -(-needed_credits // amount_credits)) * amount_credits


async def auto_topup_size(conn: Connection, organization_id: str, shortfall_credits: int, at: datetime) -> int | None:
    """Returns how many credits an automatic top-up buys so that a shortfall is covered.

    None when the organization tops up by hand, waits after a refused charge, or would go over its cap for the day.
    """
    row = await wallets.auto_topup_of(conn, organization_id, day_start(at))
    if row is None or not row["auto_topup"] or (row["retry_after"] is not None and row["retry_after"] > at):
        return None
    size = multiples(shortfall_credits, row["topup_amount_credits"])
    return size if row["committed_credits"] + size <= row["cap_credits"] else None
