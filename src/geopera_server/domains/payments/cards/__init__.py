"""An organization's saved cards, as the rest of the house asks after them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from typing_extensions import TypedDict

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.payments.store import cards as store

CardStatus = Literal["active", "expired", "requires_action"]


class PaymentMethod(TypedDict):
    """A saved card; `requires_action` when its last charge asked for the card holder."""

    id: str
    isDefault: bool
    type: Literal["card"]
    brand: str
    last4: str
    expMonth: int
    expYear: int
    holderName: str | None
    provider: str
    status: CardStatus
    createdAt: datetime


async def has_default_card(conn: Connection, organization_id: str) -> bool:
    """Says whether there is a card that is charged where none is named."""
    return await store.default_of(conn, organization_id) is not None


async def default_card(conn: Connection, organization_id: str) -> Row | None:
    """Returns the card that is charged where none is named, as its row of payment_method."""
    return await store.default_of(conn, organization_id)


async def customer_of(conn: Connection, organization_id: str, processor_name: str) -> str | None:
    """Returns who an organization is at a processor; None before its first card."""
    return await store.customer_of(conn, organization_id, processor_name)


def as_payment_method(row: Mapping[str, Any], at: datetime) -> PaymentMethod:
    """Returns a row of payment_method as its organization sees it."""
    return PaymentMethod(
        id=row["id"],
        isDefault=row["is_default"],
        type="card",
        brand=row["brand"],
        last4=row["last4"],
        expMonth=row["exp_month"],
        expYear=row["exp_year"],
        holderName=row["holder_name"],
        provider=row["processor"],
        status=status_of(row, at),
        createdAt=row["created_at"],
    )


def status_of(row: Mapping[str, Any], at: datetime) -> CardStatus:
    """Returns how a card stands; it is good to the end of its month, in UTC."""
    if is_expired(row["exp_month"], row["exp_year"], at):
        return "expired"
    return "requires_action" if row["requires_action"] else "active"


def is_expired(exp_month: int, exp_year: int, at: datetime) -> bool:
    """Says whether the month that is printed on a card is over."""
    today = at.astimezone(UTC)
    return (exp_year, exp_month) < (today.year, today.month)
