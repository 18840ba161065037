"""The OAuth endpoints over HTTP: forms in, JSON out, nothing kept by any cache. The pages for humans are in oauth_pages."""

from __future__ import annotations

import functools
import http
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from geopera_server.domains.identity.oauth import (
    rfc6749_client_credentials,
    rfc6749_code,
    rfc6749_password,
    rfc6749_refresh,
    rfc7009_revocation,
    rfc7662_introspection,
    rfc8628_device,
)
from geopera_server.domains.identity.oauth.clients import allow_grant, authenticate_client
from geopera_server.domains.identity.oauth.errors import OAuthError, invalid_request
from geopera_server.domains.identity.oauth.realm import REALM_PATH, Exchange, Realm, make_realm, required
from geopera_server.domains.identity.oauth.rfc7591_registration import read_registration, register
from geopera_server.domains.identity.oauth.rfc8414_metadata import PROTOCOL_PATH, REGISTRATION_PATH, metadata
from geopera_server.domains.identity.oauth.tokens import Tokens
from geopera_server.domains.identity.profiles import userinfo
from geopera_server.kernel import policy
from geopera_server.kernel.audit import AuditEvent
from geopera_server.kernel.errors import OperationError, Unauthenticated
from geopera_server.kernel.pipeline import Kernel, as_refusal
from geopera_server.settings import Settings
from geopera_server.transports.http.calls import credential_of, read_body
from geopera_server.transports.http.oauth_forms import MAX_FORM_BYTES, ip_of, issuer_of, read_form
from geopera_server.transports.http.oauth_pages import SignInPages
from geopera_server.values.clock import now
from geopera_server.values.encoding import dumps
from geopera_server.values.ids import new_id

logger = logging.getLogger(__name__)

NEVER_STORED = {"Cache-Control": "no-store", "Pragma": "no-cache"}

GRANTS = {
    module.GRANT_TYPE: module.grant
    for module in (rfc6749_client_credentials, rfc6749_password, rfc6749_refresh, rfc6749_code, rfc8628_device)
}

Endpoint = Callable[[Request], Awaitable[Response]]


def oauth_routes(kernel: Kernel, settings: Settings, tokens: Tokens) -> list[BaseRoute]:
    """Returns every route below the realm, and the discovery documents."""
    realm = make_realm(kernel.pool, tokens, settings)
    endpoints = Endpoints(realm, kernel, settings)
    pages = SignInPages(realm, kernel, settings)
    protocol = REALM_PATH + PROTOCOL_PATH

    def post(path: str, endpoint: Endpoint) -> Route:
        return Route(path, endpoints.answering(endpoint), methods=["POST"])

    def get(path: str, endpoint: Endpoint) -> Route:
        return Route(path, endpoints.answering(endpoint), methods=["GET"])

    return [
        post(f"{protocol}/token", endpoints.token),
        post(f"{protocol}/token/introspect", endpoints.introspect),
        post(f"{protocol}/revoke", endpoints.revoke),
        post(f"{protocol}/logout", endpoints.logout),
        post(f"{protocol}/auth/device", endpoints.device),
        post(REALM_PATH + REGISTRATION_PATH, endpoints.register),
        get(f"{protocol}/userinfo", endpoints.userinfo),
        get(f"{protocol}/certs", endpoints.certs),
        get(f"/.well-known/oauth-authorization-server{REALM_PATH}", endpoints.discovery),
        get(f"/.well-known/openid-configuration{REALM_PATH}", endpoints.discovery),
        get(f"{REALM_PATH}/.well-known/openid-configuration", endpoints.discovery),
        *pages.routes(),
    ]


