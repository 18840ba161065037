"""Reads the header of a LAS, LAZ or COPC point cloud (ASPRS LAS 1.4 R15); the points are not decoded."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import IO

import pyproj

from geopera_server.raster.ingest.bundle import Parts
from geopera_server.raster.ingest.extents import bbox_wgs84, wkt2_of
from geopera_server.raster.ingest.inspection import FieldInfo, LayerInfo
from geopera_server.raster.ingest.references import MAX_WKT_CHARACTERS
from geopera_server.raster.ingest.refusals import Damaged, NoGeoreference

_HEADER_BYTES = 227
_VLR_BYTES, _EVLR_BYTES = 54, 60
_MAX_RECORDS = 10_000
_WKT_RECORD, _GEOKEY_RECORD = 2112, 34735
_PROJECTED_KEY, _GEOGRAPHIC_KEY, _OWN_CODE = 3072, 2048, 32767


@dataclass(frozen=True)
class _Header:
    minor: int
    header_bytes: int
    points_at: int
    records: int
    compressed: bool
    point_bytes: int
    count: int
    bounds: tuple[float, float, float, float]
    extended_at: int
    extended_records: int


def layers(parts: Parts) -> list[LayerInfo]:
    """The point cloud as one layer; raises Damaged or NoGeoreference."""
    with parts.path.open("rb") as file:
        try:
            header = _header(file)
            _check_complete(file, header, parts)
            wkt2, is_copc = _records(file, header, parts)
        except (struct.error, ValueError, OverflowError) as error:
            raise Damaged(f"{parts.name} is damaged: its header cannot be read. Send it again.") from error
    if wkt2 is None:
        raise NoGeoreference(f"{parts.name} names no coordinate reference system; write it with one (a WKT or GeoTIFF record).")
    kind = "COPC" if is_copc else "LAZ" if header.compressed else "LAS"
    return [
        LayerInfo(
            name=kind,
            geometry_type="Point Z",
            feature_count=header.count,
            epsg=pyproj.CRS.from_wkt(wkt2).to_epsg(),
            wkt2=wkt2,
            bbox_wgs84=bbox_wgs84(wkt2, header.bounds, parts.name),
            fields=tuple(
                FieldInfo(name=name, type=type_) for name, type_ in (("Intensity", "uint16"), ("Classification", "uint8"))
            ),
        )
    ]


def _header(file: IO[bytes]) -> _Header:
    head = file.read(375)
    if len(head) < _HEADER_BYTES:
        raise ValueError("short header")
    major, minor = head[24], head[25]
    header_bytes, points_at, records, point_format, point_bytes, count = struct.unpack_from("<HIIBHI", head, 94)
    east, west, north, south = struct.unpack_from("<4d", head, 179)
    extended_at = extended_records = 0
    if minor >= 4:
        extended_at, extended_records, count = struct.unpack_from("<QIQ", head, 235)
    if major != 1 or header_bytes < _HEADER_BYTES or points_at < header_bytes or point_bytes == 0:
        raise ValueError("not LAS 1.x")
    bounds = (west, south, east, north)
    if not all(map(math.isfinite, bounds)) or west > east or south > north:
        raise ValueError("bounds")
    compressed = bool(point_format & 0xC0)
    return _Header(
        minor, header_bytes, points_at, records, compressed, point_bytes, count, bounds, extended_at, extended_records
    )


def _check_complete(file: IO[bytes], header: _Header, parts: Parts) -> None:
    size, ends = parts.file_bytes, [header.points_at]
    if header.count == 0:
        raise Damaged(f"{parts.name} holds no points; send it with some.")
    if header.compressed:
        # LASzip begins with the place of its table of chunks, which is written last; -1 stands for its last 8 bytes.
        file.seek(header.points_at)
        (table_at,) = struct.unpack("<q", file.read(8))
        if table_at == -1:
            file.seek(size - 8)
            (table_at,) = struct.unpack("<q", file.read(8))
        ends.append(table_at + 8)
        if table_at <= header.points_at:
            raise ValueError("chunk table")
    else:
        ends.append(header.points_at + header.count * header.point_bytes)
    if header.extended_records:
        ends.append(header.extended_at + _EVLR_BYTES)
    if max(ends) > size:
        raise Damaged(f"{parts.name} is truncated: {max(ends):,} bytes should be there, and it has {size:,}. Send it again.")


def _records(file: IO[bytes], header: _Header, parts: Parts) -> tuple[str | None, bool]:
    """The reference system as WKT2, and whether the file is a COPC."""
    found: str | None = None
    is_copc = False
    for user, number, place, length in _record_heads(file, header):
        is_copc = is_copc or (user == b"copc" and number == 1)
        if user != b"LASF_Projection" or found is not None or number not in (_WKT_RECORD, _GEOKEY_RECORD):
            continue
        if length > MAX_WKT_CHARACTERS:
            raise ValueError("record length")
        file.seek(place)
        data = file.read(length)
        found = _from_wkt(data, parts.name) if number == _WKT_RECORD else _from_keys(data)
    return found, is_copc


def _record_heads(file: IO[bytes], header: _Header) -> list[tuple[bytes, int, int, int]]:
    """(user id, record id, place of the data, its length) of each record before and behind the points."""
    heads: list[tuple[bytes, int, int, int]] = []
    for place, count, head_bytes, form in (
        (header.header_bytes, header.records, _VLR_BYTES, "<2x16sHH"),
        (header.extended_at, header.extended_records, _EVLR_BYTES, "<2x16sHQ"),
    ):
        if count > _MAX_RECORDS:
            raise ValueError("records")
        for _ in range(count):
            file.seek(place)
            user, number, length = struct.unpack_from(form, file.read(head_bytes))
            heads.append((user.rstrip(b"\0"), number, place + head_bytes, length))
            place += head_bytes + length  # noqa: PLW2901
    return heads


def _from_wkt(data: bytes, name: str) -> str | None:
    text = data.rstrip(b"\0").decode("utf-8", errors="replace").strip()
    if not text:
        return None
    return wkt2_of(text, name)


def _from_keys(data: bytes) -> str | None:
    """The EPSG code of a GeoTIFF key directory: entries of four 16-bit numbers behind one of the same size."""
    keys = {key: value for key, place, _count, value in struct.iter_unpack("<4H", data[8 : len(data) // 8 * 8]) if place == 0}
    for key in (_PROJECTED_KEY, _GEOGRAPHIC_KEY):
        code = keys.get(key, _OWN_CODE)
        if code != _OWN_CODE:
            return str(pyproj.CRS.from_epsg(code).to_wkt("WKT2_2019"))
    return None
