"""Captures for tests, made of the real imagery in the shared folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rasterio
from rasterio.warp import transform_geom
from shapely.geometry import box, mapping

BOLZANO = "S2_L2A_bolzano_20220612_B04-B03-B02-B08-SCL.tif"
ARCHIVE = {
    "id": "test-archive", "title": "Test archive", "description": "An owner's archive, for tests.",
    "access_model": "commercial", "scope": "regional", "countries": ["IT"], "attribution": "Copernicus", "license": "proprietary",
    "vendor": "test-vendor", "collections": [{"id": "ortho", "title": "Ortho", "data_type": "optical",
    "render_strategy": "cog", "access_model": "commercial", "gsd": 10.0, "render_params": {}}],
    "connector": {"kind": "index"}, "active": True,
}  # fmt: skip
OPEN = {
    **ARCHIVE, "id": "test-open", "title": "Open data", "access_model": "open", "license": "CC-BY-4.0", "vendor": "test-open",
    "collections": [{**ARCHIVE["collections"][0], "id": "open-ortho", "access_model": "open"}],
}  # fmt: skip


def footprint_of(path: Path, *, shrink_m: float = 0.0) -> dict[str, Any]:
    """Returns the outline of a raster in WGS84, pulled in by some metres if wanted."""
    with rasterio.open(path) as dataset:
        outline = box(*dataset.bounds).buffer(-shrink_m, join_style="mitre")
        return transform_geom(dataset.crs, "EPSG:4326", mapping(outline))


def scene(
    path: Path, scene_id: str, *, collection: str, at: str = "2022-06-12T10:10:00Z", gsd: float = 10.0, **properties: Any
) -> dict:
    """Returns a STAC item over one raster file."""
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": scene_id,
        "collection": collection,
        "geometry": footprint_of(path),
        "properties": {"datetime": at, "gsd": gsd, "eo:cloud_cover": 3.0, **properties},
        "assets": {
            "data": {
                "href": str(path), "type": "image/tiff; application=geotiff", "roles": ["data"],
                "eo:bands": [{"name": name} for name in ("red", "green", "blue", "nir", "scl")],
            }
        },
        "links": [],
    }  # fmt: skip


async def open_archive(
    server, shared_data: Path, *, price_aud: str | None = "2.00", path: Path | None = None
) -> dict[str, Any]:
    """Has the operator register a priced archive and an open host with one scene each, and returns a fitting AOI."""
    operator = await server.operator()
    file = path or shared_data / "imagery" / BOLZANO
    for source, scene_id in ((ARCHIVE, "TEST_BOLZANO_1"), (OPEN, "OPEN_BOLZANO_1")):
        await operator.op("catalog.admin.source_save", source)
        feature = scene(file, scene_id, collection=source["collections"][0]["id"])
        imported = await operator.op("catalog.admin.scenes_import", {"host": source["id"], "features": [feature]})
        assert imported["imported"] == 1, imported
    if price_aud is not None:
        rule = {"organization_id": "00000000-0000-7000-8000-000000000001", "vendor": "test-vendor", "resolution": "10m"}
        await operator.op("pricing.admin.save", {**rule, "price_per_sqkm": float(price_aud), "min_area": 1})
    return footprint_of(file, shrink_m=1500)
