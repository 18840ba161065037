"""Access tokens: signed statements of which session a call belongs to (RFC 7519, profile of RFC 9068).

A token is good for five minutes at most. It names no rights: those are looked up with each call.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey

from geopera_server.kernel.principal import Principal
from geopera_server.settings import Settings

ACCESS_TOKEN_S = 300
TOKEN_TYPE = "at+jwt"  # noqa: S105  (RFC 9068, section 2.1)
REMEMBERED_TOKENS = 10_000
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """What one access token is to say."""

    session_id: str
    client_id: str
    principal: Principal
    issuer: str
    audience: str | None


class Tokens:
    """Signs access tokens and tells its own from all others."""

    def __init__(self, key: OctKey | ECKey, algorithm: str) -> None:
        self._key = key
        self._algorithm = algorithm
        # Checking an ES256 signature takes 90 µs and HS256 20 µs; a session's token comes again and again.
        self._known: dict[str, dict[str, Any]] = {}

    def sign(self, issue: Issue, at: datetime) -> str:
        """Returns a token for the session, good from now on for ACCESS_TOKEN_S."""
        issued_at = int(at.timestamp())
        claims = {
            "iss": issue.issuer,
            "sub": issue.principal.id,
            "aud": issue.audience or issue.issuer,
            "iat": issued_at,
            "exp": issued_at + ACCESS_TOKEN_S,
            "jti": secrets.token_urlsafe(12),
            "sid": issue.session_id,
            "client_id": issue.client_id,
            "geopera_principal_type": issue.principal.kind,
            "geopera_principal_id": issue.principal.id,
            "geopera_org_id": issue.principal.organization_id,
        }
        header = {"alg": self._algorithm, "typ": TOKEN_TYPE}
        if isinstance(self._key, ECKey):
            header["kid"] = self._key.thumbprint()
        return jwt.encode(header, claims, self._key)

    def read(self, token: str, at: datetime) -> dict[str, Any] | None:
        """Returns the claims of a token of ours that has not expired; None for everything else."""
        claims = self._known.get(token)
        if claims is None:
            claims = self._verified(token)
            if claims is None:
                return None
        if claims["exp"] <= at.timestamp():
            self._known.pop(token, None)
            return None
        return claims

    def session_of(self, token: str, at: datetime) -> str | None:
        """Returns the session that a good token belongs to; None for everything else."""
        claims = self.read(token, at)
        return None if claims is None else claims["sid"]

    def jwks(self) -> dict[str, Any]:
        """Returns the public keys as a JWK set (RFC 7517): none for HS256, whose tokens are introspected instead."""
        if isinstance(self._key, ECKey):
            return {
                "keys": [
                    {**self._key.as_dict(private=False), "use": "sig", "alg": self._algorithm, "kid": self._key.thumbprint()}
                ]
            }
        return {"keys": []}

    def _verified(self, token: str) -> dict[str, Any] | None:
        try:
            # The one algorithm is named here: what the token says of itself decides nothing (RFC 8725, 3.1).
            read = jwt.decode(token, self._key, algorithms=[self._algorithm])
        except (JoseError, ValueError):
            return None
        if read.header.get("typ") != TOKEN_TYPE:
            return None
        if len(self._known) >= REMEMBERED_TOKENS:
            self._known.pop(next(iter(self._known)))
        self._known[token] = read.claims
        return read.claims


def make_tokens(settings: Settings) -> Tokens:
    """Returns the deployment's tokens; every process with the same secret makes and takes the same ones."""
    if settings.token_algorithm == "ES256":  # noqa: S105  (an algorithm's name)
        return Tokens(ec_key_from(settings.key_for("tokens-es256-1") + settings.key_for("tokens-es256-2")), "ES256")
    return Tokens(OctKey.import_key(settings.key_for("tokens")), "HS256")


def ec_key_from(seed: bytes) -> ECKey:
    """Returns the P-256 key that a seed of at least 40 bytes determines (FIPS 186-5, A.2.1: extra random bits)."""
    scalar = int.from_bytes(seed, "big") % (_P256_ORDER - 1) + 1
    private = ec.derive_private_key(scalar, ec.SECP256R1())
    return ECKey.import_key(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
