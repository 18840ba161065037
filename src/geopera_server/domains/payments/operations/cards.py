"""Saved cards: consent to charge one, and saving, listing, choosing and forgetting it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import TypedDict

from geopera_server.db.pool import Row
from geopera_server.domains.identity.access import require_org_billing
from geopera_server.domains.payments.cards import PaymentMethod, as_payment_method, is_expired
from geopera_server.domains.payments.cards.jobs import FORGET_CARD
from geopera_server.domains.payments.saving import Payer, asked_of_processor, payer_of, require_room, saved_at_processor
from geopera_server.domains.payments.store import cards as store
from geopera_server.domains.payments.store.topups import lock_account
from geopera_server.kernel.context import Context, Outside
from geopera_server.kernel.errors import Conflict, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.ports.payments import Card, Setup
from geopera_server.values.ids import is_id, new_id

_CARD_NUMBER = re.compile(r"(?<![0-9A-Za-z])(?:[0-9][ _-]?){12,18}[0-9](?![0-9A-Za-z])")
_ROW = "0192d3c4-0000-7000-8000-000000000000"


def _refuse_card_numbers(given: Any) -> Any:
    """Refuses input that holds what looks like a card number, before anything of it is kept as a digest or told."""
    if isinstance(given, dict):
        for value in given.values():
            if isinstance(value, (str, int)) and not is_id(str(value)) and _CARD_NUMBER.search(str(value)):
                raise ValueError("never send card numbers here: collect the card with the card processor and send its pm_ id")
    return given


class SetupIntentInput(BaseModel):
    """Nothing to say."""


class SetupIntentOutput(BaseModel):
    """What the card processor's form needs to collect a card and its holder's consent."""

    client_secret: str
    setup_intent_id: str
    customer_id: str
    env: str


class AttachInput(BaseModel):
    """The processor's id of a card that its form has collected."""

    payment_method_id: str = Field(min_length=4, max_length=255, pattern=r"^(cst|pm)_[A-Za-z0-9_]+$")

    _no_card_numbers = model_validator(mode="before")(_refuse_card_numbers)


class PaymentMethodOutput(BaseModel):
    """A saved card; see PaymentMethod for the other keys."""

    model_config = ConfigDict(extra="allow")

    id: str | None = None
    isDefault: bool = False  # noqa: N815


class SetDefaultInput(BaseModel):
    """A saved card, by the id that payment_methods.list gives."""

    payment_method_row_id: str


class DetachInput(BaseModel):
    """A saved card, by the id that payment_methods.list gives."""

    payment_method_row_id: str


class DetachOutput(BaseModel):
    """The card is forgotten."""

    ok: bool = True


class _Empty(BaseModel):
    """Nothing to say."""


class PaymentMethods(TypedDict):
    """An organization's cards, the default first."""

    paymentMethods: list[PaymentMethod]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """A setup intent, for whom, and whether its cards are real."""

    payer: Payer
    setup: Setup
    env: str


async def ask_for_consent(outside: Outside, given: SetupIntentInput) -> Consent:  # noqa: ARG001
    require_org_billing(outside.principal)
    payer, processor = await payer_of(outside), outside.ports.processor
    with asked_of_processor():
        setup = await processor.cards.create_setup(payer.customer_id, key=f"geopera-setup-{outside.invocation_id}")
    return Consent(payer=payer, setup=setup, env=processor.env)


