"""What budgets say to buying credits: people may buy ahead, a key no more than it may still spend."""

from __future__ import annotations

from geopera_server.domains.budgets import store
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import PaymentRequired


async def require_room_to_buy(ctx: Context, credits_bought: int) -> None:
    """Raises PaymentRequired (`budget_exceeded`) when an API key would buy more than its own budgets leave it, or has none.

    Credits that are bought are not spent, so that the budgets of people, projects and the organization do not bind here.
    """
    api_key_id = ctx.principal.api_key_id
    if api_key_id is None:
        return
    if await store.needs_own_budget(ctx.conn, ctx.organization_id, api_key_id):
        raise PaymentRequired(
            "Your organization lets an API key buy only within a budget, and this key has none. Ask an owner, admin or billing"
            " member to make one with budgets.save.",
            code="budget_exceeded",
            budget_id=None,
            remaining=0,
        )
    tightest = await store.room_of_key(ctx.conn, ctx.organization_id, api_key_id, ctx.now)
    if tightest is None or credits_bought <= tightest["room"]:
        return
    remaining = max(0, int(tightest["room"]))
    raise PaymentRequired(
        f"This API key may still spend {remaining:,} credits, and buys no more than that. Buy less, or ask an owner, admin or"
        " billing member to raise its budget with budgets.save.",
        code="budget_exceeded",
        budget_id=tightest["id"],
        remaining=remaining,
    )
