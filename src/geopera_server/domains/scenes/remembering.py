"""What was found out of a scene a moment ago: a map asks for dozens of tiles of one scene at once, and anybody may ask.

However many ask, a scene is looked for by one at a time, few scenes are looked for side by side, and what there is not is
known for a while too.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from geopera_server.kernel.errors import NotFound, OperationError, Unavailable

T = TypeVar("T")

FOUND_FOR_S = 60.0
MISSING_FOR_S = 60.0
SILENT_FOR_S = 10.0
AT_ONCE = 8
MOST_WAITING = 64
MOST_KEPT = 2_000


@dataclass(frozen=True, slots=True)
class _Outcome(Generic[T]):
    found: T | None
    refusal: OperationError | None
    until: float


class Remembered(Generic[T]):
    """Things by key, each found out once for all who ask within a minute."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, _Outcome[T]] = OrderedDict()
        self._looking: dict[str, asyncio.Task[_Outcome[T]]] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def get(self, key: str, look: Callable[[], Awaitable[T]]) -> T:
        """Returns what `look` finds under a key, or found a moment ago; raises what it raised, or Unavailable in a crowd."""
        known = self._kept.get(key)
        if known is None or known.until <= self._clock():
            # Others may wait for the same: whoever leaves does not take it from them.
            known = await asyncio.shield(self._looking.get(key) or self._begun(key, look))
        if known.refusal is not None:
            raise known.refusal.with_traceback(None)
        assert known.found is not None
        return known.found

    def _begun(self, key: str, look: Callable[[], Awaitable[T]]) -> asyncio.Task[_Outcome[T]]:
        if len(self._looking) >= AT_ONCE + MOST_WAITING:
            raise Unavailable("Too many scenes are looked for at the moment. Try again in a few seconds.", retry_after_s=5)
        task = self._looking[key] = asyncio.create_task(self._looked(key, look))
        return task

    async def _looked(self, key: str, look: Callable[[], Awaitable[T]]) -> _Outcome[T]:
        try:
            async with self._turn:
                outcome = await self._outcome(look)
            self._kept[key] = outcome
            self._kept.move_to_end(key)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
            return outcome
        finally:
            del self._looking[key]

    async def _outcome(self, look: Callable[[], Awaitable[T]]) -> _Outcome[T]:
        try:
            return _Outcome(await look(), None, self._clock() + FOUND_FOR_S)
        except OperationError as refusal:
            lasts = MISSING_FOR_S if isinstance(refusal, NotFound) else SILENT_FOR_S
            return _Outcome(None, refusal, self._clock() + lasts)
