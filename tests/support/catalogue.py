"""Sources and scenes put straight into a database, and a kernel that calls catalogue operations without HTTP."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from geopera_server.app import opened
from geopera_server.db.pool import Connection, Pool
from geopera_server.domains.catalog import store
from geopera_server.domains.catalog.importing import read_batch
from geopera_server.domains.catalog.sources import Source
from geopera_server.kernel.context import Outside
from geopera_server.kernel.pipeline import Call, Kernel
from geopera_server.kernel.principal import PLATFORM_ORGANIZATION_ID, Principal, service
from geopera_server.kernel.registry import Registry
from geopera_server.ports import HostFor
from geopera_server.values.clock import now
from support.serving import settings_for

BASE_URL = "http://geo.example:8000"


def source(source_id: str, **more: Any) -> Source:
    """A source with nothing special about it: commercial, an index, sold by itself."""
    values: dict[str, Any] = {
        "id": source_id, "title": source_id.title(), "description": "", "access_model": "commercial", "scope": "global",
        "countries": [], "attribution": "", "license": "terms", "vendor": source_id, "collections": [],
        "connector": {"kind": "index"}, "coverage": None,
    }  # fmt: skip
    return Source(**{**values, **more})


def collection(collection_id: str, **more: Any) -> dict[str, Any]:
    return {
        "id": collection_id, "title": collection_id, "data_type": "optical", "gsd": None, "render_strategy": "cog",
        "render_params": {}, "access_model": "commercial", **more,
    }  # fmt: skip


def item(
    item_id: str, at: str, lon: float = 10.0, lat: float = 45.0, *, size: float = 1.0, **properties: Any
) -> dict[str, Any]:
    """A square item whose south-west corner is at lon, lat."""
    east, north = lon + size, lat + size
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": item_id, "collection": properties.pop("collection", "c1"),
        "geometry": {"type": "Polygon", "coordinates": [[[lon, lat], [east, lat], [east, north], [lon, north], [lon, lat]]]},
        "bbox": [lon, lat, east, north],
        "properties": {"datetime": at, **properties},
        "assets": properties.pop("assets", {"thumbnail": {"href": f"https://img.example/{item_id}.jpg", "type": "image/jpeg"}}),
        "links": [],
    }  # fmt: skip


async def put_scenes(conn: Connection, of: Source, items: Sequence[dict[str, Any]]) -> None:
    """Registers the source and imports the items, all of which must be fit."""
    await store.save_source(conn, of, now())
    batch = read_batch(of, items)
    assert not batch.rejected, batch.rejected[:3]
    await store.save_scenes(conn, of.id, batch.scenes, replace=True, at=now())
    await store.note_kinds(conn, of.id, batch.scenes)


@dataclass
class Catalogue:
    """A kernel over one database, with its real or given hosts."""

    pool: Pool
    kernel: Kernel
    registry: Registry
    principal: Principal

    async def op(self, operation_id: str, body: dict[str, Any] | None = None) -> Any:
        """Runs an operation as the service principal and returns its reply as JSON; raises what the kernel raises."""
        call = Call(operation=self.registry.get(operation_id), given=body or {}, principal=self.principal)
        return orjson.loads((await self.kernel.run(call)).body)

    def outside(self) -> Outside:
        """What a handler gets that goes outside."""
        return Outside(
            principal=self.principal,
            operation_id="test",
            invocation_id="test",
            now=now(),
            links=self.kernel.links,
            secrets=self.kernel.secrets,
            ports=self.kernel.ports,
            run=self.kernel.run,
        )

    async def put(self, of: Source, items: Sequence[dict[str, Any]] = ()) -> None:
        async with self.pool.connection() as conn:
            await put_scenes(conn, of, items)

    async def sql(self, query: str, *values: Any) -> list[dict[str, Any]]:
        async with self.pool.connection() as conn:
            cursor = await conn.execute(query, values)
            return await cursor.fetchall() if cursor.description else []


@contextlib.asynccontextmanager
async def opened_catalogue(
    dsn: str, *, host_for: HostFor | None = None, organization_id: str = PLATFORM_ORGANIZATION_ID, **settings: Any
) -> AsyncIterator[Catalogue]:
    """Yields a house without HTTP over a prepared database, in which none of the seeded sources is active."""
    with tempfile.TemporaryDirectory(prefix="geopera-test-") as data_dir:
        chosen = settings_for(Path(data_dir), pool_size=4, **settings)
        async with opened(chosen, dsn, base_url=BASE_URL) as house:
            kernel = house.kernel
            if host_for is not None:
                kernel.ports = replace(kernel.ports, host_for=host_for)
            found = Catalogue(house.pool, kernel, house.registry, service(organization_id=organization_id))
            await found.sql("UPDATE catalog_source SET active = false")
            yield found
