"""Where the pixels of an upload lie: told by the image, or by the files beside it, or by the customer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyproj.exceptions
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError

from geopera_server.raster.georef import Grid
from geopera_server.raster.ingest.bundle import WORLD_SUFFIXES, Bundle, Parts
from geopera_server.raster.ingest.extents import FARTHEST_LONGITUDE
from geopera_server.raster.ingest.references import check_wkt, sidecar_text
from geopera_server.raster.ingest.refusals import Damaged, NeedsRectification, NoGeoreference

_SRS = re.compile(r"<SRS[^>]*>(.*?)</SRS>", re.DOTALL)
_GEO_TRANSFORM = re.compile(r"<GeoTransform>(.*?)</GeoTransform>", re.DOTALL)
_ESCAPES = (("&quot;", '"'), ("&apos;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"))


def grid_of(dataset: Any, bundle: Bundle, parts: Parts) -> Grid:
    """The grid as it is stored; raises NoGeoreference, NeedsRectification, OutsideReference or Damaged."""
    transform = _transform(dataset, parts)
    if transform is None:
        raise _unplaced(dataset, parts)
    crs = _crs(dataset, bundle, parts)
    if crs is None:
        raise NoGeoreference(
            f"{parts.name} has no coordinate reference system; send it with one, or name its EPSG code in the upload."
        )
    check_wkt(parts.name, crs.to_wkt())
    grid = Grid(dataset.width, dataset.height, transform, crs)
    try:
        outline = grid.outline
    except pyproj.exceptions.ProjError:
        raise NoGeoreference(
            f"{parts.name} has a reference system that is not tied to the Earth; send it with another."
        ) from None
    if outline.is_empty or not outline.is_valid or outline.area == 0 or not _is_on_earth(grid):
        raise NoGeoreference(f"{parts.name} lies outside its reference system; check its corner and its EPSG code.")
    return grid


def _is_on_earth(grid: Grid) -> bool:
    """Whether the outline spans no more than the Earth has, apart from a pixel at its edges; heights have no place on it."""
    west, south, east, north = grid.outline.bounds
    column, row = (east - west) / grid.width, (north - south) / grid.height
    return (
        (grid.pyproj_crs.is_geographic or grid.pyproj_crs.is_projected)
        and max(-south, north) <= 90.0 + row
        and max(-west, east) <= FARTHEST_LONGITUDE
        and east - west <= 360.0 + 2 * column
    )


def places_itself(dataset: Any) -> bool:
    """Whether the image needs no other file and no word of the customer to be placed."""
    return dataset.crs is not None and not dataset.transform.is_identity


def _transform(dataset: Any, parts: Parts) -> Affine | None:
    if not dataset.transform.is_identity:
        return _usable(dataset.transform, parts.name)
    for suffix in WORLD_SUFFIXES & parts.sidecars.keys():
        return _usable(_world(parts.sidecars[suffix], f"The world file of {parts.name}"), parts.name)
    found = _GEO_TRANSFORM.search(_aux_text(parts))
    if found is not None:
        numbers = _numbers(found[1].split(","), f"The .aux.xml file of {parts.name}")
        return _usable(Affine.from_gdal(*numbers), parts.name)
    return None


def _world(path: Path, name: str) -> Affine:
    """The transform in a world file, which counts from the middle of the first pixel."""
    text = sidecar_text(name, path).decode("ascii", errors="replace").replace(",", ".")
    a, d, b, e, c, f = _numbers(text.split(), name)
    return Affine(a, b, c - (a + b) / 2, d, e, f - (d + e) / 2)


def _numbers(words: list[str], name: str) -> list[float]:
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) != 6:
        raise Damaged(f"{name} does not hold the six numbers that place an image; write it anew.")
    return numbers


def _usable(transform: Affine, name: str) -> Affine:
    # Not a number compares unequal to all: this also catches those.
    if not abs(transform.determinant) > 0 or abs(transform.determinant) == float("inf"):
        raise NoGeoreference(f"{name} has pixels of no size; check its world file or transform.")
    return transform


def _crs(dataset: Any, bundle: Bundle, parts: Parts) -> CRS | None:
    if dataset.crs is not None:
        return dataset.crs
    if ".prj" in parts.sidecars:
        text = sidecar_text(f"The .prj file of {parts.name}", parts.sidecars[".prj"]).decode("utf-8", errors="replace")
        return _from_wkt(text, f"The .prj file of {parts.name}")
    found = _SRS.search(_aux_text(parts))
    if found is not None:
        return _from_wkt(_unescaped(found[1]), f"The .aux.xml file of {parts.name}")
    if bundle.given_epsg is None:
        return None
    try:
        return CRS.from_epsg(bundle.given_epsg)
    except CRSError:
        raise NoGeoreference(f"EPSG:{bundle.given_epsg} is no known reference system; name another code.") from None


def _from_wkt(text: str, name: str) -> CRS:
    check_wkt(name, text)
    try:
        return CRS.from_wkt(text.strip("\ufeff \r\n\t\0"), morph_from_esri_dialect=True)
    except CRSError:
        raise Damaged(f"{name} holds no reference system in WKT; write it anew, or name the EPSG code in the upload.") from None


def _aux_text(parts: Parts) -> str:
    path = parts.sidecars.get(".aux.xml")
    return "" if path is None else sidecar_text("The .aux.xml file", path).decode("utf-8", errors="replace")


def _unescaped(text: str) -> str:
    for escape, character in _ESCAPES:
        text = text.replace(escape, character)
    return text


def _unplaced(dataset: Any, parts: Parts) -> NoGeoreference | NeedsRectification:
    if dataset.gcps[0] or dataset.rpcs is not None:
        return NeedsRectification(
            f"{parts.name} is placed by {'ground control points' if dataset.gcps[0] else 'a camera model (RPC)'} alone; "
            "rectify it first, for example with gdalwarp, and send the result."
        )
    return NoGeoreference(
        f"{parts.name} has no place on Earth; send it with a world file and its EPSG code, or as a georeferenced GeoTIFF."
    )
