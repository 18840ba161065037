"""A scene is looked for once for all who ask, few are looked for side by side, and what there is not is known too."""

from __future__ import annotations

import asyncio

import pytest

from geopera_server.domains.scenes.remembering import (
    AT_ONCE,
    FOUND_FOR_S,
    MISSING_FOR_S,
    MOST_KEPT,
    MOST_WAITING,
    SILENT_FOR_S,
    Remembered,
)
from geopera_server.kernel.errors import NotFound, Unavailable


class Host:
    """Says of every scene what `answers` has, and counts who asked, also at the same time."""

    def __init__(self):
        self.now = 0.0
        self.asked = []
        self.at_once = self.most_at_once = 0
        self.open = asyncio.Event()
        self.open.set()
        self.refusal = None
        self.known = Remembered(clock=lambda: self.now)

    def get(self, key):
        return self.known.get(key, lambda: self._look(key))

    async def _look(self, key):
        self.asked.append(key)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.open.wait()
            if self.refusal is not None:
                raise self.refusal
            return f"scene {key}"
        finally:
            self.at_once -= 1


async def test_all_who_ask_at_once_wait_for_one_answer():
    host = Host()
    assert set(await asyncio.gather(*(host.get("a") for _ in range(30)))) == {"scene a"}
    assert await host.get("a") == "scene a"
    assert host.asked == ["a"]
    host.now = FOUND_FOR_S
    await host.get("a")
    assert host.asked == ["a", "a"]


@pytest.mark.parametrize(
    ("refusal", "lasts"), [(NotFound(detail="none"), MISSING_FOR_S), (Unavailable("silent", retry_after_s=1), SILENT_FOR_S)]
)
async def test_a_refusal_is_told_again_for_a_while(refusal, lasts):
    host = Host()
    host.refusal = refusal
    for _ in range(3):
        with pytest.raises(type(refusal)):
            await host.get("a")
    assert host.asked == ["a"]
    host.now, host.refusal = lasts, None
    assert await host.get("a") == "scene a"


async def test_a_defect_is_not_remembered():
    host = Host()
    host.refusal = ZeroDivisionError()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await host.get("a")
    assert host.asked == ["a", "a"]


async def test_a_crowd_is_bounded():
    host = Host()
    host.open.clear()
    crowd = [asyncio.create_task(host.get(str(number))) for number in range(AT_ONCE + MOST_WAITING)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await host.get("one more")
    crowd[0].cancel()
    host.open.set()
    ended = await asyncio.gather(*crowd, return_exceptions=True)
    assert ended[1:] == [f"scene {number}" for number in range(1, len(crowd))]
    assert host.most_at_once == AT_ONCE
    assert await host.get("0") == "scene 0"
    assert host.asked.count("0") == 1, "who leaves does not take the answer from others"


async def test_what_is_kept_is_bounded():
    host = Host()
    for number in range(MOST_KEPT + 1):
        await host.get(str(number))
    await host.get("0")
    assert host.asked.count("0") == 2
