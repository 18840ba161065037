"""Takes in what strangers upload: says what it is, or refuses with a reason, and turns rasters into COGs.

A file is known by its bytes, never by its name, and is only opened by the one driver of its format, in a process that
may read nothing but the upload, reach no network and is ended when it takes too long or its caller ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from geopera_server.raster.info import CogInfo
from geopera_server.raster.ingest.inspection import FieldInfo, Inspection, LayerInfo, VectorInfo
from geopera_server.raster.ingest.limits import DEFAULT_LIMITS, Limits
from geopera_server.raster.ingest.refusals import IngestRefused
from geopera_server.raster.ingest.supervisor import run

if TYPE_CHECKING:
    from geopera_server.raster.cog import Progress, ShouldStop

__all__ = [
    "FieldInfo",
    "IngestRefused",
    "Inspection",
    "LayerInfo",
    "Limits",
    "VectorInfo",
    "convert",
    "inspect",
]


def inspect(
    files: Sequence[Path],
    *,
    given_epsg: int | None = None,
    is_categorical: bool = False,
    variable: str | None = None,
    scratch: Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
    should_stop: ShouldStop | None = None,
) -> Inspection:
    """Says what the uploaded files are: one raster, vector or point cloud with its sidecars, or one zip of those.

    The names of `files` are the customer's; world files and .prj files are found by them. `given_epsg` places pixels
    whose file names no reference system, `variable` chooses one of a NetCDF file. Archives are unpacked in `scratch`
    (default: the system's folder for temporary files) for the length of the call. Nothing is decoded but headers and
    a few blocks. Raises IngestRefused, or Stopped.
    """
    request = {
        "files": [str(path) for path in files],
        "given_epsg": given_epsg,
        "is_categorical": is_categorical,
        "variable": variable,
    }
    return run("inspect", request, Inspection, files=files, scratch=scratch, limits=limits, should_stop=should_stop)


def convert(
    inspection: Inspection,
    destination: Path,
    *,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> CogInfo:
    """Writes the inspected raster as a Cloud Optimized GeoTIFF and says what the file is.

    The file appears under its name when it is complete and checked; on any error nothing is left behind. A raster
    with `needs_conversion` False is copied byte for byte. Overviews are averaged, or of a categorical raster made of
    values that are there. Needs about 2.5 times the uncompressed size beside the destination meanwhile at most.
    Raises IngestRefused, WriteFailed or Stopped.
    """
    request = {
        "files": [str(path) for path in inspection.files],
        "given_epsg": inspection.given_epsg,
        "is_categorical": inspection.is_categorical,
        "variable": inspection.variable,
    }
    return run(
        "convert",
        request,
        CogInfo,
        files=inspection.files,
        destination=destination,
        limits=limits,
        progress=progress,
        should_stop=should_stop,
    )
