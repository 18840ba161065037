"""Finds what a file says about other files and addresses, where a library might follow it."""

from __future__ import annotations

import re
from pathlib import Path

from geopera_server.raster.ingest.limits import MEGABYTE
from geopera_server.raster.ingest.refusals import Damaged, OutsideReference, TooDemanding

MAX_SIDECAR_BYTES = 16 * MEGABYTE
MAX_WKT_CHARACTERS = 200_000

_TIFF = re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+")

# In GDAL's sidecar metadata: another dataset as source, overviews or geolocation of this one.
_POINTING = re.compile(rb"SourceFilename|OVERVIEW_FILE|[XY]_DATASET|/vsi|<VRT|HISTOGRAM_FILE", re.IGNORECASE)
_ENTITIES = re.compile(rb"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)

# PROJ opens the grids and init files that a reference system names: by path, and by address when it may.
_GRID = re.compile(r"(?:grids|geoidgrids|xy_grids|z_grids|tinshift|file|init)\s*=\s*@?([^\s\"',\]]+)", re.IGNORECASE)
_PARAMETER_FILE = re.compile(r"PARAMETERFILE\s*\[\s*\"[^\"]*\"\s*,\s*\"([^\"]*)\"", re.IGNORECASE)
_PLAIN_GRID = re.compile(r"[\w.+-]+(?::\w+)?")


def check_sidecar(name: str, suffix: str, path: Path) -> None:
    """Raises OutsideReference when a sidecar leads elsewhere, and TooDemanding for one that is none by its size."""
    if suffix in (".ovr", ".msk"):
        with path.open("rb") as file:
            if not _TIFF.match(file.read(4)):
                raise OutsideReference(f"{name} is no TIFF and may lead to other files; send the image without it.")
    elif suffix not in (".shx", ".dbf"):
        text = sidecar_text(name, path)
        if suffix == ".aux.xml" and (_POINTING.search(text) or _ENTITIES.search(text)):
            raise OutsideReference(f"{name} names other files, and none of them is read; send the image without it.")


def sidecar_text(name: str, path: Path) -> bytes:
    """The content of a small text file; raises TooDemanding for a large one."""
    if path.stat().st_size > MAX_SIDECAR_BYTES:
        raise TooDemanding(f"{name} is too large for a file beside an image; send the image without it.")
    return path.read_bytes()


def check_wkt(name: str, wkt: str) -> None:
    """Raises OutsideReference when a reference system wants grids from a path or an address, and Damaged when it is endless."""
    if len(wkt) > MAX_WKT_CHARACTERS:
        raise Damaged(f"{name} has a reference system of {len(wkt):,} characters; give it a plain one, such as an EPSG code.")
    for named in (*_GRID.findall(wkt), *_PARAMETER_FILE.findall(wkt)):
        if not all(_PLAIN_GRID.fullmatch(grid.lstrip("@")) for grid in named.split(",") if grid):
            raise OutsideReference(
                f"{name} has a reference system that wants to read another file or address; give it a plain one, such as an "
                "EPSG code."
            )
