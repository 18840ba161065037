"""Reading the wallet and the plans."""

from __future__ import annotations

from pydantic import BaseModel, Field

from geopera_server.domains.billing.presenting import as_ledger_entry, as_plan
from geopera_server.domains.billing.shapes import Balance, Plans, Transactions
from geopera_server.domains.billing.store import plans, wallets
from geopera_server.domains.invoicing.billing import owed_credits
from geopera_server.domains.pricing.rules import CREDITS_PER_AUD, aud
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import InvalidInput, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.kernel.paging import MAX_OFFSET, clamped
from geopera_server.ledger import reading


class _Empty(BaseModel):
    """Nothing to say."""


@operation("billing.credits.balance", effect="read", scope="billing:read", raw=True, example={})
async def credits_balance(ctx: Context, given: _Empty) -> Balance:  # noqa: ARG001
    """Returns your organization's spendable and reserved credits."""
    row = await wallets.wallet_of(ctx.conn, ctx.organization_id)
    if row is None:
        raise NotFound("organization")
    balance = Balance(
        organization_id=row["organization_id"],
        balance=row["balance"],
        reserved=row["reserved"],
        total=row["balance"] + row["reserved"],
        balance_aud=aud(row["balance"]),
        currency="AUD",
        billing_mode=row["billing_mode"],
        as_of=ctx.now,
    )
    if row["billing_mode"] != "enterprise":
        return balance
    accrued = await owed_credits(ctx.conn, ctx.organization_id) if row["has_commitments"] else row["accrued"]
    return {**balance, "accrued_credits": accrued}


class TransactionsInput(BaseModel):
    """Which page, and the reasons to show: one word, or several with commas."""

    limit: int = Field(50, ge=1)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)
    reason: str | None = None


@operation(
    "billing.credits.transactions",
    effect="read",
    scope="billing:read",
    raw=True,
    snapshot=True,
    example={"limit": 20, "reason": "reserve,settle,release"},
)
async def credits_transactions(ctx: Context, given: TransactionsInput) -> Transactions:
    """Lists the movements of your organization's credits, newest first."""
    reasons = _reasons(given.reason)
    limit = clamped(given.limit)
    rows = await reading.newest_entries(ctx.conn, ctx.organization_id, reasons=reasons, limit=limit, offset=given.offset)
    return Transactions(
        transactions=[as_ledger_entry(row) for row in rows],
        total=await reading.count_entries(ctx.conn, ctx.organization_id, reasons),
        limit=limit,
        offset=given.offset,
        balance=(await reading.balance_of(ctx.conn, ctx.organization_id))["balance"],
    )


def _reasons(text: str | None) -> list[str]:
    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    for word in words:
        if word not in reading.REASONS:
            known = ", ".join(reading.REASONS)
            raise InvalidInput(
                f"There is no reason {word!r}. Use some of: {known}.", loc=("reason",), code="unknown_field_value"
            )
    return words


@operation("billing.plans.list", effect="read", scope="billing:read", raw=True, public=True, example={})
async def plans_list(ctx: Context, given: _Empty) -> Plans:  # noqa: ARG001
    """Lists the plans of this deployment, cheapest first, those by contract last."""
    rows = await plans.plans(ctx.conn)
    return Plans(plans=[as_plan(row) for row in rows], currency="AUD", credits_per_aud=CREDITS_PER_AUD)
