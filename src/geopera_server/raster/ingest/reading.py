"""Says what the parts of an upload are, once they are found."""

from __future__ import annotations

from typing import Any

from geopera_server.raster.ingest.bundle import Bundle, Parts
from geopera_server.raster.ingest.limits import Limits


def inspected(bundle: Bundle, parts: Parts, limits: Limits) -> dict[str, Any]:
    """The fields of an Inspection; the libraries of rasters and of vectors are loaded only where they are needed."""
    seen = _raster(bundle, parts, limits) if parts.format.kind == "raster" else _vector(parts, limits)
    paths = [path for _, path in bundle.files]
    return {
        "kind": parts.format.kind,
        "files": paths,
        "main": paths[parts.uploaded],
        "entry": parts.entry,
        "format": parts.format.name,
        "driver": parts.format.driver,
        "is_categorical": bundle.is_categorical,
        "given_epsg": bundle.given_epsg,
        **seen,
        "notes": (*parts.notes, *seen["notes"]),
    }


def _raster(bundle: Bundle, parts: Parts, limits: Limits) -> dict[str, Any]:
    from geopera_server.raster.ingest import describing, rasters  # noqa: PLC0415

    with rasters.open_raster(bundle, parts, limits) as raster:
        statistics = describing.ready_statistics(raster, bundle, parts)
        info = describing.described(raster, parts)
        return {
            "media_type": describing.media_type(parts, ready=statistics is not None),
            "needs_conversion": statistics is None or parts.entry is not None,
            "variable": raster.variable,
            "info": info,
            "vector": None,
            "band_names": info.band_names,
            "statistics": statistics,
            "acquired": describing.acquired(raster, parts),
            "notes": raster.notes,
        }


def _vector(parts: Parts, limits: Limits) -> dict[str, Any]:
    from geopera_server.raster.ingest.vectors import described  # noqa: PLC0415

    return {
        "media_type": parts.format.media_type if parts.entry is None else "application/zip",
        "needs_conversion": False,
        "variable": None,
        "info": None,
        "vector": described(parts, limits),
        "band_names": (),
        "statistics": None,
        "acquired": None,
        "notes": (),
    }
