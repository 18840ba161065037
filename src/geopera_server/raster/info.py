"""What is said about a raster file, in values that go into JSON as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geopera_server.raster.statistics import BandStatistics

if TYPE_CHECKING:
    from geopera_server.raster.georef import Grid

COG_MEDIA_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"

Transform = tuple[float, float, float, float, float, float]
BBox = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class RasterInfo:
    """The metadata of a raster.

    `nodata` is a number, or "nan", "inf", "-inf" as the STAC raster extension writes them. `transform` holds the six
    numbers of x = a·column + b·row + c and y = d·column + e·row + f in the order a to f, as proj:transform does.
    `bbox_wgs84` and `footprint_wgs84` follow RFC 7946 across the antimeridian. Bands without a name are b1, b2, ...
    """

    width: int
    height: int
    band_count: int
    dtype: str
    nodata: float | str | None
    epsg: int | None
    wkt2: str
    transform: Transform
    bbox_wgs84: BBox
    footprint_wgs84: dict[str, Any]
    gsd_m: float | None
    band_names: tuple[str, ...]
    media_type: str


@dataclass(frozen=True, kw_only=True)
class CogInfo(RasterInfo):
    """The metadata of a Cloud Optimized GeoTIFF that was just written; `sha256` is that of the file, in hex."""

    statistics: tuple[BandStatistics, ...]
    size_bytes: int
    sha256: str


def grid_fields(grid: Grid) -> dict[str, Any]:
    """The fields of RasterInfo that follow from where the pixels lie."""
    affine = grid.transform
    return {
        "width": grid.width,
        "height": grid.height,
        "epsg": grid.crs.to_epsg(),
        "wkt2": grid.wkt2,
        "transform": (affine.a, affine.b, affine.c, affine.d, affine.e, affine.f),
        "bbox_wgs84": grid.bbox_wgs84(),
        "footprint_wgs84": grid.footprint_wgs84(),
        "gsd_m": grid.gsd_m(),
    }


def shown_names(names: Sequence[str | None]) -> tuple[str, ...]:
    return tuple(name or f"b{number}" for number, name in enumerate(names, start=1))


def shown_nodata(nodata: float | None) -> float | str | None:
    if nodata is None or math.isfinite(nodata):
        return nodata
    return "nan" if math.isnan(nodata) else "inf" if nodata > 0 else "-inf"
