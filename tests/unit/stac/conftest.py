from __future__ import annotations

import pytest_asyncio

from support.house import inhabited


@pytest_asyncio.fixture
async def household(database, place, tmp_path):
    async with inhabited(database, place, tmp_path) as found:
        yield found
