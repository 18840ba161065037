"""From charges to the shapes that are sent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from typing_extensions import TypedDict

from geopera_server.domains.pricing.rules import aud

STATUS_OF_STATE = {
    "created": "pending",
    "confirming": "pending",
    "requires_action": "requires_action",
    "succeeded": "succeeded",
    "failed": "failed",
    "canceled": "canceled",
}


class Topup(TypedDict):
    """One purchase of credits; `amount_aud` includes the tax that `tax_aud` names."""

    id: str
    kind: str
    credits: int
    amount_aud: float
    tax_aud: float
    status: str
    payment_intent_id: str | None
    receipt_url: str | None
    created_at: datetime
    failure_code: str | None


def as_topup(row: Mapping[str, Any]) -> Topup:
    """Returns a charge as its organization sees it; the secret of a confirmation is no part of it."""
    return Topup(
        id=row["id"],
        kind=row["kind"],
        credits=row["credits"],
        amount_aud=aud(row["credits"]),
        tax_aud=aud(row["tax_credits"]),
        status=STATUS_OF_STATE[row["state"]],
        payment_intent_id=row["intent_id"],
        receipt_url=row["receipt_url"],
        created_at=row["created_at"],
        failure_code=row["failure_code"],
    )
