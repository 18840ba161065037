"""What the house needs from outside, each as a Protocol of one to three methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from psycopg import AsyncConnection

from geopera_server.ports.addresses import Addresses
from geopera_server.ports.host import Host
from geopera_server.ports.meter import Meter
from geopera_server.ports.payments import Processor
from geopera_server.ports.renders import Renders
from geopera_server.ports.store import ObjectStore

Connect = Callable[[], AbstractAsyncContextManager[AsyncConnection[dict[str, Any]]]]
HostFor = Callable[[Mapping[str, Any]], Host]


class Links(Protocol):
    """Makes addresses of this deployment; computes, never asks the network."""

    base_url: str

    def download(self, path: str, *, file_name: str, media_type: str, expires_at: datetime) -> str:
        """Returns an address that serves the stored object to whoever holds it, until it expires."""
        ...

    def seal(self, text: str) -> str:
        """Returns a token that holds the text readably and cannot be forged."""
        ...

    def unseal(self, token: str) -> str | None:
        """Returns the text of a token of ours; None for anything else."""
        ...


class Secrets(Protocol):
    """What follows from this deployment's secret without giving it away; computes, never asks the network."""

    def digest(self, purpose: str, text: str) -> bytes:
        """Returns the HMAC-SHA256 of a text under the key for one purpose."""
        ...

    def verifies_seal(self, message: bytes, signature: str) -> bool:
        """Says whether the signature is this deployment's own over a sealed block of lineage."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The adapters that the composition root has chosen."""

    connect: Connect
    host_for: HostFor
    store: ObjectStore
    processor: Processor
    meter: Meter
    addresses: Addresses
    renders: Renders
    source_roots: tuple[Path, ...]
    scratch: Path
