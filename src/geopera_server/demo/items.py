"""The STAC documents of the demo: what each scene and each collection says of itself, with hrefs relative to itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from geopera_server.demo.rasters import ARCHIVE_BANDS, NODATA, PICTURE_BANDS, attribution
from geopera_server.demo.series import CLOUD_CLASSES, EPSG, Scene
from geopera_server.raster.georef import Grid
from geopera_server.raster.info import COG_MEDIA_TYPE

Document = dict[str, Any]

# Raise it when the files or the documents change: scenes of another recipe are built anew.
RECIPE = 1

OPEN_COLLECTION = "sentinel-2-l2a"
ARCHIVE_COLLECTION = "carpathia-ortho"
ARCHIVE_VENDOR = "carpathia"
ARCHIVE_RESOLUTION = "10m"
GSD_M = 10

LEGAL_NOTICE = "https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice"
EXTENSIONS = [
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("eo/v1.1.0", "projection/v1.1.0", "raster/v1.1.0", "file/v2.1.0")
]

# On the one orbit over this place Sentinel-2A and 2B take turns every five days; in 2015 there was 2A alone.
FIRST_2A_PASS = date(2015, 8, 1)

DESCRIPTION = (
    "Demonstration data: one square kilometre of forest in Romania, cut from the test data of the nrt package (European "
    "Union, Joint Research Centre), resampled there to 10 m in EPSG:3035. The source tells the day of capture only; the "
    "time of day stands at 00:00 UTC."
)
ARCHIVE_DESCRIPTION = (
    f"{DESCRIPTION} Carpathia Imaging is a fictional company; its scenes are other dates of the same Sentinel-2 data."
)

_BANDS = {
    "B02": {"name": "B02", "common_name": "blue", "center_wavelength": 0.49, "full_width_half_max": 0.098},
    "B03": {"name": "B03", "common_name": "green", "center_wavelength": 0.56, "full_width_half_max": 0.045},
    "B04": {"name": "B04", "common_name": "red", "center_wavelength": 0.665, "full_width_half_max": 0.038},
    "B08": {"name": "B08", "common_name": "nir", "center_wavelength": 0.842, "full_width_half_max": 0.145},
}
_TITLES = {"B02": "Blue (band 2)", "B03": "Green (band 3)", "B04": "Red (band 4)", "B08": "Near infrared (band 8)"}
_REFLECTANCE = {"data_type": "uint16", "nodata": NODATA, "spatial_resolution": GSD_M, "scale": 0.0001, "offset": 0}
_BYTE = {"data_type": "uint8", "nodata": NODATA, "spatial_resolution": GSD_M}
_THUMBNAIL = {"href": "./thumbnail.png", "title": "Thumbnail", "type": "image/png", "roles": ["thumbnail"]}

_CLASS_PROPERTIES = {
    "s2:nodata_pixel_percentage": 0,
    "s2:saturated_defective_pixel_percentage": 1,
    "s2:dark_features_percentage": 2,
    "s2:cloud_shadow_percentage": 3,
    "s2:vegetation_percentage": 4,
    "s2:not_vegetated_percentage": 5,
    "s2:water_percentage": 6,
    "s2:unclassified_percentage": 7,
    "s2:medium_proba_clouds_percentage": 8,
    "s2:high_proba_clouds_percentage": 9,
    "s2:thin_cirrus_percentage": 10,
    "s2:snow_ice_percentage": 11,
}


def open_id(scene: Scene) -> str:
    return f"S2_L2A_RO_{scene.day:%Y%m%d}"


def archive_id(scene: Scene) -> str:
    return f"CARPATHIA_ORTHO_{scene.day:%Y%m%d}"


def open_item(scene: Scene, folder: Path) -> Document:
    """Returns the STAC item of an open scene whose files lie in the folder."""
    assets = {name: _reflectance_asset(name) for name in scene.bands}
    assets["SCL"] = _cog("SCL.tif", "Scene classification, 20 m shown at 10 m", ["data"], [_BYTE]) | {"gsd": 20}
    assets["visual"] = _cog("visual.tif", "True colour", ["visual"], [_BYTE] * 3)
    assets["visual"]["eo:bands"] = [_BANDS[name] for name in PICTURE_BANDS]
    assets["thumbnail"] = dict(_THUMBNAIL)
    own = {
        "title": f"Sentinel-2 L2A, Romania, {scene.day}",
        "description": DESCRIPTION,
        "providers": [_ESA],
        **{name: _percent(scene, value) for name, value in _CLASS_PROPERTIES.items()},
    }
    return _item(scene, folder, name=open_id(scene), collection=OPEN_COLLECTION, own=own, assets=assets)


def archive_item(scene: Scene, folder: Path) -> Document:
    """Returns the STAC item of an archive scene whose files lie in the folder."""
    analytic = _cog("analytic.tif", "Red, green, blue, near infrared", ["data", "reflectance"], [_REFLECTANCE] * 4)
    analytic["eo:bands"] = [
        {**_BANDS[source], "name": name, "description": f"Sentinel-2 {source}"} for name, source in ARCHIVE_BANDS.items()
    ]
    own = {
        "title": f"Carpathia Ortho, {scene.day} (demonstration data)",
        "description": ARCHIVE_DESCRIPTION,
        "providers": [_ESA, _CARPATHIA],
        "geopera:vendor": ARCHIVE_VENDOR,
        "geopera:resolution": ARCHIVE_RESOLUTION,
    }
    assets = {"analytic": analytic, "thumbnail": dict(_THUMBNAIL)}
    return _item(scene, folder, name=archive_id(scene), collection=ARCHIVE_COLLECTION, own=own, assets=assets)


def open_collection(items: Sequence[Document]) -> Document:
    """Returns the STAC collection of the open scenes."""
    return _collection(OPEN_COLLECTION, "Sentinel-2 Level-2A", DESCRIPTION, [_ESA], items)


def archive_collection(items: Sequence[Document]) -> Document:
    """Returns the STAC collection of the archive scenes."""
    title = "Carpathia Ortho (demonstration data)"
    return _collection(ARCHIVE_COLLECTION, title, ARCHIVE_DESCRIPTION, [_ESA, _CARPATHIA], items)


def footprint(grid: Grid, *, inset: float = 0.0, points_per_side: int = 4) -> Document:
    """Returns the grid's outline as a GeoJSON Polygon in WGS84, counter-clockwise, to 7 decimals (1 cm).

    The inset moves every side inwards by that share of its length. Sides have extra points, since a straight line on
    the map is none in longitude and latitude.
    """
    corners = np.array([[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]]) * (1 - 2 * inset) + inset
    steps = np.arange(points_per_side)[:, np.newaxis] / points_per_side
    sides = [start + (end - start) * steps for start, end in pairwise(corners)]
    lonlat = grid.lonlat_of_pixels(np.concatenate([*sides, corners[:1]]) * (grid.width, grid.height))
    return {"type": "Polygon", "coordinates": [np.round(lonlat, 7).tolist()]}


def bbox_of(polygon: Document) -> list[float]:
    """Returns west, south, east, north of a GeoJSON Polygon."""
    ring = np.array(polygon["coordinates"][0])
    return [*ring.min(axis=0).tolist(), *ring.max(axis=0).tolist()]


def with_absolute_hrefs(document: Document, location: str) -> Document:
    """Returns the document with its relative hrefs turned absolute; the location is that of the document's folder."""
    parent = location.rpartition("/")[0]

    def absolute(entry: Mapping[str, Any]) -> Document:
        href = str(entry["href"])
        if href.startswith("../"):
            return {**entry, "href": f"{parent}/{href[3:]}"}
        return {**entry, "href": f"{location}/{href[2:]}" if href.startswith("./") else href}

    changed = {**document, "links": [absolute(link) for link in document["links"]]}
    if "assets" in document:
        changed["assets"] = {key: absolute(asset) for key, asset in document["assets"].items()}
    return changed


