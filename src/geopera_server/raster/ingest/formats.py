"""Which format a file has, told by its first bytes: names and what a client says of its type decide nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from geopera_server.raster.ingest.refusals import OutsideReference, UnsupportedFormat

HEAD_BYTES = 4096

ACCEPTED = (
    "GeoTIFF, JPEG 2000, NetCDF, PNG, JPEG or WebP with a world file, ASCII grid, GeoJSON, GeoPackage, zipped Shapefile, "
    "KML, FlatGeobuf, LAS or LAZ"
)


@dataclass(frozen=True)
class Format:
    """A format that is taken in; `driver` is the one GDAL driver that may open it, or "LAS"."""

    name: str
    kind: Literal["raster", "vector", "archive"]
    driver: str
    suffix: str
    media_type: str


GEOTIFF = Format("GeoTIFF", "raster", "GTiff", ".tif", "image/tiff; application=geotiff")
JPEG_2000 = Format("JPEG 2000", "raster", "JP2OpenJPEG", ".jp2", "image/jp2")
NETCDF = Format("NetCDF", "raster", "netCDF", ".nc", "application/netcdf")
NETCDF_4 = Format("NetCDF-4", "raster", "netCDF", ".nc", "application/netcdf")
PNG = Format("PNG", "raster", "PNG", ".png", "image/png")
JPEG = Format("JPEG", "raster", "JPEG", ".jpg", "image/jpeg")
WEBP = Format("WebP", "raster", "WEBP", ".webp", "image/webp")
ASCII_GRID = Format("ASCII grid", "raster", "AAIGrid", ".asc", "text/plain")
GEOJSON = Format("GeoJSON", "vector", "GeoJSON", ".geojson", "application/geo+json")
GEOPACKAGE = Format("GeoPackage", "vector", "GPKG", ".gpkg", "application/geopackage+sqlite3")
SHAPEFILE = Format("Shapefile", "vector", "ESRI Shapefile", ".shp", "application/vnd.shp")
KML = Format("KML", "vector", "KML", ".kml", "application/vnd.google-earth.kml+xml")
FLATGEOBUF = Format("FlatGeobuf", "vector", "FlatGeobuf", ".fgb", "application/vnd.flatgeobuf")
LAS = Format("LAS", "vector", "LAS", ".laz", "application/vnd.laszip")
ZIP = Format("zip archive", "archive", "", ".zip", "application/zip")

FORMATS = {
    known.name: known
    for known in (
        *(GEOTIFF, JPEG_2000, NETCDF, NETCDF_4, PNG, JPEG, WEBP, ASCII_GRID),
        *(GEOJSON, GEOPACKAGE, SHAPEFILE, KML, FLATGEOBUF, LAS, ZIP),
    )
}

_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", GEOTIFF),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", JPEG_2000),
    (rb"CDF[\x01\x02\x05]", NETCDF),
    (rb"\x89HDF\r\n\x1a\n", NETCDF_4),
    (rb"\x89PNG\r\n\x1a\n", PNG),
    (rb"\xff\xd8\xff", JPEG),
    (rb"RIFF....WEBP", WEBP),
    (rb"(?i:\s*ncols\s)", ASCII_GRID),
    (rb"SQLite format 3\0", GEOPACKAGE),
    (rb"\0\0\x27\x0a", SHAPEFILE),
    (rb"fgb\x03fgb", FLATGEOBUF),
    (rb"LASF", LAS),
    (rb"PK(\x03\x04|\x05\x06)", ZIP),
    (rb"(\xef\xbb\xbf)?\s*\{", GEOJSON),
)
_MATCHES = tuple((re.compile(pattern, re.DOTALL), known) for pattern, known in _MAGIC)

_KML_ROOT = re.compile(rb"<(?:[\w.-]+:)?kml[\s>]")

# Formats whose purpose, or whose habit, is to have their pixels elsewhere.
_POINTERS = re.compile(
    rb"<\s*(?:VRTDataset|OGRVRTDataSource|GDAL_WMS|GDALTileIndexDataset|MRF_META|WMS_Capabilities|WMT_MS_Capabilities|"
    rb"WMTS|Capabilities|WCS_GDAL|OGRWFSDataSource|WFS_Capabilities|GDALWMTS|TileMap|NetworkLink)\b",
    re.IGNORECASE,
)
_ADVICE: tuple[tuple[bytes, str], ...] = (
    (rb"EHFA_HEADER_TAG", "Erdas Imagine files may keep their pixels in other files; export it as GeoTIFF"),
    (rb"GRIB", "GRIB is not taken in; convert it to NetCDF or GeoTIFF"),
    (rb"msid|ecw|\xff\xff\xff\xff\x01", "this compressed format needs a licensed decoder; export it as GeoTIFF"),
    (rb"%PDF", "PDF is not taken in; export the map as GeoTIFF"),
    (rb"GIF8|BM", "this image format is not taken in; convert it to GeoTIFF"),
    (rb"NITF|NSIF", "NITF is not taken in; convert it to GeoTIFF"),
    (rb"\x1f\x8b|7z\xbc\xaf|Rar!|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd", "of archives only zip is unpacked; pack the files as zip"),
    (rb"\x0e\x03\x13\x01", "HDF4 is not taken in; convert it to NetCDF or GeoTIFF"),
    (rb"PAR1", "GeoParquet is not taken in yet; convert it to GeoPackage or FlatGeobuf"),
)


def identified(path: Path, name: str) -> Format | None:
    """The format of a file, or None for one that is not known, such as a readme.

    Raises OutsideReference for formats that are instructions to read other files.
    """
    head = head_of(path)
    for pattern, known in _MATCHES:
        if pattern.match(head):
            return known
    if _is_text(head):
        if _POINTERS.search(head):
            raise OutsideReference(
                f"{name} only describes where its data lies (as VRT, WMS and tile index files do), and nothing outside an "
                "upload is read; send the data itself, for example as GeoTIFF."
            )
        if _KML_ROOT.search(head):
            return KML
    return None


def unsupported(path: Path, name: str) -> UnsupportedFormat:
    """The refusal of a file of no known format, with what to do instead."""
    if path.stat().st_size == 0:
        return UnsupportedFormat(f"{name} is empty; send it again.")
    head = head_of(path)
    for pattern, advice in _ADVICE:
        if re.match(pattern, head):
            return UnsupportedFormat(f"{name}: {advice}.")
    return UnsupportedFormat(f"{name} is of no format that is taken in; send {ACCEPTED}, or a zip of one of them.")


def head_of(path: Path) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _is_text(head: bytes) -> bool:
    return b"\0" not in head and head.lstrip(b"\xef\xbb\xbf").lstrip()[:1] == b"<"