@operation(
    "payment_methods.create_setup_intent",
    effect="compute",
    scope="billing:write",
    prepare=ask_for_consent,
    while_suspended=True,
    while_past_due=True,
    example={},
)
async def create_setup_intent(ctx: Context, given: SetupIntentInput, consent: Consent) -> SetupIntentOutput:  # noqa: ARG001
    """Begins saving a card: hand the client secret to the card processor's form, then attach what it returns."""
    await _keep(ctx, consent.payer)
    return SetupIntentOutput(
        client_secret=consent.setup.client_secret,
        setup_intent_id=consent.setup.id,
        customer_id=consent.payer.customer_id,
        env=consent.env,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A card as the processor keeps it for the payer; no card when we keep it already."""

    payer: Payer
    method_id: str
    card: Card | None


async def save_at_processor(outside: Outside, given: AttachInput) -> Saved:
    require_org_billing(outside.principal)
    payer = await payer_of(outside)
    async with outside.connection() as conn:
        row = await store.live_by_method(conn, payer.processor, given.payment_method_id)
    if row is not None and row["organization_id"] == payer.organization_id:
        return Saved(payer=payer, method_id=row["method_id"], card=None)
    card = await saved_at_processor(outside, payer, given.payment_method_id)
    return Saved(payer=payer, method_id=card.id, card=card)


@operation(
    "payment_methods.attach",
    effect="compute",
    scope="billing:write",
    prepare=save_at_processor,
    idempotent=True,
    while_suspended=True,
    while_past_due=True,
    example={"payment_method_id": "pm_card_visa"},
)
async def attach(ctx: Context, given: AttachInput, saved: Saved) -> PaymentMethodOutput:  # noqa: ARG001
    """Saves a card for charges without its holder; the first becomes the default. A card that is saved already stays."""
    await lock_account(ctx.conn, ctx.organization_id)
    await _keep(ctx, saved.payer)
    row = await store.live_by_method(ctx.conn, saved.payer.processor, saved.method_id)
    if row is not None and row["organization_id"] != ctx.organization_id:
        raise Conflict("This card is saved by another organization. Set up a card of your own.")
    if row is None:
        row = await _insert(ctx, saved)
    ctx.touch("payment_method", row["id"])
    return _output(ctx, row)


async def _insert(ctx: Context, saved: Saved) -> Row:
    if saved.card is None:
        raise _changed_meanwhile()
    require_room(await store.count_live(ctx.conn, ctx.organization_id))
    row = await store.insert(ctx.conn, ctx.organization_id, saved.payer.processor, saved.card, row_id=new_id(), at=ctx.now)
    default = await store.default_of(ctx.conn, ctx.organization_id)
    # A card of a processor that the deployment has left can be charged no more.
    if default is None or default["processor"] != saved.payer.processor:
        row = await store.set_default(ctx.conn, ctx.organization_id, row["id"])
    return row


async def _keep(ctx: Context, payer: Payer) -> None:
    if not await store.keep_customer(ctx.conn, ctx.organization_id, payer.processor, payer.customer_id, at=ctx.now):
        raise _changed_meanwhile()


def _changed_meanwhile() -> Conflict:
    return Conflict("Your cards have just been changed by another call. Send the same request again.", code="resource_busy")


@operation("payment_methods.list", effect="read", scope="billing:read", raw=True, example={})
async def list_cards(ctx: Context, given: _Empty) -> PaymentMethods:  # noqa: ARG001
    """Lists your organization's saved cards, the default first, then the newest."""
    rows = await store.live_of(ctx.conn, ctx.organization_id)
    return PaymentMethods(paymentMethods=[as_payment_method(row, ctx.now) for row in rows], total=len(rows))


@operation(
    "payment_methods.set_default",
    effect="compute",
    scope="billing:write",
    while_suspended=True,
    while_past_due=True,
    example={"payment_method_row_id": _ROW},
)
async def set_default(ctx: Context, given: SetDefaultInput) -> PaymentMethodOutput:
    """Chooses the card that is charged where none is named."""
    require_org_billing(ctx.principal)
    row = await _own(ctx, given.payment_method_row_id)
    if is_expired(row["exp_month"], row["exp_year"], ctx.now):
        raise Conflict("This card has expired. Save its successor and make that the default.", code="illegal_state")
    return _output(ctx, await store.set_default(ctx.conn, ctx.organization_id, row["id"]))


@operation(
    "payment_methods.detach",
    effect="destructive",
    scope="billing:write",
    while_suspended=True,
    while_past_due=True,
    example={"payment_method_row_id": _ROW},
)
async def detach(ctx: Context, given: DetachInput) -> DetachOutput:
    """Forgets a card: it is never charged again, and is then detached at the card processor too.

    The last card stays while automatic top-up is on or money is owed. A default's place is taken by the newest that remains.
    """
    require_org_billing(ctx.principal)
    row = await _own(ctx, given.payment_method_row_id)
    if await store.count_live(ctx.conn, ctx.organization_id) == 1:
        await _require_not_needed(ctx)
    await store.set_detached(ctx.conn, ctx.organization_id, row["id"], at=ctx.now)
    ctx.enqueue(FORGET_CARD, row["id"])
    return DetachOutput()


async def _require_not_needed(ctx: Context) -> None:
    needs = await store.needs_card(ctx.conn, ctx.organization_id)
    if needs["owes"]:
        raise Conflict("This is your last card, and money is owed. Pay what is open, then detach it.", code="illegal_state")
    if needs["auto_topup"]:
        raise Conflict(
            "This is your last card, and automatic top-up charges it. Switch that off with billing.set_auto_topup first.",
            code="illegal_state",
        )


async def _own(ctx: Context, row_id: str) -> Row:
    """Returns one of the caller's cards, nobody else changing them meanwhile."""
    await lock_account(ctx.conn, ctx.organization_id)
    row = await store.live_by_id(ctx.conn, ctx.organization_id, row_id) if is_id(row_id) else None
    if row is None:
        raise NotFound("payment method")
    ctx.touch("payment_method", row["id"])
    return row


def _output(ctx: Context, row: Row) -> PaymentMethodOutput:
    return PaymentMethodOutput.model_validate(as_payment_method(row, ctx.now))
