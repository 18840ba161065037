"""An item as a STAC 1.0.0 feature, with the fields of the eo, proj and raster extensions as far as they are known."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from geopera_server.domains.items import rules
from geopera_server.domains.items.presenting import shown_nodata
from geopera_server.domains.items.stac_extension import GEOPERA_EXTENSION_PATH
from geopera_server.ports import Links
from geopera_server.values.clock import iso, iso_or_none

STAC_VERSION = "1.0.0"
EO = "https://stac-extensions.github.io/eo/v1.1.0/schema.json"
PROJECTION = "https://stac-extensions.github.io/projection/v1.1.0/schema.json"
RASTER = "https://stac-extensions.github.io/raster/v1.1.0/schema.json"
_EXTENSION_OF_PREFIX = {"eo": EO, "proj": PROJECTION, "raster": RASTER}
_COMMON_NAMES = frozenset(
    {
        "coastal", "blue", "green", "red", "rededge", "yellow", "pan", "nir", "nir08", "nir09", "cirrus", "swir16", "swir22",
        "lwir", "lwir11", "lwir12",
    }
)  # fmt: skip
# GDAL's names and the raster extension's differ where bits are told apart; complex integers are the same in both.
_DATA_TYPES = {"complex64": "cfloat32", "complex128": "cfloat64", "complex_int16": "cint16", "complex_int32": "cint32"}

Row = Mapping[str, Any]


def as_stac(
    row: Row, assets: Sequence[Row], *, origin: Row | None, links: Links, base_url: str, at: datetime
) -> dict[str, Any]:
    """Returns the feature. `origin` is the item's first lineage record; links to files live 900 s from `at`.

    Files of an expired item are not linked: nobody may fetch them any more.
    """
    collection = row["collection_id"] or f"project-{row['project_id']}"
    shown = () if row["lifecycle_state"] == rules.EXPIRED else assets
    files = {asset["key"]: _stac_asset(asset, links=links, base_url=base_url, at=at) for asset in shown}
    properties = _properties(row, origin)
    feature = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": _extensions(row, properties, files, base_url),
        "id": row["stac_id"],
        "geometry": row["geometry"],
        "bbox": row["bbox"],
        "properties": properties,
        "links": _links(row, origin, collection, base_url),
        "assets": files,
        "collection": collection,
    }
    if row["geometry"] is None:
        del feature["bbox"]
    return feature


def _properties(row: Row, origin: Row | None) -> dict[str, Any]:
    known = {
        "title": row["name"],
        "description": row["description"],
        "start_datetime": iso_or_none(row["start_datetime"]),
        "end_datetime": iso_or_none(row["end_datetime"]),
        "gsd": row["gsd"],
        "eo:cloud_cover": row["cloud_cover"],
    }
    return {
        **row["properties"],
        **{name: value for name, value in known.items() if value is not None},
        "datetime": iso_or_none(row["datetime"]),
        "created": iso(row["created_at"]),
        "updated": iso(row["updated_at"]),
        "geopera:item_id": row["id"],
        "geopera:item_type": row["type"],
        "geopera:lifecycle_state": row["lifecycle_state"],
        "geopera:provenance": _provenance(origin),
    }


def _provenance(origin: Row | None) -> dict[str, Any]:
    first = origin["parents"][0] if origin is not None and origin["parents"] else {}
    return {
        "origin_type": first.get("entity_type"),
        "origin_id": first.get("entity_id"),
        "invocation_id": None if origin is None else origin["invocation_id"],
        "recorded_at": None if origin is None else iso(origin["recorded_at"]),
        "record_hash": None if origin is None else origin["hash"],
    }


def _links(row: Row, origin: Row | None, collection: str, base_url: str) -> list[dict[str, str]]:
    collection_href = f"{base_url}/assets/stac/collections/{collection}"
    found = [
        _link("self", _read(base_url, "items.get_stac", item_id=row["id"]), media_type="application/geo+json"),
        _link("root", f"{base_url}/assets/stac"),
        _link("parent", collection_href),
        _link("collection", collection_href),
    ]
    parents = () if origin is None else origin["parents"]
    found += [_link("derived_from", href_of(base_url, each["entity_type"], each["entity_id"])) for each in parents]
    if row["order_id"] is not None:
        found.append(_link("via", href_of(base_url, "order", row["order_id"])))
    return found


def href_of(base_url: str, entity_type: str, entity_id: str) -> str:
    """Returns where to read about an origin: items as STAC, orders as such, everything else through its lineage."""
    if entity_type == "item":
        return _read(base_url, "items.get_stac", item_id=entity_id)
    if entity_type == "order":
        return _read(base_url, "orders.get", order_id=entity_id)
    return _read(base_url, "provenance.get", entity_type=entity_type, entity_id=entity_id)


def _read(base_url: str, operation_id: str, **given: str) -> str:
    return f"{base_url}/v1/op/{operation_id}?{urlencode(given)}"


def _link(rel: str, href: str, *, media_type: str = "application/json") -> dict[str, str]:
    return {"rel": rel, "href": href, "type": media_type}


def _stac_asset(asset: Row, *, links: Links, base_url: str, at: datetime) -> dict[str, Any]:
    raster = asset["raster"] or {}
    shape = None if asset["height"] is None else [asset["height"], asset["width"]]
    known = {
        "title": asset["title"],
        "gsd": asset["gsd"],
        "eo:bands": [_eo_band(name) for name in asset["band_names"]],
        "raster:bands": _raster_bands(asset),
        "proj:shape": shape,
        "proj:transform": raster.get("transform"),
        "proj:bbox": _projected_bbox(raster.get("transform"), asset),
        "proj:wkt2": None if asset["epsg"] is not None else raster.get("wkt2"),
    }
    file: dict[str, Any] = {"href": _href(asset, links=links, base_url=base_url, at=at), "type": asset["media_type"]}
    if asset["roles"]:
        file["roles"] = asset["roles"]
    if shape is not None:
        file["proj:epsg"] = asset["epsg"]
    return file | {name: value for name, value in known.items() if value not in (None, [])}


def _projected_bbox(transform: Sequence[float] | None, asset: Row) -> list[float] | None:
    """Returns the box around the four corners in the raster's own coordinates."""
    if transform is None or asset["width"] is None:
        return None
    a, b, c, d, e, f = transform[:6]
    corners = [(column, row) for column in (0, asset["width"]) for row in (0, asset["height"])]
    xs = [a * column + b * row + c for column, row in corners]
    ys = [d * column + e * row + f for column, row in corners]
    return [min(xs), min(ys), max(xs), max(ys)]


