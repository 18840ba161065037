"""The pages on which a human signs in and allows a program or a device to act for them.

Every page hands the next one a signed ticket; nobody is remembered between two visits, so there is no sign-in to steal.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from geopera_server.domains.identity import scopes
from geopera_server.domains.identity.oauth import rfc8628_device
from geopera_server.domains.identity.oauth.errors import OAuthError
from geopera_server.domains.identity.oauth.realm import REALM_PATH, Realm
from geopera_server.domains.identity.oauth.rfc6749_code import (
    AuthorizationRequest,
    SentBack,
    issue_code,
    read_request,
    redirect_with,
)
from geopera_server.domains.identity.oauth.rfc8414_metadata import PROTOCOL_PATH
from geopera_server.domains.identity.oauth.signin import check_password
from geopera_server.domains.identity.oauth.tickets import Tickets
from geopera_server.domains.identity.store import organizations, users
from geopera_server.kernel import policy
from geopera_server.kernel.errors import OperationError
from geopera_server.kernel.pipeline import Kernel, as_refusal
from geopera_server.kernel.policy import RateCaps
from geopera_server.settings import Settings
from geopera_server.transports.http import oauth_html as html
from geopera_server.transports.http.oauth_forms import ip_of, issuer_of, once_each, read_form
from geopera_server.values.clock import now

AUTHORIZATION_PAGE = f"{REALM_PATH}{PROTOCOL_PATH}/auth"
COOKIE = "geopera_sign_in"
USER_CODE_TRIES = RateCaps(public=10)
EXPIRED = OAuthError(
    "expired", "This page is too old, or was opened in another browser. Go back to the program and begin again."
)

Endpoint = Callable[[Request], Awaitable[Response]]


class SignInPages:
    """What a browser sees."""

    def __init__(self, realm: Realm, kernel: Kernel, settings: Settings) -> None:
        self._realm = realm
        self._kernel = kernel
        self._settings = settings
        self._tickets = Tickets(realm.ticket_key)

    def routes(self) -> list[Route]:
        """Returns the routes of the pages."""
        device = rfc8628_device.DEVICE_PAGE
        return [
            Route(AUTHORIZATION_PAGE, self._showing(self.authorize), methods=["GET"]),
            Route(AUTHORIZATION_PAGE, self._showing(self.submit), methods=["POST"]),
            Route(device, self._showing(self.device), methods=["GET"]),
            Route(device, self._showing(self.submit), methods=["POST"]),
        ]

    async def authorize(self, request: Request) -> Response:
        """Begins the authorization code flow (RFC 6749, section 4.1.1)."""
        query = once_each(request.query_params.multi_items())
        try:
            async with self._realm.pool.connection() as conn:
                wanted = await read_request(conn, query)
        except SentBack as refused:
            members = {"error": refused.error.error, "error_description": refused.error.description}
            return self._send_back(request, refused.redirect_uri, {**members, "state": refused.state})
        return self._sign_in_page(request, {"flow": "code", "request": wanted.as_dict()})

    async def device(self, request: Request) -> Response:
        """Asks for the code that a device shows."""
        return _code_page(request.query_params.get("user_code", ""))

    async def submit(self, request: Request) -> Response:
        """Takes whichever form was sent, and answers with the next page."""
        form = await read_form(request)
        async with self._realm.pool.connection() as conn:
            await policy.count_guest(conn, f"oauth:{ip_of(request)}", self._kernel.caps, now())
        step = form.get("step")
        if step == "user-code":
            return await self._take_user_code(request, form)
        content = self._tickets.read(
            "consent" if step == "consent" else "sign-in",
            form.get("ticket", ""),
            browser=request.cookies.get(COOKIE, ""),
            at=now(),
        )
        if content is None:
            raise EXPIRED
        return await (self._take_consent if step == "consent" else self._take_sign_in)(request, form, content)

    async def _take_user_code(self, request: Request, form: Mapping[str, str]) -> Response:
        async with self._realm.pool.connection() as conn:
            await policy.count_guest(conn, f"user-code:{ip_of(request)}", USER_CODE_TRIES, now())
        typed = form.get("user_code", "")
        row = await rfc8628_device.waiting(self._realm, typed, now())
        if row is None:
            return _code_page(typed, problem="This code is unknown or has expired. Compare it with the one on your device.")
        content = {
            "flow": "device",
            "user_code": row["user_code"],
            "client_name": row["client_name"],
            "scopes": row["scopes"],
        }
        return self._sign_in_page(request, content)

    async def _take_sign_in(self, request: Request, form: Mapping[str, str], content: dict[str, Any]) -> Response:
        if form.get("action") == "cancel":
            return self._denied(request, content)
        login = form.get("username", "")
        try:
            user = await check_password(self._realm, login, form.get("password", ""), now())
        except OAuthError as error:
            return self._sign_in_page(request, content, login=login, error=error)
        async with self._realm.pool.connection() as conn:
            joined = await organizations.organizations_of_user(conn, user["id"])
        choices = [html.Choice(id=each["id"], name=each["name"]) for each in joined]
        return self._consent_page(request, {**content, "user_id": user["id"]}, email=user["email"], choices=choices)

    async def _take_consent(self, request: Request, form: Mapping[str, str], content: dict[str, Any]) -> Response:
        user_id, approved = content["user_id"], form.get("action") == "allow"
        async with self._realm.pool.connection() as conn:
            user = await users.user_of(conn, user_id)
            joined = [each["id"] for each in await organizations.organizations_of_user(conn, user_id)]
        if user is None or user["status"] != "active":
            raise EXPIRED
        chosen = form.get("organization_id") or (joined[0] if joined else None)
        if chosen is not None and chosen not in joined:
            raise EXPIRED
        if content["flow"] == "device":
            return await self._decide_device(content, approved=approved, user_id=user_id, organization_id=chosen)
        if not approved:
            return self._denied(request, content)
        wanted = AuthorizationRequest(**content["request"])
        code = await issue_code(self._realm, wanted, user_id=user_id, organization_id=chosen, at=now())
        return self._send_back(request, wanted.redirect_uri, {"code": code, "state": wanted.state})

    async def _decide_device(
        self, content: dict[str, Any], *, approved: bool, user_id: str, organization_id: str | None
    ) -> Response:
        done = await rfc8628_device.decide(
            self._realm,
            content["user_code"],
            approved=approved,
            user_id=user_id,
            organization_id=organization_id,
            at=now(),
        )
        if not done:
            raise EXPIRED
        if approved:
            return html.page("Your device is connected", [html.paragraph("You can close this page and go back to it.")])
        return html.page("Access denied", [html.paragraph("Your device gets nothing. You can close this page.")])

    def _denied(self, request: Request, content: dict[str, Any]) -> Response:
        if content["flow"] == "device":
            return html.page("Nothing was changed", [html.paragraph("Your device goes on waiting until its code expires.")])
        wanted = AuthorizationRequest(**content["request"])
        members = {"error": "access_denied", "error_description": "The request was denied.", "state": wanted.state}
        return self._send_back(request, wanted.redirect_uri, members)

    def _send_back(self, request: Request, redirect_uri: str, members: Mapping[str, str | None]) -> Response:
        """Redirects to the program, naming the issuer so that it cannot be mixed up with another (RFC 9207)."""
        address = redirect_with(redirect_uri, {**members, "iss": issuer_of(request, self._settings)})
        headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        return RedirectResponse(address, 302 if request.method == "GET" else 303, headers=headers)

    def _sign_in_page(
        self, request: Request, content: dict[str, Any], *, login: str = "", error: OAuthError | None = None
    ) -> Response:
        browser = request.cookies.get(COOKIE) or secrets.token_urlsafe(24)
        ticket = self._tickets.write("sign-in", content, browser=browser, at=now())
        fields = html.form(
            self._action(content),
            {"step": "sign-in", "ticket": ticket},
            [html.sign_in_fields(login), html.buttons(("sign-in", "Sign in"), ("cancel", "Cancel"))],
        )
        intro = html.paragraph(f"{_program(content)} wants to work with your account.", "soft")
        response = html.page(
            "Sign in",
            [html.alert(None if error is None else error.description), intro, fields],
            status=200 if error is None else error.status,
            form_targets=_targets(content),
            headers={} if error is None or error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)},
        )
        response.set_cookie(COOKIE, browser, path=REALM_PATH, httponly=True, samesite="lax", secure=self._is_https(request))
        return response

    def _consent_page(self, request: Request, content: dict[str, Any], *, email: str, choices: list[html.Choice]) -> Response:
        ticket = self._tickets.write("consent", content, browser=request.cookies.get(COOKIE, ""), at=now())
        narrowed = _narrowed(content)
        asks = (
            html.paragraph("It may do everything that your role allows.")
            if narrowed is None
            else html.paragraph("It may, as far as your role allows:")
            + html.bullets([scopes.DESCRIPTIONS[each] for each in narrowed])
        )
        known = [("Signed in as", email), *_whereto(content)]
        choice = html.organization_field(choices)
        act = html.buttons(("allow", "Allow"), ("deny", "Deny"))
        fields = html.form(self._action(content), {"step": "consent", "ticket": ticket}, [choice, act])
        check = _check_code(content)
        return html.page(
            f"Allow {_program(content)}?", [check, asks, html.facts(known), fields], form_targets=_targets(content)
        )

    def _action(self, content: dict[str, Any]) -> str:
        return rfc8628_device.DEVICE_PAGE if content["flow"] == "device" else AUTHORIZATION_PAGE

    def _is_https(self, request: Request) -> bool:
        return issuer_of(request, self._settings).startswith("https:")

    def _showing(self, endpoint: Endpoint) -> Endpoint:
        """Returns the endpoint with its refusals as pages."""

        async def show(request: Request) -> Response:
            try:
                return await endpoint(request)
            except OAuthError as error:
                return _problem_page(error.description, status=error.status)
            except Exception as error:
                refusal = as_refusal(error)
                if refusal is None:
                    raise
                return _refusal_page(refusal)

        return show


def _code_page(code: str, *, problem: str | None = None) -> Response:
    action = rfc8628_device.DEVICE_PAGE
    fields = html.form(action, {"step": "user-code"}, [html.user_code_field(code[:20]), html.buttons(("continue", "Continue"))])
    intro = html.paragraph("Enter the code that your device or terminal shows. Go on only if you started this yourself.")
    return html.page("Connect a device", [html.alert(problem), intro, fields], status=200 if problem is None else 400)


def _problem_page(text: str, *, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return html.page("This did not work", [html.alert(text)], status=status, headers=headers)


def _refusal_page(refusal: OperationError) -> Response:
    headers = {} if refusal.retry_after_s is None else {"Retry-After": str(refusal.retry_after_s)}
    return _problem_page(refusal.detail, status=refusal.status, headers=headers)


def _program(content: dict[str, Any]) -> str:
    name = content["client_name"] if content["flow"] == "device" else content["request"]["client_name"]
    return f"“{name}”"


def _narrowed(content: dict[str, Any]) -> list[str] | None:
    """Returns what the program asks for, or None when that is all there is: nobody reads a list of fifty."""
    if content["flow"] == "device":
        asked = None if content["scopes"] is None else frozenset(content["scopes"])
    else:
        asked = scopes.asked_for(content["request"]["scope"])
    return None if asked is None or asked >= scopes.CUSTOMER else sorted(asked)


def _whereto(content: dict[str, Any]) -> list[tuple[str, str]]:
    """Programs name themselves as they like; where the answer goes is what a human can hold against that."""
    if content["flow"] == "device":
        return []
    parts = urlsplit(content["request"]["redirect_uri"])
    return [("The answer goes to", parts.netloc if parts.scheme in {"http", "https"} else f"{parts.scheme}: on this device")]


def _check_code(content: dict[str, Any]) -> str:
    if content["flow"] != "device":
        return ""
    shown = rfc8628_device.shown_user_code(content["user_code"])
    return html.paragraph("Your device must show exactly this code:") + html.paragraph(shown, "code")


def _targets(content: dict[str, Any]) -> list[str]:
    """Where the form may lead in the end: browsers hold the redirect that follows a post against form-action too."""
    if content["flow"] == "device":
        return []
    parts = urlsplit(content["request"]["redirect_uri"])
    is_web = parts.scheme in {"http", "https"} and parts.hostname is not None and ":" not in parts.hostname
    return [f"{parts.scheme}://{parts.netloc}" if is_web else f"{parts.scheme}:"]
