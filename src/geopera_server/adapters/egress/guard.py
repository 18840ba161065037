"""A proxy on this machine that all of GDAL's reading over the network goes through.

It resolves a name once, judges what it found, and connects to exactly that: a name that leads elsewhere a moment later, and a
redirect, are judged like a first address. What is allowed depends on the port that is connected to: the library inside GDAL
uses a tunnel again for all that goes through the same proxy, whatever user it names. A password known to this process alone
keeps others on the machine from using it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import functools
import hmac
import ipaddress
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from geopera_server.adapters.egress.rules import AllowList, Peer, is_public, literal, peer_of

logger = logging.getLogger(__name__)

LISTED = "listed"
PUBLIC = "public"
REFUSED = 451
MAX_HEAD_BYTES = 32 * 1024
HEAD_WITHIN_S = 10.0
CONNECT_WITHIN_S = 10.0
_CHUNK = 256 * 1024
_BETWEEN_US = frozenset({"proxy-authorization", "proxy-connection", "connection"})


class _Refused(Exception):
    """The way is not open; the text is for the log."""


class Guard:
    """Judges addresses, and connects to those that are allowed."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._allowed = AllowList(entries)
        self._password = secrets.token_hex(32)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._proxies: dict[str, str] = {}
        self._listening: dict[str, asyncio.Task[asyncio.Server]] = {}

    def refusal_of(self, href: str) -> str | None:
        """Returns why an address that a caller named is not read, in words that follow it; None for one that is."""
        peer = peer_of(href)
        if peer is None or any(ord(each) <= 0x20 or ord(each) == 0x7F for each in href):
            return "is no https address without user and password"
        if self._allowed.has_origin(peer):
            return None
        if not peer.secure:
            return "is not an https address"
        address = literal(peer.host)
        if address is not None and not is_public(address):
            return "lies on a private network"
        if not self._allowed.has_name(peer.host):
            return "is on a host that this server does not read from; ask its operator to add it to GEOPERA_RASTER_HOSTS"
        return None

    def way_to_listed(self) -> Mapping[str, str]:
        """Returns the GDAL options for what a caller names: hosts of the allow list alone, also behind redirects."""
        return self._way(LISTED)

    def way_to_public(self, *, known_host: str | None = None) -> Mapping[str, str]:
        """Returns the GDAL options under which a catalogue's address is read: public hosts, and the one it is known at."""
        return self._way(f"{PUBLIC}={known_host.lower()}" if known_host else PUBLIC)

    def _way(self, rule: str) -> Mapping[str, str]:
        if rule not in self._proxies:
            self._proxies[rule] = self._opened(rule)
        return {
            "GDAL_HTTP_PROXY": self._proxies[rule],
            "GDAL_HTTPS_PROXY": self._proxies[rule],
            "GDAL_PROXY_AUTH": "BASIC",
            "GDAL_HTTP_PROXYUSERPWD": f"geopera:{self._password}",
        }

    def _opened(self, rule: str) -> str:
        """Returns the address of a new proxy that lets through what a rule allows."""
        if self._loop is None:
            raise RuntimeError("there is no way out before the guard is open")
        taking = socket.create_server(("127.0.0.1", 0), backlog=128)
        serve = functools.partial(self._serve, rule)
        self._listening[rule] = self._loop.create_task(asyncio.start_server(serve, sock=taking, limit=MAX_HEAD_BYTES))
        host, port = taking.getsockname()[:2]
        return f"http://{host}:{port}"

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Takes connections on loopback ports for the length of the block."""
        # The library inside GDAL would go around the proxy for hosts that these name.
        for name in ("no_proxy", "NO_PROXY"):
            os.environ.pop(name, None)
        self._loop = asyncio.get_running_loop()
        try:
            yield
        finally:
            self._loop = None
            for server in await asyncio.gather(*self._listening.values()):
                server.close()
            self._proxies.clear()
            self._listening.clear()

    async def _serve(self, rule: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._pass_on(rule, reader, writer)
        except _Refused as refused:
            logger.info("a way out was refused: %s", refused)
            await _answer(writer, REFUSED, "Refused")
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError) as error:
            logger.debug("a way out ended: %s", error)
        except OSError as error:
            logger.info("a host could not be reached: %s", error)
            await _answer(writer, 502, "Unreachable")
        finally:
            writer.close()

    async def _pass_on(self, rule: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(HEAD_WITHIN_S):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, _, rest = head.partition("\r\n")
        method, _, target = line.rpartition(" ")[0].partition(" ")
        headers = [each.partition(":")[::2] for each in rest.split("\r\n") if each]
        self._check_password(headers)
        peer = _tunnelled(target) if method == "CONNECT" else peer_of(target)
        if peer is None:
            raise _Refused(f"{method} names nobody")
        far_reader, far_writer = await self._connect(peer, rule)
        try:
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await _until_one_ends(_carry(reader, far_writer), _carry(far_reader, writer))
            else:
                far_writer.write(_plain_head(method, target, headers))
                # Whatever else is asked here may be meant for another host, and is to be asked anew.
                await _until_one_ends(reader.read(1), _carry(far_reader, writer))
        finally:
            far_writer.close()

    def _check_password(self, headers: Iterable[tuple[str, str]]) -> None:
        for name, value in headers:
            if name.strip().lower() == "proxy-authorization":
                try:
                    given = base64.b64decode(value.strip().partition(" ")[2]).partition(b":")[2]
                except binascii.Error as error:
                    raise _Refused("the password cannot be read") from error
                if hmac.compare_digest(given, self._password.encode()):
                    return
        raise _Refused("somebody else asks")

    async def _connect(self, peer: Peer, rule: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connects to what the name resolved to, and to nothing else."""
        kind, _, known_host = rule.partition("=")
        anywhere = self._allowed.has_origin(peer) if kind == LISTED else peer.host == known_host
        if kind == LISTED and not anywhere and not (peer.secure and self._allowed.has_name(peer.host)):
            raise _Refused(f"{peer.host} is not on the list")
        async with asyncio.timeout(CONNECT_WITHIN_S):
            found = await asyncio.get_running_loop().getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
            if not anywhere and not all(is_public(ipaddress.ip_address(each.partition("%")[0])) for each in addresses):
                raise _Refused(f"{peer.host} lies on a private network")
            return await _first_that_answers(addresses, peer.port)


async def _first_that_answers(addresses: list[str], port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    for address in addresses[:-1]:
        try:
            return await asyncio.open_connection(address, port)
        except OSError as error:
            logger.debug("%s does not answer: %s", address, error)
    return await asyncio.open_connection(addresses[-1], port)


def _tunnelled(target: str) -> Peer | None:
    return peer_of(f"https://{target}")


def _plain_head(method: str, target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    parts = urlsplit(target)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    kept = [f"{name}:{value}" for name, value in headers if name.strip().lower() not in _BETWEEN_US]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""]).encode("latin-1")


async def _until_one_ends(*ways: Coroutine[Any, Any, Any]) -> None:
    """Runs both until the far side has no more to say or the near side leaves."""
    running = [asyncio.create_task(way) for way in ways]
    try:
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in running:
            way.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK):
        writer.write(chunk)
        await writer.drain()


async def _answer(writer: asyncio.StreamWriter, status: int, reason: str) -> None:
    with contextlib.suppress(ConnectionError):
        writer.write(f"HTTP/1.1 {status} {reason}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
