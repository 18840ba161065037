"""Reads STAC items that an operator imports into the scene index, and says what is wrong with those it cannot take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from geopera_server.domains.catalog.reading import vendor_of
from geopera_server.domains.catalog.rules import metres_of, resolution_label
from geopera_server.domains.catalog.sources import Source
from geopera_server.kernel.errors import OperationError
from geopera_server.kernel.geometry import extents, read_geometry, to_geojson
from geopera_server.kernel.stac import CLOUD_COVER, captured_at, cloud_cover, number_of, period_of, properties_of

MAX_ID_LENGTH = 500
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class _Unfit(Exception):
    """Why an item cannot be taken, for the operator who sent it."""


@dataclass(slots=True)
class Batch:
    """Scenes ready to be written, and items that were not taken."""

    scenes: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)

    @property
    def collections(self) -> dict[str, float | None]:
        """Returns the collections that the scenes name, each with one GSD in metres if any scene tells it."""
        return {scene["collection"]: scene["properties"].get("gsd") for scene in self.scenes}


def read_batch(source: Source, features: Sequence[Mapping[str, Any]]) -> Batch:
    """Returns the scenes of a source that the items describe; an id that comes twice is taken once, the first time."""
    batch = Batch()
    known: set[str] = set()
    for feature in features:
        try:
            scene = _read(source, feature)
            if scene["id"] in known:
                raise _Unfit("The id comes twice in this import.")
        except _Unfit as unfit:
            told = feature.get("id")
            batch.rejected.append({"id": told if isinstance(told, str) else None, "reason": str(unfit)})
        else:
            known.add(scene["id"])
            batch.scenes.append(scene)
    return batch


def _read(source: Source, feature: Mapping[str, Any]) -> dict[str, Any]:
    scene_id, properties = _id_of(feature), dict(properties_of(feature))
    at, period = captured_at(feature), period_of(feature)
    if at is None or period is None:
        raise _Unfit("There is no datetime, nor start_datetime and end_datetime.")
    collection = feature.get("collection")
    if not isinstance(collection, str) or not collection:
        raise _Unfit("There is no collection.")
    geometry = _footprint(feature)
    extent, across = extents(geometry)
    gsd = _gsd(source, collection, properties)
    label = resolution_label(properties.get("geopera:resolution") or properties.get("resolution"), gsd)
    cloud = cloud_cover(feature)
    described = {**properties, "gsd": gsd, **({} if cloud is None else {CLOUD_COVER: cloud})}
    return {
        "id": scene_id,
        "collection": collection,
        "vendor": vendor_of(source, properties),
        "resolution": label,
        "captured_at": at.isoformat(),
        "starts_at": period[0].isoformat(),
        "ends_at": period[1].isoformat(),
        "footprint": to_geojson(geometry),
        "extent": extent,
        "extent_across": across,
        "properties": {name: value for name, value in described.items() if value is not None},
        "assets": _assets(feature),
    }


def _id_of(feature: Mapping[str, Any]) -> str:
    if feature.get("type") != "Feature":
        raise _Unfit("This is no GeoJSON Feature.")
    scene_id = feature.get("id")
    if not isinstance(scene_id, str) or not 0 < len(scene_id) <= MAX_ID_LENGTH:
        raise _Unfit(f"The id must be a text of 1 to {MAX_ID_LENGTH} characters.")
    return scene_id


def _footprint(feature: Mapping[str, Any]) -> Any:
    try:
        return read_geometry(feature.get("geometry"), loc=("geometry",))
    except OperationError as error:
        raise _Unfit(error.detail) from error


def _gsd(source: Source, collection: str, properties: Mapping[str, Any]) -> float | None:
    told = number_of(properties.get("gsd")) or metres_of(properties.get("geopera:resolution") or properties.get("resolution"))
    return told or number_of(source.collection(collection).get("gsd"))


def _assets(feature: Mapping[str, Any]) -> dict[str, Any]:
    assets = feature.get("assets") or {}
    if not isinstance(assets, Mapping):
        raise _Unfit("assets must be an object.")
    for key, asset in assets.items():
        href = asset.get("href") if isinstance(asset, Mapping) else None
        if not isinstance(href, str) or not _may_be_read(href):
            raise _Unfit(f"The asset {key!r} needs an https, s3 or gs address, or the full path of a file.")
    return dict(assets)


def _may_be_read(href: str) -> bool:
    """Says whether an address is of a kind that may be read; what it leads to is checked when it is."""
    parts = urlsplit(href)
    if parts.scheme in {"https", "s3", "gs"}:
        return bool(parts.netloc)
    if parts.scheme == "http":
        return parts.hostname in _LOOPBACK
    path = PurePosixPath(unquote(parts.path))
    return parts.scheme in {"", "file"} and not parts.netloc and path.is_absolute() and ".." not in path.parts
