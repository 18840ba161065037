"""What all OAuth endpoints work with: the database, the token keys, and what is known of one request."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from geopera_server.db.pool import Connection, Pool
from geopera_server.domains.identity.oauth.errors import invalid_request
from geopera_server.domains.identity.oauth.tokens import Tokens
from geopera_server.settings import Settings

REALM_PATH = "/realms/public"


@dataclass(frozen=True, slots=True, kw_only=True)
class Realm:
    """One deployment's authorization server."""

    pool: Pool
    tokens: Tokens
    key_pepper: bytes = field(repr=False)
    secret_pepper: bytes = field(repr=False)
    refresh_key: bytes = field(repr=False)
    ticket_key: bytes = field(repr=False)

    def key_digest(self, api_key: str) -> bytes:
        """Returns what an API key is found by."""
        return hmac.digest(self.key_pepper, api_key.encode(), hashlib.sha256)

    def digest(self, purpose: str, secret: str) -> bytes:
        """Returns what a code, refresh token or client secret is found by; the secret itself is never stored."""
        return hmac.digest(self.secret_pepper, f"{purpose}:{secret}".encode(), hashlib.sha256)

    def successor(self, refresh_token: str) -> str:
        """Returns the one refresh token that follows this one; nobody without our key can compute it."""
        return base64.urlsafe_b64encode(hmac.digest(self.refresh_key, refresh_token.encode(), hashlib.sha256)).decode()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lends a connection inside a transaction that commits at the end, or is taken back by an error."""
        async with self.pool.connection() as conn, conn.transaction():
            yield conn


def make_realm(pool: Pool, tokens: Tokens, settings: Settings) -> Realm:
    """Returns the realm of a deployment."""
    return Realm(
        pool=pool,
        tokens=tokens,
        key_pepper=settings.key_for("api_keys"),
        secret_pepper=settings.key_for("oauth-secrets"),
        refresh_key=settings.key_for("refresh-tokens"),
        ticket_key=settings.key_for("sign-in-pages"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A program that asks for tokens; `secret` is what it sent, already checked if the client has one."""

    id: str
    name: str
    grant_types: frozenset[str]
    redirect_uris: tuple[str, ...] = ()
    is_confidential: bool = False
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request for tokens: its form, the client that sent it, and whence and when it came."""

    form: Mapping[str, str] = field(repr=False)
    client: Client
    issuer: str
    at: datetime
    ip: str | None = None
    user_agent: str | None = None

    def required(self, name: str) -> str:
        """Returns a parameter that must be there."""
        return required(self.form, name)


def required(form: Mapping[str, str], name: str) -> str:
    """Returns a parameter; raises OAuthError `invalid_request` when it is missing or empty."""
    value = form.get(name)
    if not value:
        raise invalid_request(f"The parameter {name} is missing.")
    return value


def new_secret() -> str:
    """Returns 256 random bits as 43 url-safe characters."""
    return secrets.token_urlsafe(32)
