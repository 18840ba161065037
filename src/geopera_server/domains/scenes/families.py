"""The families of open scenes: which collections hold them, which file shows what, and what pictures they offer. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geopera_server.domains.catalog.captures import FoundCapture
from geopera_server.domains.visualization.bands import ROLES, bands_of, role_of, sentinel_2_offset
from geopera_server.domains.visualization.pictures import pictures
from geopera_server.domains.visualization.shapes import VisualizationSpec

_PICTURES = frozenset({"visual", "tci", "preview", "rendered_preview", "overview", "thumbnail"})
_RASTER_TYPES = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff")


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneBand:
    """One band of a scene: what it shows, and where: the 1-based band of a file; `resolution` is in metres."""

    role: str
    name: str
    href: str
    number: int
    resolution: float | None
    scale: float
    offset: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind of open scene: every scene has the `typical` roles; a stored number x scale + offset is reflectance."""

    id: str
    title: str
    collections: frozenset[str]
    typical: tuple[str, ...]
    resolution: float
    scale: float | None = None
    offset: float = 0.0


SENTINEL = Family(
    id="sentinel",
    title="Sentinel-2",
    collections=frozenset(
        {"sentinel-2-l2a", "sentinel-2-c1-l2a", "sentinel-2-pre-c1-l2a", "sentinel-2-l1c", "sentinel-s2-l2a-cogs"}
    ),
    typical=(
        "coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "nir09", "swir16", "swir22",
    ),
    resolution=10.0,
    scale=0.0001,
)  # fmt: skip
LANDSAT = Family(
    id="landsat",
    title="Landsat",
    collections=frozenset({"landsat-c2-l2", "landsat-c2-l1", "landsat-8-c2-l2"}),
    typical=("coastal", "blue", "green", "red", "nir", "swir16", "swir22"),
    resolution=30.0,
    scale=0.0000275,
    offset=-0.2,
)
NAIP = Family(id="naip", title="NAIP", collections=frozenset({"naip"}), typical=("red", "green", "blue", "nir"), resolution=1.0)
FAMILIES = {family.id: family for family in (SENTINEL, LANDSAT, NAIP)}


def offered(family: Family) -> list[VisualizationSpec]:
    """Returns the pictures that every scene of a family offers; bands are numbered as in `typical`."""
    roles = {role: number for number, role in enumerate(family.typical, start=1)}
    return pictures("raster", roles, render_params={"scale": family.scale, "offset": family.offset})


def bands_in(capture: FoundCapture, family: Family | None) -> list[SceneBand]:
    """Returns the bands that a scene's files hold, one for each role, in the order of wavelengths.

    Of a scene whose files do not say what they show, the first band of the first raster.
    """
    found: dict[str, SceneBand] = {}
    for key, asset in capture.assets.items():
        for band in _bands_of_asset(key, asset, capture, family):
            known = found.get(band.role)
            if known is None or (band.resolution or 1e9) < (known.resolution or 1e9):
                found[band.role] = band
    return [found[role] for role in ROLES if role in found] or _first_band(capture)


def _first_band(capture: FoundCapture) -> list[SceneBand]:
    for key, asset in capture.assets.items():
        if _is_raster(asset):
            href = str(asset["href"])
            return [SceneBand(role="b1", name=key, href=href, number=1, resolution=capture.gsd, scale=1.0, offset=0.0)]
    return []


def _bands_of_asset(key: str, asset: Mapping[str, Any], capture: FoundCapture, family: Family | None) -> list[SceneBand]:
    if not _is_raster(asset) or _is_picture(key, asset):
        return []
    told = [each for each in asset.get("bands") or asset.get("eo:bands") or [] if isinstance(each, Mapping)]
    names = [str(each.get("name") or f"b{number}") for number, each in enumerate(told, start=1)]
    known = bands_of({"key": key, "band_count": len(told) or None, "band_names": names}, _properties(capture))
    roles = dict(known.roles)
    for number, each in enumerate(told, start=1):
        common = role_of(str(each.get("eo:common_name") or each.get("common_name") or ""))
        # All three red edges have one common name; what the sensor's name says is more.
        if common is not None and number not in roles.values():
            roles.setdefault(common, number)
    stored = [each for each in asset.get("raster:bands") or told if isinstance(each, Mapping)]
    return [_band(role, number, key, names, asset, stored, capture, family) for role, number in roles.items()]


def _band(
    role: str,
    number: int,
    key: str,
    names: Sequence[str],
    asset: Mapping[str, Any],
    stored: Sequence[Mapping[str, Any]],
    capture: FoundCapture,
    family: Family | None,
) -> SceneBand:
    told = stored[number - 1] if number <= len(stored) else {}
    scale, offset = _number(told, "raster:scale", "scale"), _number(told, "raster:offset", "offset")
    if scale is None:
        scale, offset = (1.0, 0.0) if family is None or family.scale is None else (family.scale, family.offset)
        if family is SENTINEL:
            offset = sentinel_2_offset(capture.properties)
    resolution = _number(told, "raster:spatial_resolution", "spatial_resolution") or _number(asset, "gsd") or capture.gsd
    return SceneBand(
        role=role,
        name=names[number - 1] if number <= len(names) else key,
        href=str(asset["href"]),
        number=number,
        resolution=resolution,
        scale=scale,
        offset=offset or 0.0,
    )


def _is_raster(asset: Mapping[str, Any]) -> bool:
    return str(asset.get("type") or "").startswith(_RASTER_TYPES)


def _is_picture(key: str, asset: Mapping[str, Any]) -> bool:
    return key.lower().partition("-")[0] in _PICTURES or not _PICTURES.isdisjoint(asset.get("roles") or [])


def _properties(capture: FoundCapture) -> dict[str, Any]:
    return {"geopera:collection": capture.collection, **capture.properties}


def _number(told: Mapping[str, Any], *names: str) -> float | None:
    for name in names:
        value = told.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    return None
