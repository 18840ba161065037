"""RFC 7636: only the program that began a flow can finish it. S256 alone is taken; `plain` protects against nobody."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping

from geopera_server.domains.identity.oauth.errors import invalid_grant, invalid_request

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


def challenge_of(verifier: str) -> str:
    """Returns the S256 challenge of a verifier (section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).decode().rstrip("=")


def read_challenge(parameters: Mapping[str, str]) -> str | None:
    """Returns the challenge that a request carries, None without one; raises `invalid_request` for any method but S256."""
    challenge = parameters.get("code_challenge")
    if not challenge:
        return None
    if parameters.get("code_challenge_method") != "S256":
        raise invalid_request("code_challenge_method must be S256.")
    if not _CHALLENGE.fullmatch(challenge):
        raise invalid_request("code_challenge must be the 43 characters of a base64url SHA-256.")
    return challenge


def check_verifier(challenge: str, verifier: str | None) -> None:
    """Raises OAuthError `invalid_grant` unless the verifier is the one behind the challenge (section 4.6)."""
    if not verifier or not _VERIFIER.fullmatch(verifier):
        raise invalid_grant("code_verifier is missing or malformed.")
    if not hmac.compare_digest(challenge_of(verifier), challenge):
        raise invalid_grant("code_verifier does not belong to this request.")
