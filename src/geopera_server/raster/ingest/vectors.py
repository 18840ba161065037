"""Says what an uploaded vector file holds: layers, features, fields and where they lie. Nothing is converted."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyproj

from geopera_server.raster.ingest import geopackage, points, textual
from geopera_server.raster.ingest.bundle import Parts
from geopera_server.raster.ingest.drivers import VECTOR_DRIVERS, keep_only
from geopera_server.raster.ingest.extents import bbox_wgs84, box_around, footprint_of, wkt2_of
from geopera_server.raster.ingest.formats import FLATGEOBUF, GEOJSON, GEOPACKAGE, KML, LAS, SHAPEFILE
from geopera_server.raster.ingest.inspection import FieldInfo, LayerInfo, VectorInfo
from geopera_server.raster.ingest.limits import Limits
from geopera_server.raster.ingest.refusals import Damaged, TooDemanding, UnsupportedFormat
from geopera_server.raster.ingest.shapefiles import check_shapefile

MAX_LAYERS = 200

_CHECKS = {
    GEOJSON.name: textual.check_geojson,
    KML.name: textual.check_kml,
    GEOPACKAGE.name: geopackage.check_geopackage,
    SHAPEFILE.name: check_shapefile,
}


def described(parts: Parts, limits: Limits) -> VectorInfo:
    """The layers and their place; raises IngestRefused of any kind."""
    check = _CHECKS.get(parts.format.name)
    if check is not None:
        check(parts)
    layers = points.layers(parts) if parts.format is LAS else _layers(parts, limits)
    return _whole(parts, layers)


def _layers(parts: Parts, limits: Limits) -> list[LayerInfo]:
    # They would be loaded where they are installed, for nothing.
    for unneeded in ("pandas", "geopandas", "pyarrow"):
        sys.modules.setdefault(unneeded, None)  # type: ignore[arg-type]
    import pyogrio  # noqa: PLC0415
    from pyogrio import _io  # noqa: PLC0415

    keep_only(VECTOR_DRIVERS, _io)
    with _reading(pyogrio, parts):
        names = [str(name) for name, _type in pyogrio.list_layers(parts.path)]
    if len(names) > MAX_LAYERS:
        raise TooDemanding(f"{parts.name} holds {len(names)} layers, and {MAX_LAYERS} are allowed; send it in parts.")
    return [_layer(pyogrio, parts, name, limits) for name in names]


@contextmanager
def _reading(pyogrio: Any, parts: Parts) -> Iterator[None]:
    try:
        yield
    # ValueError is what pyogrio raises for a feature that cannot be reached and for text in no encoding.
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError) as error:
        raise Damaged(f"{parts.name} is damaged or truncated: it is no readable {parts.format.name}. Send it again.") from error


def _layer(pyogrio: Any, parts: Parts, name: str, limits: Limits) -> LayerInfo:
    with _reading(pyogrio, parts):
        info = pyogrio.read_info(parts.path, layer=name, force_feature_count=True, force_total_bounds=True)
        count = int(info["features"])
        if parts.format is FLATGEOBUF and count:
            # Its header knows the count and the box; only the last feature shows that the features are there.
            pyogrio.raw.read(parts.path, layer=name, skip_features=count - 1, max_features=1)
    if count > limits.max_features:
        raise TooDemanding(f"{parts.name} holds {count:,} features, and {limits.max_features:,} are allowed; send it in parts.")
    fields = tuple(FieldInfo(name=str(f), type=str(t)) for f, t in zip(info["fields"], info["dtypes"], strict=True))
    geometry = None if info["geometry_type"] in (None, "None") else str(info["geometry_type"])
    bounds = info["total_bounds"]
    wkt2 = wkt2_of(info["crs"], parts.name) if geometry is not None and info["crs"] else None
    placed = geometry is not None and count > 0 and bounds is not None and all(math.isfinite(each) for each in bounds)
    return LayerInfo(
        name=name,
        geometry_type=geometry,
        feature_count=count,
        epsg=pyproj.CRS(wkt2).to_epsg() if wkt2 is not None else None,
        wkt2=wkt2,
        bbox_wgs84=bbox_wgs84(wkt2, tuple(bounds), parts.name) if placed else None,
        fields=fields,
    )


def _whole(parts: Parts, layers: list[LayerInfo]) -> VectorInfo:
    boxes = [layer.bbox_wgs84 for layer in layers if layer.bbox_wgs84 is not None]
    if not boxes:
        raise UnsupportedFormat(f"{parts.name} holds no feature with a place; send a file with at least one.")
    codes = {layer.epsg for layer in layers if layer.bbox_wgs84 is not None}
    bounds = box_around(boxes)
    return VectorInfo(
        layers=tuple(layers),
        feature_count=sum(layer.feature_count for layer in layers),
        epsg=codes.pop() if len(codes) == 1 else None,
        bbox_wgs84=bounds,
        footprint_wgs84=footprint_of(bounds),
    )
