"""Where pictures are made: few at a time, and those made last are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Busy(Exception):
    """More pictures wait to be made than are taken on; try again in a moment."""


class Renders(Protocol):
    """Runs work that computes for long beside the loop."""

    async def run(self, work: Callable[[], T], *, host: str | None = None) -> T:
        """Returns what the work returns, done in a thread once one is free; raises Busy, and whatever the work raises.

        `host` is whom the work waits for on the network: a slow one keeps nobody waiting but those who want something of it.
        """
        ...

    async def picture(self, key: str, work: Callable[[], bytes], *, host: str | None = None) -> bytes:
        """Returns the bytes that were made under a key before, or that the work makes now, once for all who wait for them.

        A key says everything that the bytes depend on. Raises Busy, and whatever the work raises, of which nothing is kept.
        """
        ...
