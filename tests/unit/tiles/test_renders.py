"""Pictures are made in few threads, once for all who want them, and the latest are kept."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from geopera_server.adapters.renders import MOST_WAITING_AT_HOST, PER_HOST, LatestBytes, Threads
from geopera_server.ports.renders import Busy


@contextlib.asynccontextmanager
async def threads(**more):
    async with contextlib.aclosing(Threads(**{"threads": 2, "cache_bytes": 1_000, **more})) as found:
        yield found


class Gate:
    """Work that ends when it is let through, and knows how often and by how many at once it was done."""

    def __init__(self):
        self.open = threading.Event()
        self.begun = self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def __call__(self):
        with self._lock:
            self.begun += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        assert self.open.wait(10)
        with self._lock:
            self.at_once -= 1
        return b"picture"


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_a_picture_is_made_once_for_all_and_then_kept():
    async with threads() as renders:
        gate = Gate()
        waiting = [asyncio.create_task(renders.picture("a", gate)) for _ in range(5)]
        await until(lambda: gate.begun)
        gate.open.set()
        assert await asyncio.gather(*waiting) == [b"picture"] * 5
        assert await renders.picture("a", gate) == b"picture"
        assert gate.begun == 1
        assert await renders.picture("b", lambda: b"other") == b"other"


@pytest.mark.asyncio
async def test_whoever_leaves_does_not_take_the_picture_from_others():
    async with threads() as renders:
        gate = Gate()
        leaving, staying = (asyncio.create_task(renders.picture("a", gate)) for _ in range(2))
        await until(lambda: gate.begun)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        gate.open.set()
        assert await staying == b"picture"


@pytest.mark.asyncio
async def test_only_so_many_are_made_at_once_and_only_so_many_wait():
    async with threads(most_waiting=3) as renders:
        gate = Gate()
        taken = [asyncio.create_task(renders.picture(str(number), gate)) for number in range(5)]
        await until(lambda: gate.begun == 2)
        with pytest.raises(Busy):
            await renders.picture("one more", gate)
        with pytest.raises(Busy):
            await renders.run(gate)
        gate.open.set()
        await asyncio.gather(*taken)
        assert gate.most_at_once == 2
        assert await renders.run(lambda: 7) == 7


@pytest.mark.asyncio
async def test_a_failure_is_told_to_all_and_not_kept():
    async with threads() as renders:

        def fails():
            raise OSError("gone")

        for outcome in await asyncio.gather(*(renders.picture("a", fails) for _ in range(3)), return_exceptions=True):
            assert isinstance(outcome, OSError)
        assert await renders.picture("a", lambda: b"back") == b"back"


def test_the_cache_holds_so_many_bytes_and_forgets_what_was_used_longest_ago():
    cache = LatestBytes(80)
    for name in "abcdefgh":
        cache.add(name, name.encode() * 10)
    assert cache.get("a") == b"a" * 10
    cache.add("i", b"i" * 10)
    assert (cache.get("b"), cache.get("a"), cache.held_bytes) == (None, b"a" * 10, 80)
    cache.add("large", b"x" * 11)
    assert cache.get("large") is None
    cache.add("a", b"")
    assert cache.held_bytes == 70


def test_without_room_nothing_is_kept():
    cache = LatestBytes(0)
    cache.add("a", b"a")
    assert cache.get("a") is None


@pytest.mark.asyncio
async def test_a_slow_host_makes_nobody_wait_but_those_who_want_its_files():
    gate = Gate()
    async with threads() as renders:
        waiting = [asyncio.create_task(renders.picture(f"slow {n}", gate, host="slow.test")) for n in range(PER_HOST + 3)]
        await until(lambda: gate.at_once == PER_HOST)
        assert await renders.picture("own", lambda: b"own") == b"own"
        assert await renders.picture("quick", lambda: b"quick", host="quick.test") == b"quick"
        gate.open.set()
        assert await asyncio.gather(*waiting) == [b"picture"] * (PER_HOST + 3)
        assert gate.most_at_once == PER_HOST


@pytest.mark.asyncio
async def test_few_wait_for_one_host():
    gate = Gate()
    async with threads() as renders:
        most = PER_HOST + MOST_WAITING_AT_HOST
        waiting = [asyncio.create_task(renders.run(gate, host="slow.test")) for _ in range(most)]
        await until(lambda: gate.at_once == PER_HOST)
        with pytest.raises(Busy):
            await renders.run(gate, host="slow.test")
        gate.open.set()
        assert len(await asyncio.gather(*waiting)) == most
        assert await renders.run(lambda: 7, host="slow.test") == 7
