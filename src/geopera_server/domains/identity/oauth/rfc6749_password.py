"""RFC 6749, section 4.3: a human's own name and password, for first-party scripts and the command line."""

from __future__ import annotations

from geopera_server.domains.identity.oauth.realm import Exchange, Realm
from geopera_server.domains.identity.oauth.sessions import TokenReply, narrowing, open_session
from geopera_server.domains.identity.oauth.signin import check_password

GRANT_TYPE = "password"


async def grant(realm: Realm, exchange: Exchange) -> TokenReply:
    """Returns tokens for a human's name and password."""
    login, password = exchange.required("username"), exchange.required("password")
    user = await check_password(realm, login, password, exchange.at)
    async with realm.transaction() as conn:
        _, reply = await open_session(realm, conn, exchange, user_id=user["id"], narrowed_to=narrowing(exchange))
    return reply
