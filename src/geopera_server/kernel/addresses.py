"""The address that the links of a reply begin with."""

from __future__ import annotations

from urllib.parse import urlsplit

from geopera_server.kernel.errors import InvalidInput
from geopera_server.ports import Links

MAX_ADDRESS = 2_000


def base_url_of(links: Links, given: str | None) -> str:
    """Returns the address a caller has given, without a slash at its end, or this deployment's; raises InvalidInput."""
    return checked_base_url(given) if given else links.base_url


def checked_base_url(text: str) -> str:
    """Returns an address without a slash at its end; raises InvalidInput for what is no http or https address."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query and not parts.fragment
    except ValueError:
        good = False
    if not good or len(text) > MAX_ADDRESS or any(ord(each) <= 0x20 for each in text):
        raise InvalidInput(
            "base_url is an http or https address without query, such as https://eo.example.com.", loc=("base_url",)
        )
    return text.rstrip("/")
