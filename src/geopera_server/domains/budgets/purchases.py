"""What budgets say to buying credits: people may buy ahead, a key no more than it may spend."""

from __future__ import annotations

from datetime import datetime

from geopera_server.db.pool import Connection
from geopera_server.domains.budgets import store
from geopera_server.kernel.errors import PaymentRequired
from geopera_server.kernel.principal import Principal


async def require_room_to_buy(conn: Connection, principal: Principal, credits_bought: int, at: datetime) -> None:
    """Raises PaymentRequired (`budget_exceeded`) when an API key would buy more than its own budgets allow, or has none.

    Credits that are bought are not spent, so that the budgets of people, projects and the organization do not bind here.
    Hold the account's lock until the purchase is written: then no crowd of calls buys more than one call could.
    """
    api_key_id, organization_id = principal.api_key_id, principal.organization_id
    if api_key_id is None or organization_id is None:
        return
    if await store.needs_own_budget(conn, organization_id, api_key_id):
        raise PaymentRequired(
            "Your organization lets an API key buy only within a budget, and this key has none. Ask an owner, admin or billing"
            " member to make one with budgets.save.",
            code="budget_exceeded",
            budget_id=None,
            remaining=0,
        )
    tightest = await store.room_of_key(conn, organization_id, api_key_id, at)
    if tightest is None or credits_bought <= tightest["room"]:
        return
    remaining = max(0, int(tightest["room"]))
    raise PaymentRequired(
        f"This API key may buy {remaining:,} more credits, no more than its budget. Buy less, or ask an owner, admin or billing"
        " member to raise the budget with budgets.save.",
        code="budget_exceeded",
        budget_id=tightest["id"],
        remaining=remaining,
    )
