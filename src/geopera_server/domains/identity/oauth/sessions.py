"""Opens a session for whoever has proved to be somebody, and says so in tokens."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from geopera_server.db.pool import Connection
from geopera_server.domains.identity import scopes
from geopera_server.domains.identity.authenticate import identify
from geopera_server.domains.identity.oauth.errors import OAuthError, invalid_grant
from geopera_server.domains.identity.oauth.realm import Exchange, Realm, new_secret
from geopera_server.domains.identity.oauth.tokens import ACCESS_TOKEN_S, Issue
from geopera_server.domains.identity.store import organizations, sessions
from geopera_server.kernel.principal import Principal
from geopera_server.values.ids import new_id

REFRESH_TOKEN = timedelta(minutes=30)

TokenReply = dict[str, Any]


async def open_session(
    realm: Realm,
    conn: Connection,
    exchange: Exchange,
    *,
    user_id: str | None = None,
    api_key_id: str | None = None,
    organization_id: str | None = None,
    narrowed_to: frozenset[str] | None = None,
    resource: str | None = None,
) -> tuple[str, TokenReply]:
    """Opens a session and returns its id and the token reply.

    Raises OAuthError `invalid_scope` when nothing of what was asked for is held, `invalid_grant` for a disabled account.
    """
    if user_id is not None and organization_id is None:
        # Pinned now: a session must not slip into another organization when its human leaves one.
        joined = await organizations.organizations_of_user(conn, user_id)
        organization_id = joined[0]["id"] if joined else None
    session_id = new_id()
    await sessions.insert_session(
        conn,
        {
            "id": session_id,
            "user_id": user_id,
            "api_key_id": api_key_id,
            "organization_id": organization_id,
            "client_id": exchange.client.id,
            "scopes": None if narrowed_to is None else sorted(narrowed_to),
            "resource": resource,
            "ip": exchange.ip,
            "user_agent": (exchange.user_agent or "")[:300] or None,
            "at": exchange.at,
        },
    )
    principal = await living_principal(conn, session_id, exchange.at)
    if not principal.scopes:
        raise OAuthError("invalid_scope", "This account holds none of the scopes that were asked for.")
    refresh_token = new_secret()
    await sessions.insert_refresh_token(
        conn,
        realm.digest("refresh", refresh_token),
        session_id,
        parent_hash=None,
        at=exchange.at,
        expires_at=exchange.at + REFRESH_TOKEN,
    )
    reply = token_reply(realm, exchange, session_id, principal, audience=resource)
    return session_id, {**reply, **refresh_members(refresh_token, REFRESH_TOKEN)}


async def living_principal(conn: Connection, session_id: str, at: datetime) -> Principal:
    """Returns whom a session stands for; raises OAuthError `invalid_grant` when it, its human or its key has ended."""
    principal = await identify(conn, session_id, at)
    if principal is None:
        raise invalid_grant("The account is disabled or the API key has ended.")
    return principal


def token_reply(realm: Realm, exchange: Exchange, session_id: str, principal: Principal, *, audience: str | None) -> TokenReply:
    """Returns the members of a token reply that tell of a fresh access token (RFC 6749, section 5.1)."""
    issue = Issue(
        session_id=session_id,
        client_id=exchange.client.id,
        principal=principal,
        issuer=exchange.issuer,
        audience=audience,
    )
    return {
        "access_token": realm.tokens.sign(issue, exchange.at),
        "token_type": "Bearer",
        "expires_in": ACCESS_TOKEN_S,
        "scope": " ".join(sorted(principal.scopes)),
    }


def refresh_members(refresh_token: str, lifetime: timedelta) -> TokenReply:
    """Returns the members of a token reply that tell of the refresh token."""
    return {"refresh_token": refresh_token, "refresh_expires_in": int(lifetime.total_seconds())}


def narrowing(exchange: Exchange) -> frozenset[str] | None:
    """Returns the scopes that the request names, or None when it names none of ours."""
    return scopes.asked_for(exchange.form.get("scope", ""))
