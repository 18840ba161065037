"""What a handler may answer with besides a JSON value: bytes, pieces that are still being made, or another address."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Literal

Freshness = Literal["private", "public"]
FRESH_FOR_S = 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """An answer of bytes, such as an image; with an `etag` it may be kept for an hour and asked after."""

    body: bytes
    media_type: str
    etag: str | None = None
    kept: Freshness = "private"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotModified:
    """The caller already has what they ask for: `Asked.if_none_match` names this tag."""

    etag: str
    kept: Freshness = "private"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """An answer that goes out piece by piece while it is made; a caller who leaves ends the making."""

    pieces: AsyncGenerator[bytes, None]
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """What is asked for lies at another address: a GET is redirected there (307), a POST is told, since many clients
    follow no redirects.
    """

    url: str
    body: dict[str, Any]


Answer = Media | NotModified | Stream | Elsewhere
