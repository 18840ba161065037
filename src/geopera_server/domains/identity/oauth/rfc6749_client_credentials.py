"""RFC 6749, section 4.4: an API key, sent as the secret of the client `geopera`, for a short-lived token."""

from __future__ import annotations

from geopera_server.domains.identity.oauth.errors import invalid_client
from geopera_server.domains.identity.oauth.realm import Exchange, Realm
from geopera_server.domains.identity.oauth.sessions import TokenReply, narrowing, open_session
from geopera_server.domains.identity.store import keys

GRANT_TYPE = "client_credentials"


async def grant(realm: Realm, exchange: Exchange) -> TokenReply:
    """Returns tokens that act as the API key and end with it.

    Section 4.4.3 advises against a refresh token here; the published quickstart promises one.
    """
    secret = exchange.client.secret
    if not secret:
        raise invalid_client("Send an API key as client_secret.")
    async with realm.transaction() as conn:
        key = await keys.live_key_with(conn, realm.key_digest(secret), exchange.at)
        if key is None:
            raise invalid_client("The API key is unknown, revoked or expired.")
        _, reply = await open_session(
            realm,
            conn,
            exchange,
            api_key_id=key["id"],
            organization_id=key["organization_id"],
            narrowed_to=narrowing(exchange),
        )
    return reply
