"""What holds for shares and tile keys, whatever stores them: how long they live, what is kept of a visitor. Pure."""

from __future__ import annotations

import ipaddress
import math
import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

Status = Literal["active", "expired", "revoked"]
STATUSES: tuple[Status, ...] = ("active", "expired", "revoked")

TOKEN_PREFIX_LENGTH = 6
LONGEST_LIFE = timedelta(days=365)
MIN_PASSWORD_LENGTH = 8
MAX_PASSWORD_BYTES = 72

TICKET_LIFE = timedelta(hours=24)
LONGEST_KEY_LIFE = timedelta(days=5 * 365)
KEY_LIFE = timedelta(days=365)

FREE_TRIES = 5
TRIES_COUNT_FOR = timedelta(minutes=15)
ACCESSES_KEPT = 50
MOST_ITEMS_SHOWN = 1_000

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


def new_token() -> str:
    """Returns a fresh token: 256 random bits in 43 url-safe characters."""
    return secrets.token_urlsafe(32)


def has_token_form(text: str) -> bool:
    """Says whether a text can be a token; one that cannot is nobody's."""
    return _TOKEN.fullmatch(text) is not None


def password_refusal(password: str) -> str | None:
    """Returns why a password is not taken for a link, or None."""
    if len(password) < MIN_PASSWORD_LENGTH:
        return f"A password has at least {MIN_PASSWORD_LENGTH} characters."
    if len(password.encode()) > MAX_PASSWORD_BYTES:
        return f"A password has at most {MAX_PASSWORD_BYTES} bytes."
    return None


def expiry_refusal(expires_at: datetime, at: datetime, *, longest: timedelta) -> str | None:
    """Returns why an end is not taken, or None."""
    if expires_at <= at:
        return "expires_at lies in the past. Choose a time to come."
    if expires_at > at + longest:
        return f"expires_at lies more than {longest.days} days ahead. Choose an earlier time."
    return None


def status_of(row: Mapping[str, Any], at: datetime) -> Status:
    """Returns how a link or key stands by itself, whatever became of its target."""
    if row["revoked_at"] is not None:
        return "revoked"
    return "expired" if row["expires_at"] <= at else "active"


def is_over(row: Mapping[str, Any], at: datetime) -> bool:
    """Says whether a link or key, read with its target and organization, opens nothing any more."""
    return (
        status_of(row, at) != "active"
        or not row["target_lives"]
        or row["standing"] == "suspended"
        or row["purge_started_at"] is not None
    )


def ticket_ends(link: Mapping[str, Any], at: datetime) -> datetime:
    """Returns until when a ticket serves that is given out now: a day, and no longer than the link."""
    ends: datetime = min(at + TICKET_LIFE, link["expires_at"])
    return ends


def wait_for_try_s(tries: Mapping[str, float], at: datetime) -> int:
    """Returns in how many seconds a visitor may try a password again who tried at these times; 0 for now."""
    longest_s = TRIES_COUNT_FOR.total_seconds()
    live = sorted(tried for tried in tries.values() if tried > at.timestamp() - longest_s)
    return 0 if len(live) < FREE_TRIES else math.ceil(live[-FREE_TRIES] + longest_s - at.timestamp())


def ip_prefix(ip: str | None) -> str | None:
    """Returns the network of an address: /24, or /48 of IPv6; None for what is no address."""
    return _network(ip, v4=24, v6=48)


def visitor_network(ip: str | None) -> str:
    """Returns what tries are counted by: the address, or its /64 of IPv6, of which one machine has all addresses."""
    return _network(ip, v4=32, v6=64) or "unknown"


def _network(ip: str | None, *, v4: int, v6: int) -> str | None:
    try:
        address = ipaddress.ip_address(ip or "")
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    length = v4 if address.version == 4 else v6
    return str(ipaddress.ip_network(f"{address}/{length}", strict=False))
