"""Telling that a budget has reached a threshold."""

from __future__ import annotations

from geopera_server.domains.budgets import store
from geopera_server.domains.budgets.presenting import as_budget
from geopera_server.kernel.context import Context

REACHED = "budget.threshold_reached"


async def crossings(ctx: Context) -> None:
    """Emits `budget.threshold_reached` for each threshold that this call has brought a budget to.

    Call it after the posting or accrual. A threshold is told once in a period, and calling twice tells nothing twice.
    One query, which an organization without budgets need not make.
    """
    told = {(event.entity_id, event.data["threshold"]) for event in ctx.events if event.type == REACHED}
    for row in await store.reached_by(ctx.conn, ctx.invocation_id):
        threshold = float(row["threshold"])
        if (row["id"], threshold) not in told:
            ctx.emit(
                REACHED,
                ("budget", row["id"]),
                {**as_budget(row), "threshold": threshold},
                project_id=row["subject_id"] if row["subject_type"] == "project" else None,
                organization_id=row["organization_id"],
            )
