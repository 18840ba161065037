"""Which pictures a raster offers, by what its bands show: the same rules for every client. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from geopera_server.domains.visualization.bands import ROLES, Bands, role_of
from geopera_server.domains.visualization.indices import INDICES
from geopera_server.domains.visualization.shapes import VisualizationSpec

RASTERS = frozenset({"raster", "optical", "multispectral", "sar", "thermal"})
ELEVATIONS = frozenset({"elevation", "dem", "bathymetry"})
CLASSES = frozenset({"categorical", "classification", "landcover"})
UNDRAWN = frozenset({"vector", "point", "points", "point_cloud", "pointcloud", "lidar"})

_COMPOSITES = (
    ("true_color", "True colour", ("red", "green", "blue"), "What an eye would see."),
    ("false_color", "False colour", ("nir", "red", "green"), "Near infrared as red: plants glow, water is dark."),
    ("false_color_urban", "False colour urban", ("swir22", "swir16", "red"), "Built-up and bare ground apart from plants."),
    ("agriculture", "Agriculture", ("swir16", "nir", "blue"), "Crops in bright green, bare soil in magenta."),
    ("shortwave_infrared", "Shortwave infrared", ("swir22", "nir", "red"), "Moisture, burnt ground and rock, through haze."),
)  # fmt: skip
_ELEVATION_VIEWS = (
    ("elevation", "Elevation", "terrain", "Heights from green lowland to white peaks."),
    ("elevation_grey", "Elevation in grey", "gray", "Heights from black to white."),
    ("bathymetry", "Bathymetry", "bathymetry", "Depths in blues."),
)


def pictures(
    data_type: str, roles: Mapping[str, int], *, asset: str | None = None, render_params: Mapping[str, Any] | None = None
) -> list[VisualizationSpec]:
    """Returns what may be shown of such data, the best first and marked as default; nothing for an unknown kind of data.

    `roles` maps roles or their usual spellings to 1-based bands. Of `render_params`, `rescale` and `colormap` hold for
    pictures of stored values; `scale` and `offset` bring stored numbers to reflectance for indices that need it.
    """
    given, kind = dict(render_params or {}), data_type.strip().lower()
    bands = {role_of(word) or word.lower(): number for word, number in roles.items() if number > 0}
    if kind in UNDRAWN:
        found = [VisualizationSpec(id="raw", label="Features", kind="raw", asset=asset)]
    elif kind in ELEVATIONS:
        found = [*_elevations(bands, given), *_raw(bands, given)]
    elif kind in CLASSES:
        found = [_classes(bands, given)]
    elif kind in RASTERS:
        found = [*_composites(bands, given), *_indices(bands, given), *_raw(bands, given)]
    else:
        found = []
    return [spec.model_copy(update={"asset": asset, "is_default": number == 0}) for number, spec in enumerate(found)]


def pictures_of(
    bands: Bands, *, data_type: str = "raster", of_reflectance: bool = False, colormap: str | None = None
) -> list[VisualizationSpec]:
    """Returns what may be shown of a known raster: as `pictures`, and every band of it by its number.

    `of_reflectance` says that values are reflectance already; else indices that need it take the sensor's scale, or are
    left out. A colormap is that of classes.
    """
    params: dict[str, Any] = {}
    if bands.sensor is not None and bands.sensor.scale is not None and not of_reflectance:
        params = {"scale": bands.sensor.scale, "offset": bands.sensor.offset}
    elif not of_reflectance:
        params = {"scale": None}
    roles = dict(bands.roles) or ({"elevation": 1} if data_type == "elevation" else {})
    found = pictures(data_type, roles, render_params={**params, "colormap": colormap})
    shown = {spec.bands[0] for spec in found if spec.kind == "raw" and spec.bands}
    more = [_band(number, _title(bands, number)) for number in range(1, bands.count + 1) if number not in shown]
    if bands.count >= 3 and not bands.roles and data_type == "raster":
        more.insert(0, VisualizationSpec(id="first_three", label="First three bands", kind="rgb", bands=[1, 2, 3]))
    return [spec.model_copy(update={"is_default": number == 0}) for number, spec in enumerate([*found, *more])]


def _composites(bands: Mapping[str, int], given: Mapping[str, Any]) -> Iterator[VisualizationSpec]:
    for picture_id, label, roles, description in _COMPOSITES:
        if all(role in bands for role in roles):
            yield VisualizationSpec(
                id=picture_id,
                label=label,
                kind="rgb",
                bands=[bands[role] for role in roles],
                rescale=_text(given.get("rescale")),
                description=description,
                category="composite",
            )


def _indices(bands: Mapping[str, int], given: Mapping[str, Any]) -> Iterator[VisualizationSpec]:
    scale, offset = given.get("scale", 1.0), given.get("offset", 0.0)
    known = isinstance(scale, (int, float)) and isinstance(offset, (int, float))
    for index in INDICES.values():
        if not all(role in bands for role in index.roles) or (index.of_reflectance and not known):
            continue
        yield VisualizationSpec(
            id=index.id,
            label=index.label,
            kind="index",
            expression=index.over(bands, scale=scale, offset=offset) if known else index.over(bands),
            rescale=_text(index.value_range),
            colormap=index.colormap,
            description=f"{index.name}; {index.source}.",
            category=index.category,
        )


def _elevations(bands: Mapping[str, int], given: Mapping[str, Any]) -> Iterator[VisualizationSpec]:
    band = bands.get("elevation", min(bands.values(), default=1))
    for picture_id, label, colormap, description in _ELEVATION_VIEWS:
        yield VisualizationSpec(
            id=picture_id,
            label=label,
            kind="elevation",
            bands=[band],
            rescale=_text(given.get("rescale")),
            colormap=colormap,
            description=description,
            category="elevation",
        )


def _classes(bands: Mapping[str, int], given: Mapping[str, Any]) -> VisualizationSpec:
    colormap = given.get("colormap")
    return VisualizationSpec(
        id="classes",
        label="Classes",
        kind="raw",
        bands=[min(bands.values(), default=1)],
        rescale=_text(given.get("rescale")),
        colormap=colormap if isinstance(colormap, str) else None,
        description="One colour for each class.",
        category="categorical",
    )


def _raw(bands: Mapping[str, int], given: Mapping[str, Any]) -> Iterator[VisualizationSpec]:
    words = {number: role for role, number in reversed(list(bands.items()))}
    for number in sorted(words):
        spec = _band(number, words[number] if words[number] in ROLES else None)
        colormap = given.get("colormap")
        yield spec.model_copy(
            update={"rescale": _text(given.get("rescale")), "colormap": colormap if isinstance(colormap, str) else None}
        )


def _band(number: int, word: str | None) -> VisualizationSpec:
    label = f"Band {number}" if word is None else f"Band {number} ({word})"
    return VisualizationSpec(id=f"band_{number}", label=label, kind="raw", bands=[number], category="band")


def _title(bands: Bands, number: int) -> str | None:
    name = bands.names[number - 1] if number <= len(bands.names) else None
    return None if name is None or name == f"b{number}" else name


def _text(rescale: Any) -> str | None:
    """Returns `min,max` for a pair of numbers or a text of that form; None for anything else."""
    if isinstance(rescale, str):
        return rescale
    if isinstance(rescale, (list, tuple)) and len(rescale) == 2 and all(isinstance(each, (int, float)) for each in rescale):
        return f"{rescale[0]:g},{rescale[1]:g}"
    return None
