"""What an upload turned out to be, in values that go into JSON as they are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from geopera_server.raster.info import BBox, RasterInfo
from geopera_server.raster.statistics import BandStatistics


@dataclass(frozen=True, kw_only=True)
class FieldInfo:
    """One attribute of a layer's features; `type` is a NumPy or OGR type name."""

    name: str
    type: str


@dataclass(frozen=True, kw_only=True)
class LayerInfo:
    """One layer; `geometry_type` is None for a table without geometries, `bbox_wgs84` for a layer without features."""

    name: str
    geometry_type: str | None
    feature_count: int
    epsg: int | None
    wkt2: str | None
    bbox_wgs84: BBox | None
    fields: tuple[FieldInfo, ...]


@dataclass(frozen=True, kw_only=True)
class VectorInfo:
    """A vector file or point cloud; `bbox_wgs84` and `footprint_wgs84` (the box as a polygon) hold all layers.

    `epsg` is that of all layers with geometries, or None when they differ.
    """

    layers: tuple[LayerInfo, ...]
    feature_count: int
    epsg: int | None
    bbox_wgs84: BBox
    footprint_wgs84: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What the files are.

    Of a raster `info` is set, of a vector or a point cloud `vector`. `main` is the uploaded file with the data, which
    is stored as it is unless `needs_conversion`; `entry` is the file in it when it is an archive. `driver` is GDAL's
    name, or "LAS". `media_type` is that of `main`. `statistics` are those a ready Cloud Optimized GeoTIFF carries.
    `acquired` is the moment the file itself names. `notes` say what was left aside, in words for the customer.
    """

    kind: Literal["raster", "vector"]
    files: tuple[Path, ...]
    main: Path
    entry: str | None
    format: str
    driver: str
    media_type: str
    needs_conversion: bool
    is_categorical: bool
    given_epsg: int | None
    variable: str | None
    info: RasterInfo | None
    vector: VectorInfo | None
    band_names: tuple[str, ...]
    statistics: tuple[BandStatistics, ...] | None
    acquired: datetime | None
    notes: tuple[str, ...]
