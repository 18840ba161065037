"""What the processor is asked about cards before a row changes, its answers as the house's refusals."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from geopera_server.domains.payments.store import cards as store
from geopera_server.kernel.context import Outside
from geopera_server.kernel.errors import Conflict, Denied, InvalidInput, NotFound, PaymentRequired, Unavailable
from geopera_server.ports.payments import Card, CardRefused, NoProcessor, NoSuchObject, ProcessorError, ProcessorUnreachable
from geopera_server.values.encoding import canonical

logger = logging.getLogger(__name__)

MAX_CARDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Payer:
    """Who the caller's organization is at which processor."""

    organization_id: str
    processor: str
    customer_id: str


@contextlib.contextmanager
def asked_of_processor() -> Iterator[None]:
    """Turns the processor's failures into Unavailable."""
    try:
        yield
    except ProcessorUnreachable as error:
        logger.warning("the card processor does not answer: %s", error)
        raise Unavailable(
            "The card processor does not answer at the moment. Send the same request again.",
            code="upstream_timeout",
            retry_after_s=5,
        ) from error
    except NoProcessor as error:
        raise Unavailable("This deployment takes no cards. Ask its operator for credits.", code="upstream_error") from error
    except ProcessorError as error:
        logger.warning("the card processor refuses: %s (%s)", error, error.code)
        raise Unavailable(
            "The card processor refuses this deployment's request. Try again later, or write to your operator.",
            code="upstream_error",
        ) from error


async def payer_of(outside: Outside) -> Payer:
    """Returns who the caller's organization is at the processor, made there on first use.

    Whoever asks at the same time gets the same customer, since the key follows from the organization.
    """
    organization_id, processor = outside.principal.organization_id, outside.ports.processor
    if organization_id is None:
        raise Denied("This account belongs to no organization yet. Create one with organizations.create.")
    async with outside.connection() as conn:
        row = await store.payer(conn, organization_id, processor.name)
    if row is None:
        raise NotFound("organization")
    customer_id = row["customer_id"]
    if customer_id is None:
        name, email = row["name"], row["billing_email"]
        # A key stands for one request: an organization that was renamed meanwhile makes another.
        digest = hashlib.sha256(canonical([name, email])).hexdigest()[:16]
        with asked_of_processor():
            customer_id = await processor.cards.create_customer(
                organization_id=organization_id,
                name=name,
                email=email,
                key=f"geopera-customer-{organization_id}-{digest}",
            )
    return Payer(organization_id=organization_id, processor=processor.name, customer_id=customer_id)


async def saved_at_processor(outside: Outside, payer: Payer, method_id: str) -> Card:
    """Returns a card after it is attached to the payer there.

    Raises NotFound, Conflict for somebody else's card, InvalidInput for one that its holder or bank does not let be saved,
    PaymentRequired when there are too many.
    """
    processor = outside.ports.processor
    with asked_of_processor():
        try:
            card = await processor.cards.card(method_id)
            if card.customer_id not in {None, payer.customer_id}:
                raise _somebody_elses()
            async with outside.connection() as conn:
                require_room(await store.count_live(conn, payer.organization_id))
            return card if card.customer_id is not None else await processor.cards.attach(method_id, payer.customer_id)
        except NoSuchObject as error:
            raise NotFound("payment method at the card processor") from error
        except CardRefused as error:
            raise InvalidInput(
                f"The card cannot be saved ({error.code or error}). Confirm its setup intent with the card holder, or use"
                " another card.",
                loc=("payment_method_id",),
            ) from error


def require_room(cards: int) -> None:
    """Raises PaymentRequired when an organization has as many cards as it may."""
    if cards >= MAX_CARDS:
        raise PaymentRequired(
            f"An organization keeps at most {MAX_CARDS} cards. Detach one that is not needed, then attach this one.",
            code="plan_limit_reached",
        )


def _somebody_elses() -> Conflict:
    return Conflict("This card belongs to another customer of the card processor. Set up a card of your own.")
