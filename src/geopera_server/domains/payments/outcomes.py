"""Keeping what became of a charge, whoever found out."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.payments.presenting import as_topup
from geopera_server.domains.payments.store import topups
from geopera_server.kernel.context import Event
from geopera_server.kernel.outbox import write_event
from geopera_server.ports.payments import Intent, ProcessorError
from geopera_server.values.clock import now

CURRENCY = "aud"
LOOK_AGAIN = timedelta(minutes=5)
GRANTED_WITHIN = timedelta(seconds=10)


def _outcome(
    state: str,
    *,
    at: datetime,
    client_secret: str | None = None,
    failure_code: str | None = None,
    message: str | None = None,
    receipt_url: str | None = None,
    look_after: datetime | None = None,
) -> dict[str, Any]:
    return {
        "state": state,
        "client_secret": client_secret,
        "failure_code": failure_code,
        "failure_message": message,
        "receipt_url": receipt_url,
        "look_after": look_after or at,
        "at": at,
    }


_STATE_OF_STATUS = {
    "requires_confirmation": "confirming",
    "processing": "confirming",
    "requires_action": "requires_action",
    "succeeded": "succeeded",
    "failed": "failed",
    "canceled": "canceled",
}
_OVER = frozenset({"failed", "canceled"})


async def record(
    conn: Connection, topup_id: str, intent: Intent, *, invocation_id: str, unclear_for: timedelta = LOOK_AGAIN
) -> Row:
    """Writes what the processor says of a charge and returns its row, locked; what is over stays, but for a late success.

    One that is neither over nor waits for its card holder is looked at again after `unclear_for`. Raises ProcessorError for an
    intent that is not the charge's own.
    """
    row = await topups.of_id(conn, topup_id, lock=True)
    assert row is not None
    _require_own(row, intent)
    if row["state"] == "succeeded" or (row["state"] in _OVER and intent.status != "succeeded"):
        return row
    at = now()
    state = _STATE_OF_STATUS[intent.status]
    row = await topups.set_outcome(
        conn,
        topup_id,
        _outcome(
            state,
            at=at,
            client_secret=intent.client_secret,
            failure_code=intent.decline_code or ("card_declined" if state == "failed" else None),
            message=intent.failure_message,
            receipt_url=intent.receipt_url,
            look_after=at + {"succeeded": GRANTED_WITHIN, "confirming": unclear_for}.get(state, LOOK_AGAIN),
        ),
    )
    if state in {"requires_action", "succeeded"}:
        await topups.mark_method(conn, row["payment_method_id"], requires_action=state == "requires_action")
    if state in {"failed", "canceled"}:
        await _tell_of_failure(conn, row, invocation_id)
    return row


async def give_up(conn: Connection, row: Row, *, invocation_id: str) -> Row:
    """Ends a charge that was begun and has no intent, so that no money can have moved."""
    row = await topups.set_outcome(
        conn, row["id"], _outcome("canceled", at=now(), failure_code="abandoned", message="The call that began it ended.")
    )
    await _tell_of_failure(conn, row, invocation_id)
    return row


async def fail(conn: Connection, row: Row, error: ProcessorError, *, invocation_id: str) -> None:
    """Ends a charge that the processor would not even begin."""
    row = await topups.set_outcome(
        conn, row["id"], _outcome("failed", at=now(), failure_code=error.code or "processor_error", message=str(error))
    )
    await _tell_of_failure(conn, row, invocation_id)


def _require_own(row: Row, intent: Intent) -> None:
    said = (intent.id, intent.amount_cents, intent.currency.lower(), intent.metadata.get("topup_id"))
    if said != (row["intent_id"], row["credits"], CURRENCY, row["id"]):
        raise ProcessorError(f"the intent {intent.id} is not the one that was made for charge {row['id']}")


async def _tell_of_failure(conn: Connection, row: Row, invocation_id: str) -> None:
    event = Event(type="topup.failed", entity_type="topup", entity_id=row["id"], data=as_topup(row))
    await write_event(conn, event, organization_id=row["organization_id"], invocation_id=invocation_id, at=row["updated_at"])
