"""The free tier's credits: once at approval, and once for each month."""

from __future__ import annotations

from dataclasses import dataclass

from geopera_server.db.pool import Row
from geopera_server.domains.billing.standing import collect_if_owing
from geopera_server.domains.billing.store import wallets
from geopera_server.domains.payments.low_balance import notice_credit
from geopera_server.domains.payments.terms import terms
from geopera_server.kernel.context import Context
from geopera_server.ledger import postings
from geopera_server.values.ids import is_id
from geopera_server.values.periods import month_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """Credits given in this call."""

    signup: int = 0
    monthly: int = 0

    @property
    def total(self) -> int:
        return self.signup + self.monthly


def is_free(organization: Row) -> bool:
    """Says whether the free tier is for this organization: a plan without price, paid in advance."""
    by_plan = organization["self_service"] and organization["price_credits_monthly"] == 0
    return bool(by_plan) and organization["billing_mode"] == "prepaid"


async def grant(ctx: Context, organization_id: str, *, actor_id: str | None = None) -> Granted:
    """Gives what an approved organization has not had yet; the account must be locked. What was given is never given again.

    `actor_id` is the human on whose word a service acts.
    """
    agreed, period = await terms(ctx.conn), str(month_of(ctx.now))
    given = {}
    for reason, reference, amount in (
        ("signup_grant", organization_id, agreed["signup_grant_credits"]),
        ("monthly_grant", f"{organization_id}:{period}", agreed["monthly_grant_credits"]),
    ):
        if amount == 0 or await wallets.has_entry(ctx.conn, reason, reference):
            continue
        posting = postings.Posting(reason=reason, credits=amount, external_ref=reference)
        await notice_credit(ctx, await postings.post(ctx.conn, _cause(ctx, organization_id, actor_id), posting))
        given[reason] = amount
    if given:
        await collect_if_owing(ctx, organization_id)
    return Granted(signup=given.get("signup_grant", 0), monthly=given.get("monthly_grant", 0))


def _cause(ctx: Context, organization_id: str, actor_id: str | None) -> postings.Cause:
    principal_id = actor_id if ctx.principal.kind == "service" else ctx.principal.id
    return postings.Cause(
        organization_id=organization_id,
        invocation_id=ctx.invocation_id,
        at=ctx.now,
        principal_id=principal_id if principal_id is not None and is_id(principal_id) else None,
        api_key_id=ctx.principal.api_key_id,
        note="Free tier",
    )
