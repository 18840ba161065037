"""Items as deliveries make them, registered through the pipeline without raster work."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from typing_extensions import TypedDict

from geopera_server.domains.items.registration import NewAsset, NewItem, ensure_order_collection, register_item
from geopera_server.kernel.context import Context
from geopera_server.kernel.operation import operation
from geopera_server.raster.probe import probe

FOOTPRINT = {"type": "Polygon", "coordinates": [[[11.2, 46.4], [11.3, 46.4], [11.3, 46.5], [11.2, 46.5], [11.2, 46.4]]]}


class Delivery(BaseModel):
    """An item to register."""

    item: dict[str, Any]
    assets: list[dict[str, Any]] = []
    parents: list[tuple[str, str]] = []
    collection_for: str | None = None


class Delivered(TypedDict):
    """What was registered."""

    id: str
    stac_id: str
    collection_id: str | None


@operation("test.deliver", effect="compute", scope="items:write", produces=("item",), raw=True)
async def deliver(ctx: Context, given: Delivery) -> Delivered:
    """Registers an item."""
    item = dict(given.item)
    if given.collection_for is not None:
        item["collection_id"] = await ensure_order_collection(
            ctx, project_id=item["project_id"], order_id=given.collection_for, name="Spring order"
        )
    row = await register_item(ctx, NewItem(**item), [NewAsset(**asset) for asset in given.assets], parents=given.parents)
    return Delivered(id=row["id"], stac_id=row["stac_id"], collection_id=row["collection_id"])


def item(project_id: str, stac_id: str = "SCENE_1", **more: Any) -> dict[str, Any]:
    """Returns the values of a NewItem."""
    values = {
        "project_id": project_id,
        "stac_id": stac_id,
        "type": "satellite_capture",
        "name": stac_id,
        "datetime": "2022-06-12T10:10:00+00:00",
        "geometry": FOOTPRINT,
        "gsd": 10.0,
        "cloud_cover": 3.0,
    }
    return {**values, **more}


def asset(key: str = "data", **more: Any) -> dict[str, Any]:
    """Returns the values of a NewAsset whose file is a thousand bytes long."""
    new = NewAsset(
        key=key,
        href=f"projects/p/{key}.tif",
        media_type="image/tiff; application=geotiff; profile=cloud-optimized",
        roles=["data"],
        file_name=f"{key}.tif",
        file_size_bytes=1_000,
        checksum="sha256:" + "0" * 64,
    )
    return {**asdict(new), **more}


def asset_over(path: Path, key: str = "data", **more: Any) -> dict[str, Any]:
    """Returns the values of a NewAsset that describe a real raster."""
    info = probe(str(path))
    found = {
        "band_names": list(info.band_names),
        "band_count": info.band_count,
        "dtype": info.dtype,
        "nodata": info.nodata,
        "epsg": info.epsg,
        "width": info.width,
        "height": info.height,
        "gsd": info.gsd_m,
        "file_size_bytes": path.stat().st_size,
        "statistics": [
            {"min": 1, "max": 9_000, "mean": 812.5, "stddev": 91.25, "valid_percent": 100.0} for _ in range(info.band_count)
        ],
        "raster": {"transform": info.transform, "wkt2": info.wkt2, "bbox": info.bbox_wgs84},
    }
    return {**asset(key), **found, **more}