def _href(asset: Row, *, links: Links, base_url: str, at: datetime) -> str:
    if asset["external"]:
        return str(asset["href"])
    signed = links.download(
        asset["href"],
        file_name=asset["file_name"],
        media_type=asset["media_type"],
        expires_at=rules.link_expiry(at),
    )
    return base_url + signed.removeprefix(links.base_url)


def _eo_band(name: str) -> dict[str, str]:
    common = name.lower()
    return {"name": name, "common_name": common} if common in _COMMON_NAMES else {"name": name}


def _raster_bands(asset: Row) -> list[dict[str, Any]]:
    count = asset["band_count"] or 0
    statistics = asset["statistics"] or []
    nodata = shown_nodata(asset["nodata"])
    nodata = (asset["raster"] or {}).get("nodata") if nodata is None else nodata
    return [
        _present(
            nodata=nodata,
            data_type=_data_type(asset["dtype"]),
            spatial_resolution=asset["gsd"],
            statistics=_statistics(statistics[number]) if number < len(statistics) else None,
        )
        for number in range(count)
    ]


def _statistics(found: Mapping[str, Any]) -> dict[str, Any] | None:
    names = {"minimum": "min", "maximum": "max", "mean": "mean", "stddev": "stddev", "valid_percent": "valid_percent"}
    return _present(**{name: found.get(ours) for name, ours in names.items()}) or None


def _data_type(dtype: str | None) -> str | None:
    return None if dtype is None else _DATA_TYPES.get(dtype, dtype)


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _extensions(row: Row, properties: Mapping[str, Any], files: Mapping[str, Any], base_url: str) -> list[str]:
    """Returns our own extension, those whose fields are there, and what the item was given besides."""
    names = [*properties, *(name for file in files.values() for name in file)]
    prefixes = {name.partition(":")[0] for name in names if ":" in name}
    ours = [url for prefix, url in _EXTENSION_OF_PREFIX.items() if prefix in prefixes]
    given = [url for url in row["stac_extensions"] if _unversioned(url) not in {_unversioned(url) for url in ours}]
    return [base_url + GEOPERA_EXTENSION_PATH, *ours, *given]


def _unversioned(url: str) -> str:
    return re.sub(r"/v[0-9][^/]*/", "/", url)
