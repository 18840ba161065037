"""Reads what the OAuth endpoints and the sign-in pages are sent."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.requests import Request

from geopera_server.domains.identity.oauth.errors import invalid_request
from geopera_server.domains.identity.oauth.realm import REALM_PATH
from geopera_server.settings import Settings
from geopera_server.transports.http.calls import read_body

MAX_FORM_BYTES = 64 * 1024
MAX_FIELDS = 40


async def read_form(request: Request) -> dict[str, str]:
    """Returns the parameters of a form; empty ones count as left out (RFC 6749, section 3.2).

    Raises OAuthError `invalid_request` for anything that is no form, or that names a parameter twice.
    """
    body = await read_body(request, MAX_FORM_BYTES)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and media_type != "application/x-www-form-urlencoded":
        raise invalid_request("Send the parameters as application/x-www-form-urlencoded.")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError as error:
        raise invalid_request("The form cannot be read.") from error
    return once_each(pairs)


def once_each(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Returns the parameters by name; raises OAuthError `invalid_request` for one that is there twice or holds a NUL."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise invalid_request("A parameter must not be sent twice.")
    if any("\x00" in name + value for name, value in pairs):
        raise invalid_request("A parameter must not hold a NUL character.")
    return {name: value for name, value in pairs if value}


def issuer_of(request: Request, settings: Settings) -> str:
    """Returns the realm's own address: the configured one, else the one it was reached under."""
    return (settings.public_url or str(request.base_url)).rstrip("/") + REALM_PATH


def ip_of(request: Request) -> str:
    """Returns the address of the caller."""
    return request.client.host if request.client else "unknown"
