"""A host that acts out what hosts do, good and bad, for tests and trials."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from geopera_server.adapters.hosts.matching import matching
from geopera_server.kernel.stac import Item, captured_at
from geopera_server.ports.host import HostFailed, HostPage, HostQuery


@dataclass(slots=True)
class FakeHost:
    """Serves the given items; each field makes it misbehave in one way.

    `held` keeps answers back until the event is set (late), `failures` fails that many of the next searches, `forgets`
    leaves items of those ids out (partial), `repeats` gives every item twice (duplicate). `queries` is what it was asked.
    """

    items: Sequence[Item]
    held: asyncio.Event | None = None
    failures: list[HostFailed] = field(default_factory=list)
    forgets: frozenset[str] = frozenset()
    repeats: bool = False
    queries: list[HostQuery] = field(default_factory=list)

    async def search(self, query: HostQuery) -> HostPage:
        """Returns one page of the matching items, newest first; raises what `failures` holds next."""
        self.queries.append(query)
        if self.held is not None:
            await self.held.wait()
        if self.failures:
            raise self.failures.pop(0)
        found = matching([item for item in self.items if item["id"] not in self.forgets], query)
        rest = found if query.cursor is None else _after(found, query.cursor)
        page = rest[: query.limit]
        return HostPage(
            features=[each for item in page for each in [item] * (2 if self.repeats else 1)],
            cursor=_cursor(page[-1]) if len(rest) > len(page) else None,
            matched=len(found),
        )


def _after(items: Sequence[Item], cursor: str) -> list[Item]:
    try:
        last = tuple(orjson.loads(base64.b64decode(cursor)))
    except ValueError as error:
        raise HostFailed("This is no cursor of this host. Start again without it.", refused=True) from error
    return [item for item in items if _position(item) > last]


def _position(item: Item) -> tuple[float, str]:
    at = captured_at(item)
    return (float("inf") if at is None else -at.timestamp(), str(item["id"]))


def _cursor(item: Item) -> str:
    return base64.b64encode(orjson.dumps(_position(item))).decode()
