from __future__ import annotations

import pytest
import pytest_asyncio

from geopera_server.kernel import pipeline
from geopera_server.values import clock
from support.house import inhabited
from support.sharing import Visitor


@pytest_asyncio.fixture
async def household(database, place, tmp_path):
    async with inhabited(database, place, tmp_path) as found:
        yield found


@pytest.fixture
def visitor(household) -> Visitor:
    return Visitor(household.house)


@pytest.fixture
def later(monkeypatch):
    """Moves the clock that calls go by: every call after it happens that much later."""

    def move(by) -> None:
        monkeypatch.setattr(pipeline, "now", lambda: clock.now() + by)

    return move
