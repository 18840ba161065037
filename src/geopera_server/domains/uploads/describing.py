"""What an inspected or converted file is, in the words of an asset. Plain values in, plain values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geopera_server.raster.info import CogInfo, RasterInfo
    from geopera_server.raster.ingest import Inspection, VectorInfo

VECTOR_LAYERS_SHOWN = 50
NAME_CHARACTERS_SHOWN = 200


def as_it_came(inspection: Inspection, file: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the asset that a received file is before anything is made of it."""
    asset = {**_file_fields(file), "media_type": inspection.media_type, "roles": ["data"]}
    if inspection.info is not None:
        statistics = None if inspection.statistics is None else list(inspection.statistics)
        return {
            **asset,
            **_raster_fields(inspection.info, inspection.band_names),
            "is_cog": not inspection.needs_conversion,
            "statistics": statistics,
        }
    assert inspection.vector is not None
    return {**asset, "epsg": inspection.vector.epsg}


def as_companion(file: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the asset that a file beside a vector is, such as a shapefile's table."""
    return {**_file_fields(file), "media_type": file["content_type"], "roles": ["metadata"]}


def _file_fields(file: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "href": file["stored_path"],
        "file_name": file["file_name"],
        "file_size_bytes": file["size_bytes"],
        "checksum": f"sha256:{file['sha256']}",
    }


def as_converted(info: CogInfo, path: str, file_name: str) -> dict[str, Any]:
    """Returns the asset that a Cloud Optimized GeoTIFF is."""
    return {
        "href": path,
        "media_type": info.media_type,
        "roles": ["data"],
        "file_name": f"{PurePosixPath(file_name).stem}.tif",
        "file_size_bytes": info.size_bytes,
        "checksum": f"sha256:{info.sha256}",
        **_raster_fields(info, info.band_names),
        "is_cog": True,
        "statistics": list(info.statistics),
    }


def _raster_fields(info: RasterInfo, band_names: Sequence[str]) -> dict[str, Any]:
    return {
        "band_names": list(band_names),
        "band_count": info.band_count,
        "dtype": info.dtype,
        "nodata": info.nodata,
        "epsg": info.epsg,
        "width": info.width,
        "height": info.height,
        "gsd": info.gsd_m,
        "raster": {
            "transform": list(info.transform),
            "wkt2": info.wkt2,
            "bbox": list(info.bbox_wgs84),
            "footprint": info.footprint_wgs84,
            "nodata": info.nodata,
        },
    }


def footprint_of(inspection: Inspection) -> dict[str, Any]:
    """Returns where the data lies, as GeoJSON in WGS84."""
    place: RasterInfo | VectorInfo | None = inspection.info or inspection.vector
    assert place is not None
    return place.footprint_wgs84


def as_detected(inspection: Inspection, file: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what was found out about a file, for whoever looks the upload up."""
    found: dict[str, Any] = {
        "file_name": file["file_name"],
        "kind": inspection.kind,
        "format": inspection.format,
        "driver": inspection.driver,
        "entry": inspection.entry,
        "needs_conversion": inspection.needs_conversion,
        "notes": list(inspection.notes),
    }
    if inspection.info is not None:
        info = inspection.info
        return found | {
            "width": info.width, "height": info.height, "band_count": info.band_count, "dtype": info.dtype, "epsg": info.epsg,
            "gsd_m": info.gsd_m, "bbox": list(info.bbox_wgs84), "band_names": list(inspection.band_names),
        }  # fmt: skip
    assert inspection.vector is not None
    vector = inspection.vector
    layers = [
        {"name": layer.name[:NAME_CHARACTERS_SHOWN], "geometry_type": layer.geometry_type, "feature_count": layer.feature_count}
        for layer in vector.layers[:VECTOR_LAYERS_SHOWN]
    ]
    return found | {
        "feature_count": vector.feature_count, "epsg": vector.epsg, "bbox": list(vector.bbox_wgs84), "layers": layers,
    }  # fmt: skip