def _item(scene: Scene, folder: Path, *, name: str, collection: str, own: Document, assets: Document) -> Document:
    geometry = footprint(scene.grid)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": EXTENSIONS,
        "id": name,
        "collection": collection,
        "geometry": geometry,
        "bbox": bbox_of(geometry),
        "properties": {**_common_properties(scene), **own},
        "links": [
            {"rel": "collection", "href": "../collection.json", "type": "application/json"},
            {"rel": "license", "href": LEGAL_NOTICE, "title": "Copernicus Sentinel data legal notice"},
        ],
        "assets": {key: asset | _file_fields(folder / asset["href"]) for key, asset in assets.items()},
    }


def _common_properties(scene: Scene) -> Document:
    affine = scene.grid.transform
    in_turn = (scene.day - FIRST_2A_PASS).days % 10
    return {
        "datetime": f"{scene.day}T00:00:00Z",
        "platform": "sentinel-2a" if in_turn == 0 else "sentinel-2b",
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "gsd": GSD_M,
        "eo:cloud_cover": _percent(scene, *CLOUD_CLASSES),
        "proj:epsg": EPSG,
        "proj:shape": [scene.grid.height, scene.grid.width],
        "proj:transform": list(affine)[:6],
        "proj:bbox": _projected_bbox(scene.grid),
        "license": "proprietary",
        "attribution": attribution(scene),
        "geopera:demo_recipe": RECIPE,
    }


def _projected_bbox(grid: Grid) -> list[float]:
    corners = np.array([[0.0, 0.0], [grid.width, grid.height]])
    (left, top), (right, bottom) = grid.to_crs_units(corners).tolist()
    return [left, bottom, right, top]


def _percent(scene: Scene, *classes: int) -> float:
    return round(100 * scene.class_share(*classes), 2)


def _reflectance_asset(name: str) -> Document:
    asset = _cog(f"{name}.tif", _TITLES[name], ["data", "reflectance"], [_REFLECTANCE])
    return asset | {"eo:bands": [_BANDS[name]]}


def _cog(file_name: str, title: str, roles: list[str], bands: list[Document]) -> Document:
    asset = {"href": f"./{file_name}", "title": title, "type": COG_MEDIA_TYPE, "roles": roles}
    return asset | {"gsd": GSD_M, "raster:bands": bands}


def _file_fields(path: Path) -> Document:
    content = path.read_bytes()
    # A multihash: 12 says SHA-256, 20 that 32 bytes follow.
    return {"file:size": len(content), "file:checksum": f"1220{hashlib.sha256(content).hexdigest()}"}


def _collection(name: str, title: str, text: str, providers: list[Document], items: Sequence[Document]) -> Document:
    times = sorted(item["properties"]["datetime"] for item in items) or [None]
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": name,
        "title": title,
        "description": text,
        "license": "proprietary",
        "providers": providers,
        "extent": {
            "spatial": {"bbox": [items[0]["bbox"]] if items else []},
            "temporal": {"interval": [[times[0], times[-1]]]},
        },
        "links": [
            {"rel": "license", "href": LEGAL_NOTICE, "title": "Copernicus Sentinel data legal notice"},
            *({"rel": "item", "href": f"./{item['id']}/item.json", "type": "application/geo+json"} for item in items),
        ],
    }


_ESA = {
    "name": "European Space Agency",
    "description": "Copernicus Sentinel-2",
    "roles": ["producer", "licensor"],
    "url": "https://sentinels.copernicus.eu",
}
_CARPATHIA = {"name": "Carpathia Imaging", "description": "A fictional archive owner", "roles": ["host"]}
