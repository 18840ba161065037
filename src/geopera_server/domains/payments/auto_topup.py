"""How much an organization's automatic top-up buys: whole multiples of the amount it has set, within its cap per UTC day.

The cap counts what was charged and what may still be charged since the day began. Where a charge is begun, while its account
is held, this is asked once more: two that decide at the same time do not both get past it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.payments.store import wallets

AUTO_TOPUP = "billing.auto_topup"
WAIT_AFTER_FAILURE = timedelta(hours=1)
MOST_FAILURES = 3
LOOK_AGAIN = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to buy now, else when to look again; neither where nothing is to be done."""

    credits: int | None = None
    look_at: datetime | None = None


def day_start(at: datetime) -> datetime:
    """Returns the start of the UTC day, from which the cap counts."""
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def multiples(needed_credits: int, amount_credits: int) -> int:
    """Returns the smallest whole multiple of the amount that covers what is needed; at least one."""
    return max(1, -(-needed_credits // amount_credits)) * amount_credits


def plan(row: Row, balance_credits: int, at: datetime) -> Plan:
    """Returns what brings a balance back to its threshold, as far as the cap allows."""
    expected = balance_credits + row["coming_credits"]
    if not (row["auto_topup"] and row["may_charge"]) or balance_credits >= row["threshold_credits"]:
        return Plan()
    if expected >= row["threshold_credits"]:
        return Plan(look_at=at + LOOK_AGAIN)
    if row["retry_after"] is not None and row["retry_after"] > at:
        return Plan(look_at=row["retry_after"])
    amount = row["topup_amount_credits"]
    room = (row["cap_credits"] - row["committed_credits"]) // amount * amount
    if room <= 0:
        return Plan(look_at=day_start(at) + timedelta(days=1))
    return Plan(credits=min(room, multiples(row["threshold_credits"] - expected, amount)))


async def auto_topup_size(conn: Connection, organization_id: str, shortfall_credits: int, at: datetime) -> int | None:
    """Returns how many credits an automatic top-up buys so that a shortfall is covered.

    None when the organization tops up by hand, waits after a refused charge, or would go over its cap for the day.
    """
    row = await wallets.auto_topup_of(conn, organization_id, day_start(at))
    if (
        row is None
        or not (row["auto_topup"] and row["may_charge"])
        or (row["retry_after"] is not None and row["retry_after"] > at)
    ):
        return None
    size = multiples(shortfall_credits, row["topup_amount_credits"])
    return size if row["committed_credits"] + size <= row["cap_credits"] else None
