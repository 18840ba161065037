"""What an operator gives to an organization, and takes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field, field_validator

from geopera_server.domains.billing.presenting import as_ledger_entry
from geopera_server.domains.billing.shapes import LedgerEntry
from geopera_server.domains.billing.standing import collect_if_owing
from geopera_server.domains.billing.store import wallets
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, InvalidInput, NotFound, PaymentRequired
from geopera_server.kernel.operation import operation
from geopera_server.ledger import postings
from geopera_server.values.ids import is_id

MAX_GRANT = 10**12


class GrantCreditsInput(BaseModel):
    """Credits to give to an organization, or to take back with a minus."""

    organization_id: str
    credits: int = Field(ge=-MAX_GRANT, le=MAX_GRANT, strict=True)
    reason: str = Field(min_length=1, max_length=1_000)
    order_id: str | None = None
    force: bool = False

    @field_validator("credits")
    @classmethod
    def _moves_something(cls, credits_given: int) -> int:
        if credits_given == 0:
            raise ValueError("credits must not be 0")
        return credits_given


class GrantCreditsOutput(BaseModel):
    """The movement, and the spendable balance after it."""

    ledger_entry: LedgerEntry
    balance: int


@operation(
    "billing.admin.grant_credits",
    effect="compute",
    scope="admin:write",
    extension=True,
    idempotent=True,
    example={"organization_id": "0192d3c4-0000-7000-8000-000000000000", "credits": 5_000, "reason": "Goodwill"},
)
async def admin_grant_credits(ctx: Context, given: GrantCreditsInput) -> GrantCreditsOutput:
    """Gives credits to an organization, or corrects its balance downwards; an Idempotency-Key is required.

    A correction stops at zero unless `force` is set. The same key grants once, however long ago.
    """
    if not ctx.idempotency_key:
        raise InvalidInput(
            "Send an Idempotency-Key header with a value of your own, so that a repeat grants nothing twice.",
            loc=("Idempotency-Key",),
        )
    if not is_id(given.organization_id) or not await wallets.lock_account(ctx.conn, given.organization_id):
        raise NotFound("organization")
    if given.order_id is not None and not await wallets.order_is_of(ctx.conn, given.organization_id, given.order_id):
        raise NotFound("order")
    ctx.touch("organization", given.organization_id)
    posting = _posting(given, ctx.idempotency_key)
    entry = await wallets.operator_entry_of(ctx.conn, given.organization_id, posting.external_ref)
    if entry is None:
        entry = await postings.post(ctx.conn, _cause(ctx, given), posting)
        _check_debt(entry, given)
        if given.credits > 0:
            await collect_if_owing(ctx, given.organization_id)
    elif (entry["credits"], entry["note"], entry["order_id"]) != (given.credits, given.reason, given.order_id):
        raise Conflict("This Idempotency-Key was used for another grant. Send a new one.", code="idempotency_mismatch")
    return GrantCreditsOutput(ledger_entry=as_ledger_entry(entry), balance=entry["balance_after"])


def _check_debt(entry: Mapping[str, Any], given: GrantCreditsInput) -> None:
    if given.credits < 0 and entry["balance_after"] < 0 and not given.force:
        available = entry["balance_after"] - given.credits
        raise PaymentRequired(
            f"Only {available:,} credits are there to take back. Take back less, or set force to leave the account in debt.",
            available_credits=available,
        )


def _cause(ctx: Context, given: GrantCreditsInput) -> postings.Cause:
    principal_id = ctx.principal.id
    return postings.Cause(
        organization_id=given.organization_id,
        invocation_id=ctx.invocation_id,
        at=ctx.now,
        principal_id=principal_id if principal_id is not None and is_id(principal_id) else None,
        api_key_id=ctx.principal.api_key_id,
        note=given.reason,
    )


def _posting(given: GrantCreditsInput, key: str) -> postings.Posting:
    return postings.Posting(
        reason="operator_grant" if given.credits > 0 else "correction",
        credits=given.credits,
        external_ref=f"{given.organization_id}:{key}",
        order_id=given.order_id,
    )
