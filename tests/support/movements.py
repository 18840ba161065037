"""Credits of the home organization that go and come without anything bought, as an operation of the tests' own."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from typing_extensions import TypedDict

from geopera_server.domains.payments.low_balance import notice_credit, notice_debit
from geopera_server.kernel.context import Context
from geopera_server.kernel.operation import operation
from geopera_server.ledger import postings
from geopera_server.ledger.postings import Posting
from geopera_server.values.ids import new_id
from support.house import Household


class Movement(BaseModel):
    """What moves, and whether anybody looks."""

    credits: int
    reason: str
    noticed: bool = True


class Balance(TypedDict):
    """The balance after it."""

    balance: int


@operation("tests.move", effect="compute", scope="billing:write", internal=True)
async def move(ctx: Context, given: Movement) -> Balance:
    """Moves credits and looks at what follows from it."""
    posting = Posting(reason=given.reason, credits=given.credits, external_ref=new_id())
    entry = await postings.post(ctx.conn, postings.cause_of(ctx), posting)
    if given.noticed:
        await (notice_credit if given.credits > 0 else notice_debit)(ctx, entry)
    return Balance(balance=entry["balance_after"])


async def spend(household: Household, credits_spent: int) -> int:
    """Spends, and returns the balance after it."""
    return await _moved(household, {"credits": -credits_spent, "reason": "plan_fee"})


async def spend_down_to(household: Household, balance: int) -> None:
    """Spends all but a balance."""
    [row] = await household.sql(
        "SELECT balance FROM ledger_account WHERE organization_id = %s", household.place.home.organization_id
    )
    assert await spend(household, row["balance"] - balance) == balance


async def gain(household: Household, credits_gained: int, reason: str = "operator_grant", *, noticed: bool = True) -> int:
    """Gains, and returns the balance after it."""
    return await _moved(household, {"credits": credits_gained, "reason": reason, "noticed": noticed})


async def _moved(household: Household, given: dict[str, Any]) -> int:
    return int((await household.owner.run(move, given))["balance"])
