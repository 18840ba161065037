"""Real open scenes in the scene index, with their files on this machine, and a sample of a provider."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.scenes import ARCHIVE
from support.serving import Serving
from support.stac_api import real_items

SHOWCASE = "showcase"
SENTINEL_ID = "S2A_29RKH_20200219_0_L2A"
LANDSAT_ID = "LC08_L2SP_001062_20201031_02_T2"
SAMPLE_ID = "YASUR"
NAIP_ID = "mt_m_4911664_se_11_060_20231117_20240103"


def sentinel_item(shared_data: Path) -> dict[str, Any]:
    """The shared Sentinel-2 scene with those of its files that are here."""
    folder = shared_data / "imagery" / "sentinel-2-l2a_S2A_29RKH_20200219"
    item = json.loads((folder / f"{SENTINEL_ID}.json").read_bytes())
    files = {path.stem: str(path) for path in folder.glob("B*.tif")}
    cogs = {key: asset for key, asset in item["assets"].items() if asset["type"].startswith("image/tiff")}
    assets = {key: {**asset, "href": files.get(Path(asset["href"]).stem)} for key, asset in cogs.items()}
    return {**item, "collection": "sentinel-2-l2a", "assets": {key: each for key, each in assets.items() if each["href"]}}


def landsat_item(shared_data: Path) -> dict[str, Any]:
    """The shared Landsat scene, by the name that catalogues of Level-2 scenes give it."""
    folder = shared_data / "imagery" / "landsat-c2-l2_LC08_001062_20201031"
    [file] = folder.glob("*_SR_stac.json")
    item = json.loads(file.read_bytes())
    return {**item, "id": LANDSAT_ID, "collection": "landsat-c2-l2"}


def naip_item() -> dict[str, Any]:
    return next(each for each in real_items("pystac_client_items.json") if each["id"] == NAIP_ID)


def sample_item(shared_data: Path, **properties: Any) -> dict[str, Any]:
    """A radar scene that its provider lets everybody look at."""
    west, south, east, north = 169.43, -19.54, 169.45, -19.52
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    file = str(shared_data / "imagery" / "umbra_sar_mount_yasur.tif")
    told = {"datetime": "2024-05-01T10:00:00Z", "gsd": 0.59, "platform": "umbra-05", "geopera:sample": True, **properties}
    return {
        "type": "Feature", "id": SAMPLE_ID, "collection": "radar", "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": told, "assets": {"data": {"href": file, "type": "image/tiff; application=geotiff", "roles": ["data"]}},
    }  # fmt: skip


async def open_showcase(server: Serving, *items: dict[str, Any]) -> None:
    """Has the operator register a host of open data with these scenes, and the host in the cloud switched off."""
    operator = await server.operator()
    listed = [
        {**ARCHIVE["collections"][0], "id": each, "access_model": "open"}
        for each in ("sentinel-2-l2a", "landsat-c2-l2", "naip", "radar")
    ]
    source = {**ARCHIVE, "id": SHOWCASE, "title": "Showcase", "access_model": "open", "collections": listed}
    await operator.op("catalog.admin.source_save", source)
    await operator.op("catalog.admin.source_save", {"id": "earthsearch-aws", "active": False})
    reply = await operator.op("catalog.admin.scenes_import", {"host": SHOWCASE, "features": list(items)})
    assert reply["imported"] == len(items), reply
