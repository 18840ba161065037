"""Which addresses the platform reads when it delivers: files below the source folders, and what a catalogue host names."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from geopera_server.raster.errors import SourceRefused, SourceUnreachable


async def checked_source(href: str, *, roots: Sequence[Path], host_url: str | None) -> str:
    """Returns the address to read; raises SourceRefused for one that must not be read.

    Files have to lie below a source folder, whatever links lead there. Addresses on private networks are read only on the
    machine that the catalogue itself was registered with, so that a catalogue cannot make us look at our own neighbours.
    """
    parts = urlsplit(href)
    if parts.scheme in {"http", "https"}:
        await _check_network(href, parts.hostname or "", host_url)
        return href
    if parts.scheme not in {"", "file"}:
        raise SourceRefused(href, "is no http(s) address or file")
    return _checked_file(href, Path(unquote(parts.path)), roots)


def _checked_file(href: str, path: Path, roots: Sequence[Path]) -> str:
    resolved = path.resolve()
    if not any(resolved.is_relative_to(root) for root in roots):
        raise SourceRefused(href, "does not lie in a source folder of this server; set GEOPERA_SOURCE_ROOTS")
    return str(resolved)


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
