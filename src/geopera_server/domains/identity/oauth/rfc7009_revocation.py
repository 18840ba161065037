"""RFC 7009 and the logout of the clients: either token of a session ends the whole session."""

from __future__ import annotations

from datetime import datetime

from geopera_server.db.pool import Connection
from geopera_server.domains.identity.oauth.errors import OAuthError
from geopera_server.domains.identity.oauth.realm import Client, Realm
from geopera_server.domains.identity.store import sessions


async def revoke(realm: Realm, conn: Connection, client: Client, token: str, *, reason: str, at: datetime) -> None:
    """Ends the session of a token; what is unknown or over already is no error (section 2.2).

    Raises OAuthError `unauthorized_client` for another client's token (section 2.1).
    """
    session_id = await _session_of(realm, conn, token, at)
    session = None if session_id is None else await sessions.session_of(conn, session_id)
    if session is None:
        return
    if session["client_id"] != client.id:
        raise OAuthError("unauthorized_client", "The token was given to another client.")
    await sessions.end_session(conn, session["id"], reason=reason, at=at)


async def _session_of(realm: Realm, conn: Connection, token: str, at: datetime) -> str | None:
    session_id = realm.tokens.session_of(token, at)
    if session_id is not None:
        return session_id
    row = await sessions.refresh_token_of(conn, realm.digest("refresh", token))
    return None if row is None else row["session_id"]
