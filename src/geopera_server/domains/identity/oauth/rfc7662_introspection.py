"""RFC 7662: tells a protected resource what a token is worth now. It answers `{"active": false}` to everything unknown."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection
from geopera_server.domains.identity.authenticate import identify
from geopera_server.domains.identity.oauth.errors import invalid_client
from geopera_server.domains.identity.oauth.realm import Client, Realm
from geopera_server.domains.identity.store import keys, sessions
from geopera_server.kernel.principal import Principal

INACTIVE: dict[str, Any] = {"active": False}


async def require_caller(realm: Realm, conn: Connection, client: Client, bearer: str | None, at: datetime) -> None:
    """Raises OAuthError `invalid_client` unless the caller may introspect (section 2.1).

    That is a client that proved its secret, or whoever holds an API key: as the secret of a public client, or as bearer.
    """
    if client.is_confidential:
        return
    api_key = client.secret or bearer
    if api_key is None or await keys.live_key_with(conn, realm.key_digest(api_key), at) is None:
        raise invalid_client("Identify with a client secret, or send an API key as client_secret or bearer.")


async def introspect(realm: Realm, conn: Connection, token: str, at: datetime) -> dict[str, Any]:
    """Returns what is known of an access token, a refresh token or an API key."""
    claims = realm.tokens.read(token, at)
    if claims is not None:
        principal = await identify(conn, claims["sid"], at)
        own = {name: claims[name] for name in ("iss", "aud", "iat", "exp", "jti", "sid", "client_id")}
        return INACTIVE if principal is None else {**_active(principal), **own, "token_type": "Bearer"}
    refresh = await sessions.refresh_token_of(conn, realm.digest("refresh", token))
    if refresh is not None:
        if refresh["used_at"] is not None or refresh["expires_at"] <= at:
            return INACTIVE
        principal = await identify(conn, refresh["session_id"], at)
        expiry = {"exp": int(refresh["expires_at"].timestamp()), "client_id": refresh["client_id"]}
        return INACTIVE if principal is None else {**_active(principal), **expiry, "token_type": "refresh_token"}
    return await _api_key(realm, conn, token, at)


async def _api_key(realm: Realm, conn: Connection, token: str, at: datetime) -> dict[str, Any]:
    key = await keys.live_key_with(conn, realm.key_digest(token), at)
    if key is None:
        return INACTIVE
    principal = Principal(
        kind="api_key",
        id=key["id"],
        organization_id=key["organization_id"],
        scopes=frozenset(key["permissions"]),
    )
    expiry = {} if key["expires_at"] is None else {"exp": int(key["expires_at"].timestamp())}
    return {**_active(principal), **expiry, "client_id": "geopera", "token_type": "Bearer"}


def _active(principal: Principal) -> dict[str, Any]:
    return {
        "active": True,
        "sub": principal.id,
        "scope": " ".join(sorted(principal.scopes)),
        "geopera_principal_type": principal.kind,
        "geopera_principal_id": principal.id,
        "geopera_org_id": principal.organization_id,
    }
