"""What callers are told about charges that have not succeeded."""

from __future__ import annotations

from datetime import timedelta

from geopera_server.db.pool import Row
from geopera_server.domains.pricing.rules import aud
from geopera_server.kernel.errors import Conflict, OperationError, PaymentRequired, Unavailable
from geopera_server.ports.payments import NoSuchObject, ProcessorError


def refusal_of(row: Row) -> OperationError:
    """Returns what a caller is told about a charge that has not succeeded."""
    if row["state"] == "requires_action":
        return PaymentRequired(
            f"Your bank wants the card holder to confirm this payment of A${aud(row['credits']):.2f}. Complete it with"
            " client_secret, then send the same request with the same Idempotency-Key; without one, the payment arrives as"
            " credits once it is confirmed.",
            code="payment_authentication_required",
            client_secret=row["client_secret"],
            payment_intent_id=row["intent_id"],
        )
    if row["state"] == "confirming":
        return no_answer()
    if row["state"] == "canceled":
        return PaymentRequired(
            "The payment was cancelled before it was made. Send the same request again to begin a new one.",
            code="card_declined",
            decline_code=row["failure_code"] or "canceled",
        )
    return PaymentRequired(
        f"The card was declined ({row['failure_code']}). Use another card, or ask your bank, then try again.",
        code="card_declined",
        decline_code=row["failure_code"],
    )


def no_card(processor: str) -> PaymentRequired:
    """Returns what a caller is told who has no card that could be charged."""
    if processor == "none":
        text = "This deployment takes no cards. Ask its operator for credits."
    else:
        text = "There is no card to charge. Save one with payment_methods.create_setup_intent and payment_methods.attach."
    return PaymentRequired(text, code="no_payment_method")


def in_progress(remaining: timedelta) -> Conflict:
    """Returns what a caller is told while another call is at work on the charge."""
    return Conflict(
        "This payment is being made by another call. Repeat the request shortly to get its outcome.",
        code="idempotency_in_progress",
        retry_after_s=max(1, round(remaining.total_seconds())),
    )


def no_answer() -> Unavailable:
    """Returns what a caller is told about a charge whose end is not known."""
    return Unavailable(
        "The card processor has not said whether the payment was made. Send the same request again with the same"
        " Idempotency-Key: it is charged once at most, and what was paid arrives as credits.",
        code="upstream_timeout",
        retry_after_s=15,
    )


def unusable(error: ProcessorError) -> OperationError:
    """Returns what a caller is told about a charge that the processor does not make."""
    if isinstance(error, NoSuchObject):
        return PaymentRequired(
            "The card processor does not know this card any more. Save it again with payment_methods.attach.",
            code="card_declined",
            decline_code="no_such_card",
        )
    return Unavailable(
        "The card processor refuses the payment. Nothing was charged; try again later, or write to your operator.",
        code="upstream_error",
    )


def elsewhere(row: Row) -> Unavailable:
    """Returns what a caller is told about a charge that was begun at a processor which the deployment has left."""
    return Unavailable(
        f"This payment was begun at the card processor {row['processor']!r}, which is not in use any more. Write to your"
        " operator, or begin a new payment with a new Idempotency-Key.",
        code="upstream_error",
    )
