"""The shapes that tile operations answer with."""

from __future__ import annotations

from typing_extensions import TypedDict

from geopera_server.raster.figures import RasterStats


class BandFigures(TypedDict):
    """The figures of one band; of an expression, which is no band, `band` is null."""

    band: int | None
    name: str
    statistics: RasterStats


class AreaFigures(TypedDict):
    """Figures of a raster within an area; `rescale` is what to stretch it over."""

    bands: list[BandFigures]
    expression: str | None
    percentiles: list[float]
    rescale: str
    bbox: list[float]
    sampled: bool


class ItemFigures(TypedDict):
    """Figures of a formula over an item's whole raster."""

    item_id: str
    asset_key: str
    expression: str
    statistics: RasterStats
    rescale: str


class ColormapShown(TypedDict):
    """A colormap with some of its colours, from the lowest value on."""

    name: str
    label: str
    colors: list[str]


class FormulaShown(TypedDict):
    """A published index; `formula` is over the roles of bands, which `bands` lists."""

    name: str
    label: str
    formula: str
    bands: list[str]
    value_range: list[float]
    colormap: str
    category: str
    description: str


class ShownVisualization(TypedDict):
    """Which picture the tiles show."""

    id: str | None
    label: str | None
    rescale: str | None


# One key is no name in Python.
TileJson = TypedDict(
    "TileJson",
    {
        "tilejson": str,
        "name": str,
        "description": str,
        "version": str,
        "scheme": str,
        "tiles": list[str],
        "minzoom": int,
        "maxzoom": int,
        "bounds": list[float],
        "center": list[float],
        "geopera:visualization": ShownVisualization,
    },
)
