"""Tells when deliveries have used up the larger parts of a commitment."""

from __future__ import annotations

from geopera_server.db.pool import Row
from geopera_server.domains.commitments import store
from geopera_server.domains.commitments.burning import standing_of
from geopera_server.domains.commitments.presenting import as_commitment_row
from geopera_server.domains.commitments.rules import percents_reached
from geopera_server.kernel.context import Context


async def notice_delivery(ctx: Context, order_row: Row) -> None:
    """Emits `commitment.threshold_reached` for each of 50, 80 and 100 % that an order's delivery has moved burn-down to.

    To be called in the transaction that makes the order fulfilled, after its accrual is billable. Each percentage is told of
    once, unless an adjustment has taken the burn-down back below it.
    """
    organization_id = order_row["organization_id"]
    # Locked before they are read: of two deliveries at once, the second one sees the first.
    running = await store.lock_running(ctx.conn, organization_id, ctx.now)
    if not running:
        return
    standing = await standing_of(ctx.conn, organization_id)
    for commitment_id, alerted_percent in running.items():
        reached = percents_reached(standing.allotment.uses[commitment_id].percent, alerted_percent)
        for percent in reached:
            data = {**as_commitment_row(standing, commitment_id, ctx.now), "threshold_percent": percent}
            ctx.emit("commitment.threshold_reached", ("commitment", commitment_id), data, organization_id=organization_id)
        if reached:
            await store.set_alerted(ctx.conn, organization_id, commitment_id, max(reached))
