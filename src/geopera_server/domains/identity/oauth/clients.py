"""Who the asking program is (RFC 6749, section 2.3)."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from urllib.parse import unquote_plus

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.identity.oauth.errors import OAuthError, invalid_client, invalid_request
from geopera_server.domains.identity.oauth.realm import Client, Realm
from geopera_server.domains.identity.store import grants

# Scripts that follow the quickstart's grants by hand often leave the client out.
DEFAULT_CLIENT_ID = "geopera"


async def authenticate_client(realm: Realm, conn: Connection, form: Mapping[str, str], authorization: str | None) -> Client:
    """Returns the client of a request, its secret checked if it has one.

    Raises OAuthError `invalid_client` for an unknown client or a wrong secret, `invalid_request` for two ways at once.
    """
    client_id, secret = _credentials(form, authorization)
    row = await grants.client_of(conn, client_id)
    if row is None:
        raise invalid_client("There is no such client. Register it first.")
    if row["secret_hash"] is not None:
        given = realm.digest("client", secret or "")
        if not hmac.compare_digest(bytes(row["secret_hash"]), given):
            raise invalid_client("The client secret is missing or wrong.")
    return client_from(row, secret=secret)


def client_from(row: Row, *, secret: str | None = None) -> Client:
    """Returns the client that a row holds."""
    return Client(
        id=row["id"],
        name=row["name"],
        grant_types=frozenset(row["grant_types"]),
        redirect_uris=tuple(row["redirect_uris"]),
        is_confidential=row["secret_hash"] is not None,
        secret=secret,
    )


def allow_grant(client: Client, grant_type: str) -> None:
    """Raises OAuthError `unauthorized_client` unless the client may use the grant."""
    if grant_type not in client.grant_types:
        raise OAuthError("unauthorized_client", f"The client {client.id} may not use the grant {grant_type}.")


def _credentials(form: Mapping[str, str], authorization: str | None) -> tuple[str, str | None]:
    client_id, secret = form.get("client_id"), form.get("client_secret")
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return client_id or DEFAULT_CLIENT_ID, secret
    basic_id, basic_secret = _basic(encoded)
    if secret is not None or client_id not in {None, basic_id}:
        raise invalid_request("Send the client's id and secret once: in the Authorization header or in the form.")
    return basic_id, basic_secret


def _basic(encoded: str) -> tuple[str, str]:
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise invalid_client("The Authorization header is not valid Basic authentication.") from error
    if not colon or "\x00" in name:
        raise invalid_client("The Authorization header is not valid Basic authentication.")
    return unquote_plus(name), unquote_plus(password)
