"""RFC 7591: a program registers itself, which gives it an id and no rights; only a human's consent does that."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from geopera_server.domains.identity.oauth import rfc6749_code, rfc6749_refresh, rfc8628_device
from geopera_server.domains.identity.oauth.errors import OAuthError
from geopera_server.domains.identity.oauth.realm import Realm, new_secret
from geopera_server.domains.identity.store import grants
from geopera_server.values.ids import new_id

GRANT_TYPES = (rfc6749_code.GRANT_TYPE, rfc6749_refresh.GRANT_TYPE, rfc8628_device.GRANT_TYPE)
AUTH_METHODS = ("none", "client_secret_basic", "client_secret_post")
MAX_REDIRECT_URIS = 20
MAX_URI_LENGTH = 2_000
MAX_NAME_LENGTH = 200
# Schemes that a browser would act on itself instead of handing them to a program.
_UNSAFE_SCHEMES = frozenset({"javascript", "data", "vbscript", "file", "blob", "about", "ftp", "ws", "wss", "view-source"})
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a program says of itself, checked."""

    name: str
    redirect_uris: tuple[str, ...]
    grant_types: tuple[str, ...]
    auth_method: str


def read_registration(body: Mapping[str, Any]) -> Registration:
    """Returns the registration that a JSON body asks for, with the defaults of section 2.

    Raises OAuthError `invalid_redirect_uri` or `invalid_client_metadata`.
    """
    name = body.get("client_name") or "Unnamed program"
    if not isinstance(name, str) or not name.isprintable() or len(name) > MAX_NAME_LENGTH:
        raise _bad(f"client_name must be printable text of at most {MAX_NAME_LENGTH} characters.")
    auth_method = body.get("token_endpoint_auth_method", "client_secret_basic")
    if auth_method not in AUTH_METHODS:
        raise _bad(f"token_endpoint_auth_method must be one of {', '.join(AUTH_METHODS)}.")
    grant_types = _texts(body, "grant_types", [rfc6749_code.GRANT_TYPE])
    if unknown := [each for each in grant_types if each not in GRANT_TYPES]:
        raise _bad(f"Programs that register themselves cannot use the grant {unknown[0]}.")
    if rfc6749_refresh.GRANT_TYPE not in grant_types:
        # Every session comes with a refresh token, so every client may use one.
        grant_types = (*grant_types, rfc6749_refresh.GRANT_TYPE)
    if any(each != "code" for each in _texts(body, "response_types", ["code"])):
        raise _bad("response_types can only hold code.")
    redirect_uris = _texts(body, "redirect_uris", [])
    if rfc6749_code.GRANT_TYPE in grant_types and not redirect_uris:
        raise OAuthError("invalid_redirect_uri", "redirect_uris is missing.")
    for uri in redirect_uris:
        check_redirect_uri(uri)
    return Registration(name=name, redirect_uris=redirect_uris, grant_types=grant_types, auth_method=auth_method)


def check_redirect_uri(uri: str) -> None:
    """Raises OAuthError `invalid_redirect_uri` unless codes may be sent there.

    That is https, http on this very machine, or a scheme of the program's own (RFC 8252, section 7); never a fragment.
    """
    try:
        parts = urlsplit(uri)
        host = parts.hostname
    except ValueError as error:
        raise OAuthError("invalid_redirect_uri", f"{uri!r} is no address.") from error
    printable = uri.isascii() and uri.isprintable() and " " not in uri and len(uri) <= MAX_URI_LENGTH
    plain = printable and "#" not in uri and "@" not in parts.netloc and "\\" not in uri
    own_scheme = _SCHEME.fullmatch(parts.scheme) is not None and parts.scheme not in _UNSAFE_SCHEMES
    reachable = {"https": bool(host), "http": host in rfc6749_code.LOOPBACK}.get(parts.scheme, own_scheme)
    if not plain or not reachable:
        raise OAuthError(
            "invalid_redirect_uri", f"{uri[:200]!r} must be https, http on 127.0.0.1, or the program's own scheme; no fragment."
        )


async def register(realm: Realm, wanted: Registration, at: datetime) -> dict[str, Any]:
    """Stores a client and returns what it must know of itself (section 3.2.1); its secret is shown this once."""
    secret = None if wanted.auth_method == "none" else new_secret()
    client_id = new_id()
    async with realm.transaction() as conn:
        await grants.insert_client(
            conn,
            {
                "id": client_id,
                "name": wanted.name,
                "secret_hash": None if secret is None else realm.digest("client", secret),
                "redirect_uris": list(wanted.redirect_uris),
                "grant_types": list(wanted.grant_types),
                "dynamic": True,
                "at": at,
            },
        )
    reply: dict[str, Any] = {
        "client_id": client_id,
        "client_id_issued_at": int(at.timestamp()),
        "client_name": wanted.name,
        "redirect_uris": list(wanted.redirect_uris),
        "grant_types": list(wanted.grant_types),
        "response_types": ["code"],
        "token_endpoint_auth_method": wanted.auth_method,
    }
    return reply if secret is None else {**reply, "client_secret": secret, "client_secret_expires_at": 0}


def _texts(body: Mapping[str, Any], name: str, default: list[str]) -> tuple[str, ...]:
    value = body.get(name, default)
    if not isinstance(value, list) or len(value) > MAX_REDIRECT_URIS or not all(isinstance(each, str) for each in value):
        raise _bad(f"{name} must be a list of at most {MAX_REDIRECT_URIS} texts.")
    return tuple(value)


def _bad(description: str) -> OAuthError:
    return OAuthError("invalid_client_metadata", description)
