"""A served house with something to buy, shared by the tests of one module."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.postgres import TestCluster
from support.scenes import open_archive
from support.serving import Place, Serving, served


@dataclass
class Market(Serving):
    """A served house whose archive has one scene, and an area inside it."""

    aoi: dict[str, Any]

    def cart(self, **more: Any) -> dict[str, Any]:
        """Returns the body of an order for the area out of the scene."""
        capture = {"id": "TEST_BOLZANO_1", "host": "test-archive", "geometry": self.aoi}
        return {"captures": [capture], **more}

    async def delivered(self) -> dict[str, Any]:
        """Returns an order of the home organization after its delivery."""
        order = await self.home.op("orders.archive.place", self.cart(projectId=self.place.home.project_id))
        done = await self.until_ended(order["id"])
        assert done["status"] == "fulfilled", done["failureReason"]
        return done


@contextlib.asynccontextmanager
async def opened_market(
    cluster: TestCluster, template: tuple[str, Place], data_dir: Path, shared_data: Path, **more: Any
) -> AsyncIterator[Market]:
    """Serves a house over a database of its own until the block ends."""
    dsn = cluster.create_database(template[0])
    try:
        async with served(dsn, template[1], data_dir=data_dir, source_roots=[shared_data], **more) as serving:
            # The sources that every deployment starts with are out in the world, where no test goes.
            await serving.sql("UPDATE catalog_source SET active = false")
            aoi = await open_archive(serving, shared_data)
            yield Market(serving.base_url, serving.house, serving.place, serving.http, aoi)
    finally:
        cluster.drop_database(dsn)
