"""Spends of the tests' own: operations that pay for an order by itself, with no order around it, and give the money back."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import BaseModel
from typing_extensions import TypedDict

from geopera_server.app import House
from geopera_server.domains.payments.funding import fund
from geopera_server.kernel.context import Context
from geopera_server.kernel.operation import Handler, operation, operation_of
from geopera_server.kernel.pipeline import Call
from geopera_server.kernel.principal import Principal
from geopera_server.ledger import postings
from geopera_server.ledger.verifying import Difference, differences, one_moment
from geopera_server.values.ids import new_id


class Spend(BaseModel):
    """What an order costs."""

    order_id: str
    credits: int
    project_id: str | None = None


class Spent(TypedDict):
    """How it was paid."""

    mode: str
    hold_id: str | None


class Part(BaseModel):
    """So much of what an order holds."""

    order_id: str
    credits: int = 0


class Moved(TypedDict):
    """How much moved."""

    credits: int


@operation("tests.spend", effect="external_spend", scope="orders:write", raw=True, internal=True)
async def spend(ctx: Context, given: Spend) -> Spent:
    """Pays for an order."""
    funded = await fund(ctx, credits_needed=given.credits, project_id=given.project_id, order_id=given.order_id)
    return {"mode": funded.mode, "hold_id": funded.hold_id}


@operation("tests.settle", effect="compute", scope="orders:write", raw=True, internal=True)
async def settle(ctx: Context, given: Part) -> Moved:
    """Delivers a part of an order."""
    hold = await postings.hold_of(ctx.conn, ctx.organization_id, order_id=given.order_id)
    assert hold is not None
    cause = postings.cause_of(ctx)
    await postings.settle(
        ctx.conn, cause, hold_id=hold["id"], order_id=given.order_id, credits_settled=given.credits, external_ref=new_id()
    )
    return {"credits": given.credits}


@operation("tests.release", effect="compute", scope="orders:write", raw=True, internal=True)
async def release(ctx: Context, given: Part) -> Moved:
    """Gives back what of an order was not delivered."""
    return {"credits": await postings.release_rest(ctx.conn, postings.cause_of(ctx), order_id=given.order_id)}


async def run(house: House, principal: Principal, handler: Handler, *, key: str | None = None, **given: Any) -> Any:
    """Runs one of these operations and returns its reply; raises what it raises."""
    call = Call(operation=operation_of(handler), given=given, principal=principal, idempotency_key=key)
    return orjson.loads((await house.kernel.run(call)).body)


async def differences_in(house: House, organization_id: str | None = None) -> list[Difference]:
    """Returns where the money is not what the ledger's entries say."""
    async with house.pool.connection() as conn, one_moment(conn):
        return [difference async for difference in differences(conn, organization_id)]
