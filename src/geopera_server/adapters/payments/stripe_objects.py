"""What Stripe's objects mean to the house. Anything that lacks what it must have raises KeyError, TypeError or ValueError."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from geopera_server.ports.payments import Card, CardRefused, Intent, IntentStatus, ProcessorInvoice, Setup

Object = Mapping[str, Any]

_STATUS: dict[str, IntentStatus] = {
    "requires_confirmation": "requires_confirmation",
    "requires_action": "requires_action",
    "processing": "processing",
    # Never asked for; whoever captures by hand has not finished yet.
    "requires_capture": "processing",
    "succeeded": "succeeded",
    "canceled": "canceled",
}
# In all other states of a dispute Stripe has taken the money back, for the time being or for good.
_MONEY_STAYS = frozenset({"won", "warning_needs_response", "warning_under_review", "warning_closed", "prevented"})


def intent_of(told: Object, disputes: Iterable[Object] = ()) -> Intent:
    """Returns a PaymentIntent; its charge is read when it comes expanded."""
    error = told.get("last_payment_error") or {}
    charge = told.get("latest_charge")
    charge = charge if isinstance(charge, Mapping) else {}
    status = _status(told["status"], error)
    failed = status == "failed"
    return Intent(
        id=_text(told["id"]),
        status=status,
        amount_cents=int(told["amount"]),
        currency=_text(told["currency"]),
        client_secret=told.get("client_secret"),
        metadata=dict(told.get("metadata") or {}),
        decline_code=(error.get("decline_code") or error.get("code")) if failed else None,
        failure_message=error.get("message") if failed else None,
        receipt_url=charge.get("receipt_url"),
        reversed_cents=min(int(told["amount"]), int(charge.get("amount_refunded") or 0) + _disputed(disputes)),
    )


def _status(status: str, error: Object) -> IntentStatus:
    if status != "requires_payment_method":
        return _STATUS[status]
    # Off-session Stripe reports the bank's wish to see the card holder as a refusal; the client secret still lets them confirm.
    return "requires_action" if error.get("code") == "authentication_required" else "failed"


def is_disputed(told: Object) -> bool:
    """Says whether a PaymentIntent's expanded charge was ever disputed."""
    charge = told.get("latest_charge")
    return isinstance(charge, Mapping) and bool(charge.get("disputed"))


def _disputed(disputes: Iterable[Object]) -> int:
    return sum(int(one["amount"]) for one in disputes if one["status"] not in _MONEY_STAYS)


def setup_of(told: Object) -> Setup:
    """Returns a SetupIntent."""
    return Setup(id=_text(told["id"]), client_secret=_text(told["client_secret"]))


def card_of(told: Object) -> Card:
    """Returns a PaymentMethod; raises CardRefused for one that is no card."""
    if told["type"] != "card":
        raise CardRefused(f"This is no card but {told['type']}.", code="payment_method_not_available")
    customer, card = told.get("customer"), told["card"]
    return Card(
        id=_text(told["id"]),
        brand=_text(card["brand"]),
        last4=_text(card["last4"]),
        exp_month=int(card["exp_month"]),
        exp_year=int(card["exp_year"]),
        holder_name=(told.get("billing_details") or {}).get("name"),
        customer_id=customer["id"] if isinstance(customer, Mapping) else customer,
    )


def invoice_of(told: Object) -> ProcessorInvoice:
    """Returns an Invoice."""
    return ProcessorInvoice(
        id=_text(told["id"]),
        number=told.get("number"),
        status=told.get("status") or "draft",
        amount_due_cents=int(told["amount_due"]),
        amount_paid_cents=int(told["amount_paid"]),
        currency=_text(told["currency"]),
        created_at=datetime.fromtimestamp(told["created"], UTC),
        hosted_invoice_url=told.get("hosted_invoice_url"),
        pdf_url=told.get("invoice_pdf"),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
