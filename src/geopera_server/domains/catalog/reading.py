"""Reads captures out of the items that hosts give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson
import shapely
from shapely.geometry.base import BaseGeometry

from geopera_server.domains.catalog.captures import FoundCapture
from geopera_server.domains.catalog.rules import metres_of, resolution_label
from geopera_server.domains.catalog.sources import Source
from geopera_server.kernel.geometry import oriented, polygonal, to_geojson
from geopera_server.kernel.stac import Item, captured_at, cloud_cover, number_of, properties_of

Asset = Mapping[str, Any]
THUMBNAILS = ("thumbnail", "rendered_preview", "preview", "quicklook", "overview")
QUICKLOOKS = ("quicklook", "rendered_preview", "overview", "preview", "thumbnail")
_PUBLIC_SCHEMES = frozenset({"https", "http", "s3", "gs"})
_PREVIEW_ROLES = frozenset({"thumbnail", "overview"})
_RASTERS = ("image/tiff", "image/jp2", "image/vnd.")


@dataclass(frozen=True, slots=True)
class Reading:
    """An item, the capture that it describes, and the capture's footprint as a shape."""

    item: Item
    capture: FoundCapture
    footprint: BaseGeometry


def read_items(source: Source, items: Sequence[Item], *, stale: bool = False) -> list[Reading]:
    """Returns what the items describe; those without an id, a time or a place are left out."""
    readings = (_read(source, *each, stale=stale) for each in zip(items, _footprints(items), strict=True))
    return [each for each in readings if each is not None]


def _footprints(items: Sequence[Item]) -> Any:
    """Returns the footprints as valid shapes, None where an item has none."""
    texts = [orjson.dumps(item["geometry"]) if isinstance(item.get("geometry"), Mapping) else None for item in items]
    shapes = shapely.force_2d(shapely.from_geojson(texts, on_invalid="ignore"))
    broken = ~shapely.is_valid(shapes)
    shapes[broken] = shapely.make_valid(shapes[broken])
    return shapes


def _read(source: Source, item: Item, footprint: BaseGeometry | None, *, stale: bool) -> Reading | None:
    at = captured_at(item)
    if at is None or footprint is None or footprint.is_empty or not isinstance(item.get("id"), str):
        return None
    area = oriented(polygonal(footprint))
    properties = properties_of(item)
    collection = str(item.get("collection") or "")
    gsd = _gsd(source, item)
    assets = assets_of(item)
    capture = FoundCapture(
        host=source.id,
        id=item["id"],
        collection=collection,
        vendor=vendor_of(source, properties),
        captured_at=at,
        resolution=resolution_label(_told_resolution(properties), gsd),
        gsd=gsd,
        cloud_cover=cloud_cover(item),
        footprint=to_geojson(area),
        open_data=source.is_open(collection),
        license=str(properties.get("license") or source.license),
        orderable=not area.is_empty and properties.get("geopera:orderable") is not False,
        assets=assets,
        properties=dict(properties),
        thumbnail=_address(preview(assets, THUMBNAILS)),
        stale=stale,
    )
    return Reading(item, capture, area if not area.is_empty else footprint)


def vendor_of(source: Source, properties: Mapping[str, Any]) -> str:
    """Returns who sells a capture; only scenes of our own index may name another vendor than the source's."""
    told = None if source.has_own_search else properties.get("geopera:vendor")
    return str(told or source.vendor)


def _told_resolution(properties: Mapping[str, Any]) -> Any:
    return properties.get("geopera:resolution") or properties.get("resolution")


def _gsd(source: Source, item: Item) -> float | None:
    properties = properties_of(item)
    told = number_of(properties.get("gsd"))
    if told is not None and told > 0:
        return told
    return metres_of(_told_resolution(properties)) or number_of(source.collection(str(item.get("collection"))).get("gsd"))


def assets_of(item: Item) -> dict[str, dict[str, Any]]:
    """Returns the assets that have an address."""
    assets = item.get("assets")
    found = assets.items() if isinstance(assets, dict) else ()
    return {str(key): each for key, each in found if isinstance(each, dict) and isinstance(each.get("href"), str)}


def shown_assets(assets: Mapping[str, Asset], *, open_data: bool) -> dict[str, Asset]:
    """Returns what a customer may see: all of open data, previews of what is sold; never a file of the server."""
    shown = {key: each for key, each in assets.items() if is_public(each) and (open_data or _is_preview(key, each))}
    for name, keys, role in (("thumbnail", THUMBNAILS, "thumbnail"), ("quicklook", QUICKLOOKS, "overview")):
        found = preview(assets, keys)
        if found is not None and name not in shown:
            shown[name] = {**found, "roles": [role]}
    return shown


def preview(assets: Mapping[str, Asset], keys: Sequence[str]) -> Asset | None:
    """Returns the first picture that may be shown under one of the keys, else any that calls itself a thumbnail."""
    candidates = [assets[key] for key in keys if key in assets]
    candidates += [each for each in assets.values() if "thumbnail" in (each.get("roles") or [])]
    return next((each for each in candidates if is_public(each) and _is_picture(each)), None)


def _address(asset: Asset | None) -> str | None:
    return None if asset is None else str(asset["href"])


def is_public(asset: Asset) -> bool:
    """Says whether a file lies on the web, and not on this machine."""
    return urlsplit(asset["href"]).scheme in _PUBLIC_SCHEMES


def _is_preview(key: str, asset: Asset) -> bool:
    return _is_picture(asset) and (key in THUMBNAILS or not _PREVIEW_ROLES.isdisjoint(asset.get("roles") or []))


def _is_picture(asset: Asset) -> bool:
    media_type = str(asset.get("type") or "image/")
    return media_type.startswith("image/") and not media_type.startswith(_RASTERS)
