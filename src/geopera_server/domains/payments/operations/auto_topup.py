"""Setting and reading how an organization tops up by itself."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from geopera_server.domains.identity.access import require_org_billing
from geopera_server.domains.payments.auto_topup import AUTO_TOPUP, day_start
from geopera_server.domains.payments.cards import PaymentMethod, as_payment_method, default_card, has_default_card
from geopera_server.domains.payments.funding import approval_threshold
from geopera_server.domains.payments.operations.topup import MAX_CHARGE_CREDITS, AmountAud
from geopera_server.domains.payments.store import topups, wallets
from geopera_server.domains.payments.terms import terms
from geopera_server.domains.pricing.rules import CREDITS_PER_AUD, aud
from geopera_server.kernel import jobs
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Denied, InvalidInput, PaymentRequired
from geopera_server.kernel.operation import operation
from geopera_server.ledger.reading import balance_of

MAX_THRESHOLD = 10**12


class SetAutoTopupInput(BaseModel):
    """When to top up, by how much, and how much a day at most; without a cap the deployment's own holds."""

    enabled: bool
    threshold_credits: int = Field(gt=0, le=MAX_THRESHOLD, strict=True)
    topup_amount_credits: int = Field(gt=0, le=MAX_CHARGE_CREDITS, strict=True)
    daily_charge_cap_aud: AmountAud | None = None

    def cap_credits(self) -> int | None:
        """Returns the cap in credits; a credit is a cent."""
        return None if self.daily_charge_cap_aud is None else int(self.daily_charge_cap_aud * CREDITS_PER_AUD)


class SetAutoTopupOutput(BaseModel):
    """What is set now."""

    enabled: bool
    threshold_credits: int
    topup_amount_credits: int


@operation(
    "billing.set_auto_topup",
    effect="compute",
    scope="billing:write",
    while_suspended=True,
    example={"enabled": True, "threshold_credits": 5_000, "topup_amount_credits": 20_000, "daily_charge_cap_aud": 500},
)
async def set_auto_topup(ctx: Context, given: SetAutoTopupInput) -> SetAutoTopupOutput:
    """Sets whether your organization buys credits by itself when its balance falls under a threshold.

    The default card is charged whole multiples of the amount, within the cap per UTC day. Setting it again begins anew after
    refused charges.
    """
    require_org_billing(ctx.principal)
    numbers = await terms(ctx.conn)
    _check_amounts(given, numbers)
    await _check_rights(ctx, given, numbers)
    if given.enabled and not await has_default_card(ctx.conn, ctx.organization_id):
        raise PaymentRequired(
            "There is no card to charge. Save one with payment_methods.create_setup_intent and payment_methods.attach, then"
            " turn this on.",
            code="no_payment_method",
        )
    # A debit at the same moment either comes first and is in the balance, or comes after and finds this set.
    await topups.lock_account(ctx.conn, ctx.organization_id)
    await wallets.set_auto_topup(
        ctx.conn,
        ctx.organization_id,
        {
            "enabled": given.enabled,
            "threshold_credits": given.threshold_credits,
            "amount_credits": given.topup_amount_credits,
            "cap_credits": given.cap_credits(),
        },
    )
    balance = (await balance_of(ctx.conn, ctx.organization_id))["balance"]
    if given.enabled and balance < given.threshold_credits:
        await jobs.hasten(ctx.conn, AUTO_TOPUP, ctx.organization_id)
        ctx.enqueue(AUTO_TOPUP, ctx.organization_id)
    return SetAutoTopupOutput(
        enabled=given.enabled,
        threshold_credits=given.threshold_credits,
        topup_amount_credits=given.topup_amount_credits,
    )


async def _check_rights(ctx: Context, given: SetAutoTopupInput, numbers: dict[str, Any]) -> None:
    """Lets nobody have charged by itself what they could not charge at once, and no key raise what a day may cost."""
    platform_cap = int(numbers["auto_topup_daily_cap_credits"])
    if ctx.principal.kind != "user" and (given.cap_credits() or 0) > platform_cap:
        raise Denied(
            f"Only people set a cap above A${aud(platform_cap):.2f} a day. Ask an owner, admin or billing member.",
            code="human_required",
        )
    threshold = await approval_threshold(ctx.conn, ctx.organization_id, numbers)
    if given.enabled and given.topup_amount_credits > threshold:
        raise PaymentRequired(
            f"More than {threshold:,} credits at once need an approval each time. Choose a smaller topup_amount_credits.",
            code="approval_required",
            threshold_credits=threshold,
        )


def _check_amounts(given: SetAutoTopupInput, numbers: dict[str, Any]) -> None:
    amount, smallest = given.topup_amount_credits, numbers["minimum_topup_credits"]
    if amount < smallest:
        raise InvalidInput(
            f"The smallest top-up is {smallest:,} credits (A${aud(smallest):.2f}).", loc=("topup_amount_credits",)
        )
    own = given.cap_credits()
    cap = numbers["auto_topup_daily_cap_credits"] if own is None else own
    if cap < amount:
        raise InvalidInput(
            f"One top-up costs A${aud(amount):.2f}, more than the cap of A${aud(cap):.2f} a day. Raise the cap or lower the"
            " amount.",
            loc=("daily_charge_cap_aud",),
        )


class _Empty(BaseModel):
    """Nothing to say."""


class AutoTopup(TypedDict):
    """How an organization tops up by itself, and how the last time went; nulls where it was never set."""

    enabled: bool
    threshold_credits: int | None
    topup_amount_credits: int | None
    daily_charge_cap_aud: float | None
    charged_today_aud: float
    payment_method: PaymentMethod | None
    last_topup_at: datetime | None
    last_error: str | None


@operation("billing.auto_topup.get", effect="read", scope="billing:read", raw=True, snapshot=True, example={})
async def get(ctx: Context, given: _Empty) -> AutoTopup:  # noqa: ARG001
    """Returns how your organization tops up by itself, what it has charged today, and the card it charges."""
    row = await wallets.auto_topup_of(ctx.conn, ctx.organization_id, day_start(ctx.now))
    if row is None:
        return AutoTopup(
            enabled=False,
            threshold_credits=None,
            topup_amount_credits=None,
            daily_charge_cap_aud=None,
            charged_today_aud=0.0,
            payment_method=None,
            last_topup_at=None,
            last_error=None,
        )
    card, cap = await default_card(ctx.conn, ctx.organization_id), row["daily_cap_credits"]
    return AutoTopup(
        enabled=row["auto_topup"],
        threshold_credits=row["threshold_credits"],
        topup_amount_credits=row["topup_amount_credits"],
        daily_charge_cap_aud=None if cap is None else aud(cap),
        charged_today_aud=aud(row["charged_credits"]),
        payment_method=None if card is None else as_payment_method(card, ctx.now),
        last_topup_at=row["last_topup_at"],
        last_error=row["last_error"],
    )
