"""Notices signed as Stripe signs its own: `t=<seconds>,v1=<HMAC-SHA256 of "t.body" in hex>`, several v1 while secrets roll."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from geopera_server.ports.payments import Notice, NoticeRefused

REPLAY_WINDOW_S = 300


def signature_of(body: bytes, secret: bytes, at: datetime) -> str:
    """Returns the header that proves who sent a body, and when."""
    seconds = int(at.timestamp())
    return f"t={seconds},v1={_digest(secret, seconds, body)}"


class SignedNotices:
    """Reads notices whose signature is good and not older, nor more in the future, than five minutes."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def read(self, body: bytes, signature: str | None, at: datetime) -> Notice:
        """Returns the notice; raises NoticeRefused for a bad or old signature and for what is no notice."""
        seconds, given = _parts(signature or "")
        expected = _digest(self._secret, seconds, body)
        # Every candidate is compared, so that the time taken tells nothing.
        matches = [hmac.compare_digest(expected.encode(), one.encode()) for one in given]
        if not any(matches):
            raise NoticeRefused("The signature does not belong to this body. Check that the webhook secret is this endpoint's.")
        if abs(at.timestamp() - seconds) > REPLAY_WINDOW_S:
            raise NoticeRefused("The notice is older than five minutes. Check the clocks, then have it delivered again.")
        return _notice(body)


def _digest(secret: bytes, seconds: int, body: bytes) -> str:
    return hmac.new(secret, str(seconds).encode() + b"." + body, hashlib.sha256).hexdigest()


def _parts(header: str) -> tuple[int, list[str]]:
    pairs = [pair.strip().partition("=") for pair in header.split(",")]
    times = [value for name, _, value in pairs if name == "t"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit() and len(times[0]) <= 12):
        raise NoticeRefused("The Stripe-Signature header is missing or has not the form t=…,v1=….")
    return int(times[0]), [value for name, _, value in pairs if name == "v1"]


def _notice(body: bytes) -> Notice:
    try:
        event = orjson.loads(body)
        told = event["data"]["object"]
        event_id, event_type, intent_id = event["id"], event["type"], _intent_id(told)
        created_at = datetime.fromtimestamp(event["created"], UTC)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, OverflowError, AttributeError, OSError) as error:
        raise NoticeRefused("The body is no event of the processor.") from error
    if not (_is_name(event_id) and _is_name(event_type) and (intent_id is None or _is_name(intent_id))):
        raise NoticeRefused("The body is no event of the processor.")
    return Notice(id=event_id, type=event_type, intent_id=intent_id, created_at=created_at)


def _intent_id(told: Mapping[str, Any]) -> str | None:
    """Returns the intent that an object is, or belongs to as a charge, refund or dispute does."""
    found = told.get("id") if told.get("object") == "payment_intent" else told.get("payment_intent")
    if isinstance(found, Mapping):
        found = found.get("id")
    return found


def _is_name(value: object) -> bool:
    # What reaches the database as text holds no NUL, and no real id comes near this length.
    return isinstance(value, str) and 0 < len(value) <= 255 and value.isprintable()
