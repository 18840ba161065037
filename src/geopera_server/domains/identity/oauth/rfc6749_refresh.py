"""RFC 6749, section 6, with rotation and reuse detection as RFC 9700, section 4.14.2, asks for public clients.

Every use makes a successor and ends the token. A client that lost the answer may repeat the token for a short while and gets
the same successor, as long as nobody has used that one yet. Any later use means that two parties hold the token: all end.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.identity.oauth.errors import invalid_grant
from geopera_server.domains.identity.oauth.realm import Exchange, Realm
from geopera_server.domains.identity.oauth.sessions import (
    REFRESH_TOKEN,
    TokenReply,
    living_principal,
    refresh_members,
    token_reply,
)
from geopera_server.domains.identity.store import sessions

logger = logging.getLogger(__name__)

GRANT_TYPE = "refresh_token"
GRACE = timedelta(seconds=60)


async def grant(realm: Realm, exchange: Exchange) -> TokenReply:
    """Returns a new access token and the successor of a refresh token; a `scope` parameter changes nothing.

    Raises OAuthError `invalid_grant` for a token that is unknown, expired, another client's, or was used before.
    """
    token = exchange.required("refresh_token")
    async with realm.transaction() as conn:
        row = await sessions.lock_refresh_token(conn, realm.digest("refresh", token))
        if row is None or row["client_id"] != exchange.client.id or row["ended_at"] is not None:
            raise invalid_grant("The refresh token is unknown, has ended, or belongs to another client. Sign in again.")
        lifetime = await _lifetime_of_successor(realm, conn, exchange, row, token)
        if lifetime is not None:
            reply = await _reply(realm, conn, exchange, row["session_id"])
            return {**reply, **refresh_members(realm.successor(token), lifetime)}
        # Not raised in here: the end of the session has to be committed.
        await sessions.end_session(conn, row["session_id"], reason="refresh_token_reused", at=exchange.at)
    logger.warning("a refresh token of session %s was used twice; the session has ended", row["session_id"])
    raise invalid_grant("The refresh token was used before, so its whole session has ended. Sign in again.")


async def _lifetime_of_successor(realm: Realm, conn: Connection, exchange: Exchange, row: Row, token: str) -> timedelta | None:
    """Makes the successor or finds it again, and returns how long it is good; None when the token was used for good."""
    at, token_hash = exchange.at, bytes(row["token_hash"])
    if row["used_at"] is None:
        if row["expires_at"] <= at:
            raise invalid_grant("The refresh token has expired. Sign in again.")
        await sessions.mark_used(conn, token_hash, at)
        successor_hash = realm.digest("refresh", realm.successor(token))
        await sessions.insert_refresh_token(
            conn, successor_hash, row["session_id"], parent_hash=token_hash, at=at, expires_at=at + REFRESH_TOKEN
        )
        return REFRESH_TOKEN
    successor = await sessions.successor_of(conn, token_hash)
    if successor is None or successor["used_at"] is not None or at - row["used_at"] > GRACE:
        return None
    lifetime: timedelta = successor["expires_at"] - at
    return lifetime


async def _reply(realm: Realm, conn: Connection, exchange: Exchange, session_id: str) -> TokenReply:
    principal = await living_principal(conn, session_id, exchange.at)
    session = await sessions.session_of(conn, session_id)
    audience = None if session is None else session["resource"]
    return token_reply(realm, exchange, session_id, principal, audience=audience)