class Endpoints:
    """What programs call."""

    def __init__(self, realm: Realm, kernel: Kernel, settings: Settings) -> None:
        self._realm = realm
        self._kernel = kernel
        self._settings = settings

    async def token(self, request: Request) -> Response:
        """Exchanges whatever the grant type names for tokens."""
        await self._count(request)
        form = await read_form(request)
        grant = GRANTS.get(required(form, "grant_type"))
        if grant is None:
            raise OAuthError("unsupported_grant_type", f"grant_type must be one of {', '.join(GRANTS)}.")
        exchange = await self._exchange(request, form)
        allow_grant(exchange.client, form["grant_type"])
        reply = await grant(self._realm, exchange)
        request.state.issued = reply["access_token"]
        return as_json(reply)

    async def device(self, request: Request) -> Response:
        """Begins a device request."""
        await self._count(request)
        return as_json(await rfc8628_device.begin(self._realm, await self._exchange(request, await read_form(request))))

    async def introspect(self, request: Request) -> Response:
        """Says what a token is worth."""
        form, at = await read_form(request), now()
        token = required(form, "token")
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        async with self._realm.pool.connection() as conn:
            client = await authenticate_client(self._realm, conn, form, request.headers.get("authorization"))
            held = bearer.strip() if scheme.lower() == "bearer" else None
            await rfc7662_introspection.require_caller(self._realm, conn, client, held, at)
            return as_json(await rfc7662_introspection.introspect(self._realm, conn, token, at))

    async def revoke(self, request: Request) -> Response:
        """Ends a token's session."""
        form = await read_form(request)
        await self._end(request, form, required(form, "token"), reason="revoked")
        return as_json({})

    async def logout(self, request: Request) -> Response:
        """Ends the session of the refresh token in the form, or of the bearer token."""
        form = await read_form(request)
        credential = credential_of(request)
        token = form.get("refresh_token") or (credential.token if credential else None)
        if token is None:
            raise invalid_request("The parameter refresh_token is missing.")
        await self._end(request, form, token, reason="logout")
        return Response(status_code=204, headers=NEVER_STORED)

    async def userinfo(self, request: Request) -> Response:
        """Says whose credential it is."""
        credential = credential_of(request)
        if credential is None:
            raise Unauthenticated("No credential was sent. Send 'Authorization: Bearer <token or API key>'.")
        principal = await self._kernel.identify(credential)
        async with self._realm.pool.connection() as conn:
            return as_json(await userinfo(conn, principal))

    async def certs(self, _request: Request) -> Response:
        """Publishes the keys that tokens can be checked with: none for HS256."""
        return Response(dumps(self._realm.tokens.jwks()), media_type="application/json")

    async def discovery(self, request: Request) -> Response:
        """Publishes where everything is."""
        document = metadata(issuer_of(request, self._settings), algorithm=self._settings.token_algorithm)
        return Response(dumps(document), media_type="application/json")

    async def register(self, request: Request) -> Response:
        """Registers a program."""
        await self._count(request)
        try:
            body = orjson.loads(await read_body(request, MAX_FORM_BYTES))
        except orjson.JSONDecodeError as error:
            raise OAuthError("invalid_client_metadata", "The body must be JSON.") from error
        if not isinstance(body, dict):
            raise OAuthError("invalid_client_metadata", "The body must be one JSON object.")
        return as_json(await register(self._realm, read_registration(body), now()), status=201)

    def answering(self, endpoint: Endpoint) -> Endpoint:
        """Returns the endpoint with its refusals as OAuth errors and one audit row for each change."""

        @functools.wraps(endpoint)
        async def answer(request: Request) -> Response:
            started, code = time.perf_counter(), None
            try:
                response = await endpoint(request)
            except OAuthError as error:
                response, code = as_error(request, error), error.error
            except Exception as error:
                refusal = as_refusal(error)
                if refusal is None:
                    raise
                response, code = as_error(request, _told_as_oauth(refusal)), refusal.code
            if request.method == "POST":
                self._kernel.reads_audit.add(self._audit_row(request, response.status_code, code, started))
            return response

        return answer

    def _audit_row(self, request: Request, status: int, code: str | None, started: float) -> AuditEvent:
        issued = getattr(request.state, "issued", None)
        claims = (self._realm.tokens.read(issued, now()) if issued else None) or {}
        is_key = claims.get("geopera_principal_type") == "api_key"
        return AuditEvent(
            invocation_id=getattr(request.state, "invocation_id", None) or new_id(),
            at=now(),
            operation_id="oauth." + request.url.path.removeprefix(REALM_PATH).strip("/").split("/", 2)[-1].replace("/", "."),
            side_effect="compute",
            scope="",
            principal_type=claims.get("geopera_principal_type", "guest"),
            principal_id=claims.get("geopera_principal_id"),
            api_key_id=claims["geopera_principal_id"] if is_key else None,
            organization_id=claims.get("geopera_org_id"),
            status=status,
            code=code,
            duration_ms=round((time.perf_counter() - started) * 1000, 3),
            ip=ip_of(request),
            user_agent=request.headers.get("user-agent"),
        )

    async def _exchange(self, request: Request, form: Mapping[str, str]) -> Exchange:
        async with self._realm.pool.connection() as conn:
            client = await authenticate_client(self._realm, conn, form, request.headers.get("authorization"))
        return Exchange(
            form=form,
            client=client,
            issuer=issuer_of(request, self._settings),
            at=now(),
            ip=ip_of(request),
            user_agent=request.headers.get("user-agent"),
        )

    async def _end(self, request: Request, form: Mapping[str, str], token: str, *, reason: str) -> None:
        async with self._realm.transaction() as conn:
            client = await authenticate_client(self._realm, conn, form, request.headers.get("authorization"))
            await rfc7009_revocation.revoke(self._realm, conn, client, token, reason=reason, at=now())

    async def _count(self, request: Request) -> None:
        async with self._realm.pool.connection() as conn:
            await policy.count_guest(conn, f"oauth:{ip_of(request)}", self._kernel.caps, now())


def as_json(reply: Mapping[str, Any], *, status: int = 200) -> Response:
    """Returns a JSON response that nobody may store."""
    return Response(dumps(reply), status, headers=NEVER_STORED, media_type="application/json")


def as_error(request: Request, error: OAuthError) -> Response:
    """Returns an error as OAuth clients read it, with the members that every error of this server has."""
    body = {
        "error": error.error,
        "error_description": error.description,
        "title": http.HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.description,
    }
    response = as_json(body, status=error.status)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    if error.status == http.HTTPStatus.UNAUTHORIZED:
        scheme = "Bearer" if request.method == "GET" else "Basic"
        response.headers["WWW-Authenticate"] = f'{scheme} realm="public", error="{error.error}"'
    return response


def _told_as_oauth(refusal: OperationError) -> OAuthError:
    word = {401: "invalid_token", 503: "temporarily_unavailable"}.get(refusal.status, refusal.code)
    return OAuthError(word, refusal.detail, status=refusal.status, retry_after_s=refusal.retry_after_s)
