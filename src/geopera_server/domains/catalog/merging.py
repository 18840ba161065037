"""Several sources as one list: newest first, page after page, each scene once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from geopera_server.domains.catalog.asking import Answer, ask
from geopera_server.domains.catalog.features import Feature
from geopera_server.domains.catalog.reading import Reading, read_items
from geopera_server.domains.catalog.sources import Source
from geopera_server.kernel.context import Outside
from geopera_server.ports.host import HostFailed, HostQuery

PAGES_PER_CALL = 6
"""Pages of one source that one call may ask for, when most of what comes back is not shown."""

ENOUGH_TO_LEAVE_THE_LOOP = 64
_REMEMBERED = 16

Present = Callable[[Source, Sequence[Reading]], list[Feature]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a source's pages stand: the page's cursor, and how many of its features have been taken."""

    cursor: str | None = None
    taken: int = 0


@dataclass(slots=True, kw_only=True)
class Stream:
    """One source's features, fetched page by page as they are needed; `place` is behind the last one taken."""

    outside: Outside
    source: Source
    query: HostQuery
    present: Present
    place: Place = field(default_factory=Place)
    head: Feature | None = None
    count: int = 0
    passed_over: int = 0
    stale: bool = False
    matched: int | None = None
    failure: HostFailed | None = None
    _page: list[Feature] | None = None
    _following: str | None = None
    _asked: int = 0

    async def advance(self) -> None:
        """Puts the next feature into `head`; None at the end, after a failure, and when enough pages were asked for."""
        self.head = None
        while self.has_more:
            if self._page is None:
                if self._asked >= PAGES_PER_CALL:
                    return
                await self._fetch()
            elif self.place.taken < len(self._page):
                self.head = self._page[self.place.taken]
                return
            else:
                self.place, self._page = Place(self._following), None

    def take(self) -> None:
        """Moves behind the feature in `head`."""
        self.place = replace(self.place, taken=self.place.taken + 1)
        self.head = None

    @property
    def has_more(self) -> bool:
        """Says whether there may be something behind `place`."""
        if self.failure is not None:
            return False
        return self._page is None or self.place.taken < len(self._page) or self._following is not None

    async def _fetch(self) -> None:
        self._asked += 1
        try:
            answer = await ask(self.outside, self.source, replace(self.query, cursor=self.place.cursor))
        except HostFailed as failure:
            self.failure = failure
            return
        if len(answer.items) < ENOUGH_TO_LEAVE_THE_LOOP:
            self._page = self._shown(answer)
        else:
            self._page = await asyncio.to_thread(self._shown, answer)
        self._following, self.matched = answer.cursor, answer.matched
        self.stale = self.stale or answer.stale

    def _shown(self, answer: Answer) -> list[Feature]:
        return self.present(self.source, read_items(self.source, answer.items, stale=answer.stale))


async def merge(streams: Sequence[Stream], limit: int, seen: Sequence[str], wanted: Callable[[Feature], bool]) -> list[Feature]:
    """Takes up to `limit` features off the streams, the newest first.

    A scene that several sources have is taken once, from the first that gives it; `seen` are ids that an earlier page
    ended with. Features that are not wanted are passed over. Streams keep their places for the next page.
    """
    await asyncio.gather(*(stream.advance() for stream in streams))
    taken: list[Feature] = []
    known = set(seen)
    while ready := [stream for stream in streams if stream.head is not None]:
        # The first of equals: sources keep their order, so that pages repeat exactly.
        newest = min(ready, key=_rank)
        feature = newest.head
        assert feature is not None
        newest.take()
        if feature.id in known or not wanted(feature):
            newest.passed_over += 1
        else:
            taken.append(feature)
            known.add(feature.id)
            newest.count += 1
            if len(taken) == limit:
                break
        await newest.advance()
    return taken


def _rank(stream: Stream) -> tuple[float, str]:
    assert stream.head is not None
    return -stream.head.captured_at.timestamp(), stream.head.id


def last_ids(taken: Sequence[Feature]) -> list[str]:
    """Returns the ids with which the next page must not begin again; the same scene has nearly the same time everywhere."""
    return [feature.id for feature in taken[-_REMEMBERED:]]
