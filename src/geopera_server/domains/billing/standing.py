"""How an organization falls behind and comes back: what it owes decides, and an operator's word stands above it."""

from __future__ import annotations

from datetime import datetime

from geopera_server.db.pool import Connection
from geopera_server.domains.billing.store import months, standing
from geopera_server.kernel.context import Context
from geopera_server.ledger.reading import balance_of

COLLECT = "billing.collect"


async def owes(conn: Connection, organization_id: str, at: datetime) -> None:
    """Makes an organization past due; since when counts from the first time."""
    await standing.set_owing(conn, organization_id, at, at)


async def collect_if_owing(ctx: Context, organization_id: str) -> None:
    """Queues the paying of open months, after credits have come in for an organization that owes."""
    organization = await standing.organization_of(ctx.conn, organization_id)
    if organization is not None and organization["past_due_since"] is not None:
        ctx.enqueue(COLLECT, organization_id, organization_id=organization_id)


async def settled(conn: Connection, organization_id: str, at: datetime) -> bool:
    """Ends being past due, and a suspension for it, when nothing is owed any more; says whether that was so.

    What is owed is a month that was reckoned and not paid, or a balance below zero. The account must be locked.
    """
    organization = await standing.organization_of(conn, organization_id)
    if organization is None or organization["past_due_since"] is None:
        return False
    if await months.owes_for_months(conn, organization_id) or (await balance_of(conn, organization_id))["balance"] < 0:
        return False
    await standing.set_owing(conn, organization_id, None, at)
    if organization["suspended_for_debt"]:
        await standing.end_suspension(conn, organization_id, at)
    return True
