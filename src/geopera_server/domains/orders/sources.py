"""Which addresses the platform reads when it delivers: files below the source folders, and what a catalogue host names."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import httpx

from geopera_server.raster.errors import SourceRefused, SourceUnreachable

MAX_REDIRECTS = 5
ANSWER_WITHIN_S = 20.0


async def checked_source(href: str, *, roots: Sequence[Path], host_url: str | None) -> str:
    """Returns the address to read; raises SourceRefused for one that must not be read.

    Files have to lie below a source folder, whatever links lead there. Addresses on private networks are read only on the
    machine that the catalogue itself was registered with, so that a catalogue cannot make us look at our own neighbours.
    """
    parts = urlsplit(href)
    if parts.scheme in {"http", "https"}:
        return await _where_it_leads(href, host_url)
    if parts.scheme not in {"", "file"}:
        raise SourceRefused(href, "is no http(s) address or file")
    return _checked_file(href, Path(unquote(parts.path)), roots)


def _checked_file(href: str, path: Path, roots: Sequence[Path]) -> str:
    resolved = path.resolve()
    if not any(resolved.is_relative_to(root) for root in roots):
        raise SourceRefused(href, "does not lie in a source folder of this server; set GEOPERA_SOURCE_ROOTS")
    return str(resolved)


async def _where_it_leads(href: str, host_url: str | None) -> str:
    """Returns the address at the end of the redirects, each hop checked; whoever reads it meets no further ones."""
    address = href
    async with httpx.AsyncClient(timeout=ANSWER_WITHIN_S, follow_redirects=False, trust_env=False) as http:
        for _ in range(MAX_REDIRECTS + 1):
            await _check_network(address, urlsplit(address).hostname or "", host_url)
            try:
                async with http.stream("GET", address, headers={"Range": "bytes=0-0"}) as reply:
                    if not reply.is_redirect:
                        return address
                    address = urljoin(address, reply.headers["location"])
            except httpx.HTTPError:
                return address  # the reader meets the same trouble and tells it better
            if urlsplit(address).scheme not in {"http", "https"}:
                raise SourceRefused(href, "leads to something that is no http(s) address")
    raise SourceRefused(href, "leads from one address to the next without end")


async def _check_network(href: str, name: str, host_url: str | None) -> None:
    if host_url is not None and name == urlsplit(host_url).hostname:
        return
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise SourceUnreachable(href, "has a host name that cannot be resolved") from error
    addresses = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
    if not all(address.is_global for address in addresses):
        raise SourceRefused(href, "lies on a private network")
