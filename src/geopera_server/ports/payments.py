"""What is needed of a card processor. Card numbers never come here, only the processor's own references.

A charge is an intent that is made first and confirmed after: only confirming moves money, and by then the intent's id is kept
in our rows, so that whatever is lost on the way can be asked after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

IntentStatus = Literal["requires_confirmation", "requires_action", "processing", "succeeded", "failed", "canceled"]
Environment = Literal["test", "demo", "prod"]


class ProcessorError(Exception):
    """The processor refuses or cannot be understood; `code` is its own word for why, as far as it gave one."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class ProcessorUnreachable(ProcessorError):
    """No answer came, or none that makes sense: whether the request was carried out is not known."""


class NoProcessor(ProcessorError):
    """There is no processor: the deployment takes no cards."""


class NoSuchObject(ProcessorError):
    """The processor does not know the customer, card or intent."""


class CardRefused(ProcessorError):
    """The bank does not let the card be saved, or its holder has not consented."""


class NoticeRefused(Exception):
    """A notice that is not signed by the processor, is too old, or is no notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A saved card as its processor describes it; `customer_id` is None while it is attached to nobody."""

    id: str
    brand: str
    last4: str
    exp_month: int
    exp_year: int
    holder_name: str | None
    customer_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Consent to charge a card later, waiting for the card holder."""

    id: str
    client_secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One charge. Amounts are in cents of `currency`; a refused card is `failed`, with the processor's words for why."""

    id: str
    status: IntentStatus
    amount_cents: int
    currency: str
    client_secret: str | None
    metadata: Mapping[str, str]
    decline_code: str | None = None
    failure_message: str | None = None
    receipt_url: str | None = None
    reversed_cents: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What the processor says happened; the intent's present state is asked for, never taken from here."""

    id: str
    type: str
    intent_id: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorInvoice:
    """An invoice that the processor keeps for a customer."""

    id: str
    number: str | None
    status: str
    amount_due_cents: int
    amount_paid_cents: int
    currency: str
    created_at: datetime
    hosted_invoice_url: str | None
    pdf_url: str | None


class Cards(Protocol):
    """Customers and their saved cards. All raise ProcessorError, ProcessorUnreachable; those with an id NoSuchObject."""

    async def create_customer(self, *, organization_id: str, name: str, email: str | None, key: str) -> str:
        """Returns the id of a new customer; the same key makes one customer."""
        ...

    async def create_setup(self, customer_id: str, *, key: str) -> Setup:
        """Asks for consent to charge a card of this customer later."""
        ...

    async def card(self, method_id: str) -> Card:
        """Returns a card as it is now."""
        ...

    async def attach(self, method_id: str, customer_id: str) -> Card:
        """Saves a card with a customer; one that is saved there already stays."""
        ...

    async def detach(self, method_id: str) -> None:
        """Forgets a card; one that is forgotten already stays so."""
        ...

    async def invoices(self, customer_id: str, *, limit: int) -> list[ProcessorInvoice]:
        """Returns the customer's invoices, newest first."""
        ...


class Charges(Protocol):
    """Off-session charges. A refused card is an Intent with status failed, not an error."""

    async def create(
        self, *, customer_id: str, method_id: str, amount_cents: int, metadata: Mapping[str, str], key: str
    ) -> Intent:
        """Makes an intent in AUD that moves no money yet; the same key makes one intent."""
        ...

    async def confirm(self, intent_id: str, *, key: str) -> Intent:
        """Charges the card."""
        ...

    async def intent(self, intent_id: str) -> Intent:
        """Returns an intent as it is now."""
        ...

    async def cancel(self, intent_id: str) -> Intent:
        """Ends an intent that has not succeeded; one that is over is returned as it is."""
        ...


class Notices(Protocol):
    """Reads what the processor sends unasked."""

    def read(self, body: bytes, signature: str | None, at: datetime) -> Notice:
        """Returns a notice after checking its signature and age; raises NoticeRefused."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """The chosen card processor; `timeout_s` bounds every single request to it."""

    name: str
    env: Environment
    cards: Cards
    charges: Charges
    notices: Notices
    timeout_s: float
