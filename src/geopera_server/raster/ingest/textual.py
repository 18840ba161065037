"""Looks through GeoJSON and KML for what would make a reader fetch something."""

from __future__ import annotations

import json
import re
import xml.parsers.expat
from collections.abc import Iterator
from pathlib import Path

from geopera_server.raster.ingest.bundle import Parts
from geopera_server.raster.ingest.limits import MEGABYTE
from geopera_server.raster.ingest.refusals import Damaged, OutsideReference, UnsupportedFormat

_PIECE_BYTES = 8 * MEGABYTE
_OVERLAP_BYTES = 4096

# The key "crs" however its letters are written: JSON has two ways for each.
_CRS_KEY = re.compile(rb'"(?:c|\\u0063)(?:r|\\u0072)(?:s|\\u0073)"\s*:\s*(?=\{)', re.IGNORECASE)
_NAMED_CRS = re.compile(r"(?:urn:(?:x-)?ogc:def:crs:|epsg:|ogc:|https?://www\.opengis\.net/def/crs/)[\w:/.-]*", re.IGNORECASE)


def check_geojson(parts: Parts) -> None:
    """Raises OutsideReference for a reference system that is a link, as the format had them in 2008."""
    for piece in _pieces(parts.path):
        for found in _CRS_KEY.finditer(piece):
            if not _is_named(piece[found.end() : found.end() + _OVERLAP_BYTES // 2]):
                raise OutsideReference(
                    f"{parts.name} has a reference system that is to be fetched from elsewhere; write it in WGS84, or name an "
                    "EPSG code."
                )


def _is_named(text: bytes) -> bool:
    """Whether an object, if it is a reference system at all, is one by name."""
    try:
        value, _end = json.JSONDecoder().raw_decode(text.decode("utf-8", errors="replace"))
    except (ValueError, RecursionError):
        return False
    if set(value) - {"properties", "type"} or "type" not in value:
        return "type" not in value
    properties = value.get("properties")
    name = properties.get("name") if isinstance(properties, dict) else None
    return value["type"] == "name" and isinstance(name, str) and _NAMED_CRS.fullmatch(name) is not None


def _pieces(path: Path) -> Iterator[bytes]:
    """The file in pieces, each of which begins with the end of the one before."""
    kept = b""
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield kept + piece
            kept = piece[-_OVERLAP_BYTES:]


def check_kml(parts: Parts) -> None:
    """Raises OutsideReference for network links and entities, Damaged for XML that is not well-formed."""
    parser = xml.parsers.expat.ParserCreate()

    def element(tag: str, _attributes: dict[str, str]) -> None:
        if tag.rpartition(":")[2] == "NetworkLink":
            raise OutsideReference(
                f"{parts.name} links to KML elsewhere (NetworkLink), and nothing outside an upload is read; send that file."
            )

    def doctype(*_declared: object) -> None:
        raise OutsideReference(f"{parts.name} declares a document type, which is not followed; export it without one.")

    parser.StartElementHandler = element
    parser.StartDoctypeDeclHandler = doctype
    try:
        with parts.path.open("rb") as file:
            parser.ParseFile(file)
    # An encoding that Python does not know either is a LookupError.
    except (xml.parsers.expat.ExpatError, LookupError) as error:
        if "unknown encoding" in str(error):
            raise UnsupportedFormat(f"{parts.name} is in an unusual encoding; save it in UTF-8.") from error
        raise Damaged(f"{parts.name} is truncated or damaged: it is no complete XML ({error}). Send it again.") from error
