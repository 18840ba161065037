"""The address that the links of a reply begin with."""

from __future__ import annotations

from urllib.parse import urlsplit

from geopera_server.kernel.errors import InvalidInput
from geopera_server.ports import Links


def base_url_of(links: Links, given: str | None) -> str:
    """Returns the address a caller has given, without a slash at its end, or this deployment's; raises InvalidInput."""
    if not given:
        return links.base_url
    try:
        parts = urlsplit(given)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query and not parts.fragment
    except ValueError:
        good = False
    if not good:
        raise InvalidInput(
            "base_url is an http or https address without query, such as https://eo.example.com.", loc=("base_url",)
        )
    return given.rstrip("/")
