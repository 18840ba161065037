"""Items whose files are real rasters in own storage, and a look at pictures that come back."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from geopera_server.app import House
from geopera_server.values.ids import new_id
from support.deliveries import asset_over, deliver, item
from support.house import Caller, owner_of
from support.serving import Resident

SCENE = "sentinel-2-l2a_S2A_29RKH_20200219"
BANDS = "S2_L2A_bolzano_20220612_B04-B03-B02-B08-SCL.tif"
HEIGHTS = "cop-dem-glo-30_N00_E006.tif"
BOLZANO = {"band_names": ["B04", "B03", "B02", "B08", "SCL"]}


async def pictured_item(
    house: House,
    resident: Resident,
    *files: tuple[str, Path],
    stac_id: str = "SCENE",
    more: dict[str, Any] | None = None,
    **columns: Any,
) -> dict[str, Any]:
    """Registers an item of the resident's project with files put into storage; returns id and the hrefs by key."""
    assets, hrefs = [], {}
    for key, path in files:
        hrefs[key] = f"projects/{resident.project_id}/items/{new_id()}/{path.name}"
        await house.store.put_file(hrefs[key], path)
        assets.append({**asset_over(path, key), "href": hrefs[key], "file_name": path.name, **(more or {})})
    new = item(resident.project_id, stac_id, **columns)
    made = await Caller(house, owner_of(resident)).run(deliver, {"item": new, "assets": assets})
    return {"id": made["id"], "hrefs": hrefs}


def tile_of(longitude: float, latitude: float, zoom: int) -> dict[str, int]:
    """Returns z, x and y of the tile that holds a place, by the formula of the OpenStreetMap wiki."""
    radians = math.radians(latitude)
    x = int((longitude + 180) / 360 * 2**zoom)
    y = int((1 - math.log(math.tan(radians) + 1 / math.cos(radians)) / math.pi) / 2 * 2**zoom)
    return {"z": zoom, "x": x, "y": y}


BOLZANO_TILE = tile_of(11.36, 46.48, 12)
BOLZANO_AREA = {
    "type": "Polygon", "coordinates": [[[11.34, 46.46], [11.38, 46.46], [11.38, 46.49], [11.34, 46.49], [11.34, 46.46]]],
}  # fmt: skip


def pixels(body: bytes) -> np.ndarray:
    """Returns an image as rows of red, green, blue and alpha."""
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGBA"))


def seen(body: bytes) -> float:
    """Returns which share of an image is not transparent."""
    return float((pixels(body)[..., 3] > 0).mean())
