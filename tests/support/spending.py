"""A spend of so many credits, as an order makes one, for tests of what stands in its way."""

from __future__ import annotations

from pydantic import BaseModel
from typing_extensions import TypedDict

from geopera_server.domains.payments.funding import fund
from geopera_server.kernel.context import Context
from geopera_server.kernel.operation import operation
from geopera_server.values.ids import new_id


class Spending(BaseModel):
    """How much, and for which project."""

    credits: int = 1
    project_id: str | None = None


class Spent(TypedDict):
    """The order that was paid for, and how."""

    order_id: str
    mode: str


@operation("tests.spend", effect="external_spend", scope="orders:write")
async def spend(ctx: Context, given: Spending) -> Spent:
    """Pays for an order that is nothing else."""
    order_id = new_id()
    funded = await fund(ctx, credits_needed=given.credits, project_id=given.project_id, order_id=order_id)
    return Spent(order_id=order_id, mode=funded.mode)
