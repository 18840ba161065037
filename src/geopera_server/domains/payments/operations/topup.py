"""Buying credits with a saved card."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from geopera_server.domains.identity.access import require_org_billing
from geopera_server.domains.payments import charging
from geopera_server.domains.payments.charging import Purchase
from geopera_server.domains.payments.funding import approval_threshold
from geopera_server.domains.payments.terms import terms
from geopera_server.domains.pricing.rules import CREDITS_PER_AUD, aud
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, InvalidInput, PaymentRequired
from geopera_server.kernel.operation import operation
from geopera_server.ledger.reading import balance_of

# The largest amount in cents that card processors take in one charge.
MAX_CHARGE_CREDITS = 99_999_999
MAX_CHARGE_AUD = Decimal(MAX_CHARGE_CREDITS) / CREDITS_PER_AUD


def _to_the_cent(amount_aud: Decimal) -> Decimal:
    if amount_aud * CREDITS_PER_AUD % 1:
        raise ValueError("amounts go to the cent")
    return amount_aud


AmountAud = Annotated[Decimal, Field(gt=0, le=MAX_CHARGE_AUD, allow_inf_nan=False), AfterValidator(_to_the_cent)]


class TopupInput(BaseModel):
    """How much to buy, in credits or in dollars, and with which card; by default with the default card."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    credits: int | None = Field(None, gt=0, le=MAX_CHARGE_CREDITS, strict=True)
    amount_aud: AmountAud | None = None
    payment_method_row_id: str | None = None
    expected_total_aud: AmountAud | None = None

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        if (self.credits is None) == (self.amount_aud is None):
            raise ValueError("give exactly one of credits and amount_aud")
        return self

    def credits_wanted(self) -> int:
        """Returns the credits to buy; a credit is a cent."""
        return self.credits if self.credits is not None else _in_credits(self.amount_aud)


def _in_credits(amount_aud: Decimal | None) -> int:
    assert amount_aud is not None
    return int(amount_aud * CREDITS_PER_AUD)


class TopupReceipt(TypedDict):
    """What was charged and granted, and the spendable balance as it is now."""

    id: str
    status: str
    credits: int
    amount_aud: float
    currency: str
    payment_intent_id: str
    payment_method_id: str
    balance: int
    ledger_entry_id: str
    receipt_url: str | None
    created_at: datetime


@operation(
    "billing.topup",
    effect="external_spend",
    scope="billing:write",
    status=201,
    free_form=True,
    while_suspended=True,
    while_past_due=True,
    example={"credits": 5_000},
)
async def topup(ctx: Context, given: TopupInput) -> TopupReceipt:
    """Charges a saved card and grants the credits; 100 credits are A$1.

    Send an Idempotency-Key: a repeat after a lost answer, or after a card holder has confirmed the payment, then finds the
    charge that was made and makes no other.
    """
    require_org_billing(ctx.principal)
    wanted = given.credits_wanted()
    await _check(ctx, given, wanted)
    row = await charging.bought(
        ctx,
        Purchase(
            organization_id=ctx.organization_id,
            kind="manual",
            credits=wanted,
            purpose=charging.purpose_of_call(ctx),
            method_row_id=None if given.payment_method_row_id is None else given.payment_method_row_id.lower(),
        ),
    )
    ctx.touch("topup", row["id"])
    return TopupReceipt(
        id=row["id"],
        status="succeeded",
        credits=row["credits"],
        amount_aud=aud(row["credits"]),
        currency="AUD",
        payment_intent_id=row["intent_id"],
        payment_method_id=row["payment_method_id"],
        balance=(await balance_of(ctx.conn, ctx.organization_id))["balance"],
        ledger_entry_id=row["ledger_entry_id"],
        receipt_url=row["receipt_url"],
        created_at=row["created_at"],
    )


async def _check(ctx: Context, given: TopupInput, wanted: int) -> None:
    numbers = await terms(ctx.conn)
    minimum = int(numbers["minimum_topup_credits"])
    if wanted < minimum:
        named = "credits" if given.credits is not None else "amount_aud"
        raise InvalidInput(f"The smallest top-up is {minimum:,} credits (A${aud(minimum):.2f}).", loc=(named,))
    if given.expected_total_aud is not None and _in_credits(given.expected_total_aud) != wanted:
        raise Conflict(
            f"The total is A${aud(wanted):.2f}, not A${given.expected_total_aud:.2f}. Confirm the amount and send it again.",
            code="price_changed",
            total_aud=aud(wanted),
        )
    threshold = await approval_threshold(ctx.conn, ctx.organization_id, numbers)
    if wanted > threshold:
        raise PaymentRequired(
            f"More than {threshold:,} credits at once need an approval. Ask for it with billing.approvals.request.",
            code="approval_required",
            threshold_credits=threshold,
        )
