"""Which hosts may be connected to, and which network addresses are public."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# All that is routed between networks lies here; what the library calls global elsewhere is old, local or translated.
_ROUTED = ipaddress.IPv6Network("2000::/3")
_DOCUMENTATION = ipaddress.IPv6Network("3fff::/20")


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom somebody wants to talk to: `secure` means TLS from end to end."""

    host: str
    port: int
    secure: bool


def is_public(address: IPAddress) -> bool:
    """Says whether an address is reachable from everywhere, and does not stand for one that is not.

    IPv4 addresses inside IPv6 ones (mapped, 6to4, Teredo, NAT64) are judged by themselves.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        within = [each for each in inner if each is not None]
        if within:
            return all(is_public(each) for each in within)
        if address not in _ROUTED or address in _DOCUMENTATION:
            return False
    return address.is_global and not address.is_multicast


def literal(host: str) -> IPAddress | None:
    """Returns the address that a host is written as; None for a name."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None


class AllowList:
    """The hosts that callers may name: names, `*.domain`, or whole origins.

    A name allows https to public addresses. An origin, such as http://store.internal:9000, is what an operator means to be read
    exactly so, on whatever network it lies.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        listed = [entry.strip().lower().rstrip("/") for entry in entries if entry.strip()]
        self._origins = {_origin(entry) for entry in listed if "://" in entry}
        self._names = {entry for entry in listed if "://" not in entry and not entry.startswith("*.")}
        self._domains = tuple(entry[1:] for entry in listed if entry.startswith("*."))

    def has_origin(self, peer: Peer) -> bool:
        """Says whether exactly this origin is listed."""
        return peer in self._origins

    def has_name(self, host: str) -> bool:
        """Says whether a host is listed by its name or its domain."""
        name = host.lower().rstrip(".")
        return name in self._names or name.endswith(self._domains)


def _origin(entry: str) -> Peer:
    peer = peer_of(entry)
    if peer is None:
        raise ValueError(f"{entry!r} is no http(s) origin, such as https://imagery.example.com")
    return peer


def peer_of(href: str) -> Peer | None:
    """Returns whom an http(s) address names; None for one that names nobody clearly: no host, odd port, a user in it."""
    try:
        parts = urlsplit(href)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        return None
    secure = parts.scheme == "https"
    return Peer(parts.hostname.lower().rstrip("."), port or (443 if secure else 80), secure)
