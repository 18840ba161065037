"""One house for a module of catalogue tests, emptied of sources and scenes before each."""

from __future__ import annotations

import pytest
import pytest_asyncio

from geopera_server.adapters.hosts import fetch
from support.catalogue import Catalogue, opened_catalogue


@pytest_asyncio.fixture(scope="module")
async def shared_catalogue(cluster, template):
    dsn = cluster.create_database(template[0])
    async with opened_catalogue(dsn, host_timeout_s=5) as opened:
        yield opened
    cluster.drop_database(dsn)


@pytest_asyncio.fixture
async def empty_catalogue(shared_catalogue) -> Catalogue:
    await shared_catalogue.sql("TRUNCATE host_reply, scene_kind, scene, catalog_source")
    await shared_catalogue.sql("DELETE FROM price_rule WHERE updated_by = 'test'")
    return shared_catalogue


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(fetch, "FIRST_PAUSE_S", 0.001)
