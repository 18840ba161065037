"""Pictures made in a few threads of this process, the latest kept in memory.

What is read from hosts elsewhere has threads of its own, of which one host holds half at most: no host that is slow, or that
gives no answer, makes anybody wait for pictures of other files.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from geopera_server.ports.renders import Busy

T = TypeVar("T")

# Reading waits for disks and networks now and then: one thread more than cores keeps all of them busy.
SPARE_THREADS = 1
MOST_WAITING = 256
AWAY_THREADS = 8
PER_HOST = 4
MOST_WAITING_AT_HOST = 64


class Threads:
    """A bounded number of threads with a bounded queue before them, and a cache of a bounded number of bytes behind."""

    def __init__(self, *, threads: int | None = None, cache_bytes: int, most_waiting: int = MOST_WAITING) -> None:
        count = threads or (os.cpu_count() or 1) + SPARE_THREADS
        self._pool = ThreadPoolExecutor(max_workers=count, thread_name_prefix="render")
        self._away = ThreadPoolExecutor(max_workers=AWAY_THREADS, thread_name_prefix="render-away")
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._most = count + most_waiting
        self._taken_on: Counter[str | None] = Counter()
        self._making: dict[str, asyncio.Future[bytes]] = {}
        self._kept = LatestBytes(cache_bytes)

    async def run(self, work: Callable[[], T], *, host: str | None = None) -> T:
        """Returns what the work returns; raises Busy when too much waits."""
        return await self._begun(work, host)

    async def picture(self, key: str, work: Callable[[], bytes], *, host: str | None = None) -> bytes:
        """Returns the bytes under a key, made at most once at a time."""
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        making = self._making.get(key)
        if making is None:
            making = self._making[key] = self._begun(work, host)
            making.add_done_callback(functools.partial(self._made, key))
        # Others may wait for the same picture: whoever leaves does not take it from them.
        return await asyncio.shield(making)

    async def aclose(self) -> None:
        """Takes on nothing more and leaves what is in hand to end."""
        for pool in (self._pool, self._away):
            pool.shutdown(wait=False, cancel_futures=True)

    def _begun(self, work: Callable[[], T], host: str | None) -> asyncio.Future[T]:
        most = self._most if host is None else PER_HOST + MOST_WAITING_AT_HOST
        if self._taken_on[host] >= most:
            raise Busy
        self._taken_on[host] += 1
        begun: asyncio.Future[T]
        if host is None:
            begun = asyncio.get_running_loop().run_in_executor(self._pool, work)
        else:
            begun = asyncio.ensure_future(self._at(host, work))
        begun.add_done_callback(functools.partial(self._ended, host))
        return begun

    async def _at(self, host: str, work: Callable[[], T]) -> T:
        async with self._turns.setdefault(host, asyncio.Semaphore(PER_HOST)):
            return await asyncio.get_running_loop().run_in_executor(self._away, work)

    def _ended(self, host: str | None, _: asyncio.Future[Any]) -> None:
        self._taken_on[host] -= 1
        if not self._taken_on[host]:
            del self._taken_on[host]
            self._turns.pop(host or "", None)

    def _made(self, key: str, making: asyncio.Future[bytes]) -> None:
        del self._making[key]
        if not making.cancelled() and making.exception() is None:
            self._kept.add(key, making.result())


class LatestBytes:
    """Byte strings under keys, those used longest ago given up first; thread-safe."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._held = 0
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, bytes] = OrderedDict()

    def get(self, key: str) -> bytes | None:
        """Returns the bytes under a key, None when they are not held."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return found

    def add(self, key: str, body: bytes) -> None:
        """Holds bytes; what is larger than an eighth of all room is not held."""
        if len(body) * 8 > self._capacity:
            return
        with self._lock:
            before = self._entries.pop(key, None)
            self._held += len(body) - (0 if before is None else len(before))
            self._entries[key] = body
            while self._held > self._capacity:
                _, gone = self._entries.popitem(last=False)
                self._held -= len(gone)

    @property
    def held_bytes(self) -> int:
        return self._held
