"""RFC 6749, section 4.1: the authorization code, always with PKCE, and with the resource indicator of RFC 8707.

A code lives one minute and is exchanged once; whoever comes with it again ends what the first exchange opened.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.identity import scopes
from geopera_server.domains.identity.oauth.clients import client_from
from geopera_server.domains.identity.oauth.errors import OAuthError, invalid_grant, invalid_request
from geopera_server.domains.identity.oauth.realm import Client, Exchange, Realm, new_secret, required
from geopera_server.domains.identity.oauth.rfc7636_pkce import check_verifier, read_challenge
from geopera_server.domains.identity.oauth.sessions import TokenReply, open_session
from geopera_server.domains.identity.store import grants, sessions

logger = logging.getLogger(__name__)

GRANT_TYPE = "authorization_code"
CODE = timedelta(seconds=60)
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """What a program asks a human to allow."""

    client_id: str
    client_name: str
    redirect_uri: str
    code_challenge: str
    state: str | None = None
    scope: str = ""
    resource: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class SentBack(Exception):
    """A refusal that the asking program is told by a redirect, since client and address are known to be good."""

    def __init__(self, redirect_uri: str, state: str | None, error: OAuthError) -> None:
        super().__init__(str(error))
        self.redirect_uri = redirect_uri
        self.state = state
        self.error = error


async def read_request(conn: Connection, query: Mapping[str, str]) -> AuthorizationRequest:
    """Returns the authorization request of a query.

    Raises OAuthError while client or redirect address are in doubt: then nobody may be redirected (section 4.1.2.1).
    Raises SentBack for everything else that is wrong.
    """
    row = await grants.client_of(conn, required(query, "client_id"))
    if row is None:
        raise invalid_request("There is no such client. Register it first.")
    client = client_from(row)
    redirect_uri = required(query, "redirect_uri")
    if not any(redirect_matches(registered, redirect_uri) for registered in client.redirect_uris):
        raise invalid_request("redirect_uri is none of those that this client has registered.")
    try:
        return _read_rest(client, redirect_uri, query)
    except OAuthError as error:
        raise SentBack(redirect_uri, query.get("state"), error) from error


def _read_rest(client: Client, redirect_uri: str, query: Mapping[str, str]) -> AuthorizationRequest:
    if query.get("response_type") != "code":
        raise OAuthError("unsupported_response_type", "response_type must be code.")
    if GRANT_TYPE not in client.grant_types:
        raise OAuthError("unauthorized_client", "This client is not registered for the authorization code grant.")
    challenge = read_challenge(query)
    if challenge is None:
        raise invalid_request("code_challenge is missing: every client uses PKCE with S256.")
    return AuthorizationRequest(
        client_id=client.id,
        client_name=client.name,
        redirect_uri=redirect_uri,
        code_challenge=challenge,
        state=query.get("state"),
        scope=query.get("scope", ""),
        resource=read_resource(query),
    )


def read_resource(parameters: Mapping[str, str]) -> str | None:
    """Returns the resource indicator; raises `invalid_target` unless it is absolute and without fragment (RFC 8707)."""
    resource = parameters.get("resource")
    if not resource:
        return None
    try:
        parts = urlsplit(resource)
    except ValueError as error:
        raise OAuthError("invalid_target", "resource is no address.") from error
    if not parts.scheme or not parts.netloc or "#" in resource:
        raise OAuthError("invalid_target", "resource must be an absolute address without fragment.")
    return resource


def redirect_matches(registered: str, given: str) -> bool:
    """Says whether an address is the registered one; on loopback the port may differ (RFC 8252, section 7.3)."""
    if registered == given:
        return True
    try:
        ours, theirs = urlsplit(registered), urlsplit(given)
        on_loopback = ours.scheme == "http" and ours.hostname in LOOPBACK
        same_place = (ours.scheme, ours.hostname, ours.path, ours.query) == (
            theirs.scheme,
            theirs.hostname,
            theirs.path,
            theirs.query,
        )
        plain = "@" not in theirs.netloc and "#" not in given and theirs.port != 0
    except ValueError:
        return False
    return on_loopback and same_place and plain


def redirect_with(redirect_uri: str, members: Mapping[str, str | None]) -> str:
    """Returns the redirect address with the members that are not None added to its query."""
    parts = urlsplit(redirect_uri)
    query = parse_qsl(parts.query, keep_blank_values=True) + [(k, v) for k, v in members.items() if v is not None]
    return urlunsplit(parts._replace(query=urlencode(query)))


async def issue_code(
    realm: Realm, request: AuthorizationRequest, *, user_id: str, organization_id: str | None, at: datetime
) -> str:
    """Returns a code that the request's client can exchange, acting as the human in the organization."""
    code = new_secret()
    narrowed = scopes.asked_for(request.scope)
    async with realm.transaction() as conn:
        await grants.insert_code(
            conn,
            {
                "code_hash": realm.digest("code", code),
                "client_id": request.client_id,
                "redirect_uri": request.redirect_uri,
                "code_challenge": request.code_challenge,
                "scopes": None if narrowed is None else sorted(narrowed),
                "resource": request.resource,
                "user_id": user_id,
                "organization_id": organization_id,
                "at": at,
                "expires_at": at + CODE,
            },
        )
    return code


async def grant(realm: Realm, exchange: Exchange) -> TokenReply:
    """Returns tokens for a code, once.

    Raises OAuthError `invalid_grant` for a code that is unknown, used, expired, another client's or another address's, and
    for a wrong verifier.
    """
    async with realm.transaction() as conn:
        row = await grants.lock_code(conn, realm.digest("code", exchange.required("code")))
        if row is None or row["client_id"] != exchange.client.id:
            raise invalid_grant("The code is unknown or belongs to another client.")
        if row["used_at"] is None:
            _check(exchange, row)
            session_id, reply = await open_session(
                realm,
                conn,
                exchange,
                user_id=row["user_id"],
                organization_id=row["organization_id"],
                narrowed_to=None if row["scopes"] is None else frozenset(row["scopes"]),
                resource=row["resource"],
            )
            await grants.use_code(conn, bytes(row["code_hash"]), session_id, exchange.at)
            await grants.note_client_used(conn, exchange.client.id, exchange.at)
            return reply
        if row["session_id"] is not None:
            await sessions.end_session(conn, row["session_id"], reason="code_reused", at=exchange.at)
    logger.warning("an authorization code of client %s was used twice; its session has ended", exchange.client.id)
    raise invalid_grant("The code was used before, so what it gave has ended. Begin again.")


def _check(exchange: Exchange, row: Row) -> None:
    if row["expires_at"] <= exchange.at:
        raise invalid_grant("The code has expired. Begin again.")
    if exchange.required("redirect_uri") != row["redirect_uri"]:
        raise invalid_grant("redirect_uri differs from the one that the code was sent to.")
    check_verifier(row["code_challenge"], exchange.form.get("code_verifier"))
    resource = read_resource(exchange.form)
    if resource is not None and row["resource"] is not None and resource != row["resource"]:
        raise OAuthError("invalid_target", "resource differs from the one that was authorized.")
