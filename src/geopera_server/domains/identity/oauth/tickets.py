"""What a sign-in page hands to the next one through the browser: signed, short-lived, and bound to that browser.

The binding is the double-submit guard against cross-site posts: a form counts only together with the cookie it was made for.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timedelta
from typing import Any, Literal

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

LIFETIME = timedelta(minutes=15)
_TYPE = "page+jwt"

Step = Literal["sign-in", "consent"]


class Tickets:
    """Signs and reads the hidden state of pages."""

    def __init__(self, key: bytes) -> None:
        self._key = OctKey.import_key(key)

    def write(self, step: Step, content: dict[str, Any], *, browser: str, at: datetime) -> str:
        """Returns a ticket that only the browser with this cookie can use, and only for this step."""
        claims = {"step": step, "content": content, "browser": _fingerprint(browser), "exp": int((at + LIFETIME).timestamp())}
        return jwt.encode({"alg": "HS256", "typ": _TYPE}, claims, self._key)

    def read(self, step: Step, ticket: str, *, browser: str, at: datetime) -> dict[str, Any] | None:
        """Returns the content of a ticket of ours for this step and browser that has not expired; else None."""
        try:
            read = jwt.decode(ticket, self._key, algorithms=["HS256"])
        except (JoseError, ValueError):
            return None
        claims = read.claims
        if read.header.get("typ") != _TYPE or claims["step"] != step or claims["exp"] <= at.timestamp():
            return None
        if not hmac.compare_digest(claims["browser"], _fingerprint(browser)):
            return None
        content: dict[str, Any] = claims["content"]
        return content


def _fingerprint(browser: str) -> str:
    return hashlib.sha256(browser.encode()).hexdigest()
