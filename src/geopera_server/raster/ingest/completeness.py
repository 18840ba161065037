"""Tells by a file's own structure whether its end is there, without decoding a pixel."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from geopera_server.raster.ingest import netcdf_classic
from geopera_server.raster.ingest.formats import GEOTIFF, JPEG, JPEG_2000, NETCDF, PNG, WEBP, Format
from geopera_server.raster.ingest.refusals import Damaged, TooDemanding

MAX_DIRECTORIES = 256
MAX_TIFF_BLOCKS = 20_000_000
_JPEG_TAIL_BYTES = 1 << 16

_STRIP_OFFSETS, _STRIP_COUNTS, _TILE_OFFSETS, _TILE_COUNTS, _SUB_DIRECTORIES = 273, 279, 324, 325, 330
_INTEGERS = {3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}


def check_complete(path: Path, name: str, known: Format) -> None:
    """Raises Damaged when the file ends before its own structure says it does."""
    check = _CHECKS.get(known.name)
    if check is None:
        return
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            complete = check(file, size)
        except (struct.error, ValueError, IndexError, OverflowError):
            complete = False
    if not complete:
        raise Damaged(f"{name} is truncated or damaged: parts of it are missing. Send it again.")


def _tiff_complete(file: IO[bytes], size: int) -> bool:
    return all(
        int((offsets.astype(np.float64) + counts).max(initial=0)) <= size and len(offsets) == len(counts)
        for offsets, counts in _Tiff(file).blocks()
    )


class _Tiff:
    """The directories of a TIFF or BigTIFF."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        head = file.read(16)
        self.order = "<" if head[:2] == b"II" else ">"
        self.big = head[2:4] in (b"+\0", b"\0+")
        self.word = "Q" if self.big else "I"
        (self.first,) = struct.unpack_from(self.order + self.word, head, 8 if self.big else 4)

    def blocks(self) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        """Offsets and byte counts of the strips or tiles of each directory."""
        waiting, seen = [self.first], set[int]()
        while waiting:
            place = waiting.pop()
            if place == 0 or place in seen:
                continue
            seen.add(place)
            if len(seen) > MAX_DIRECTORIES:
                raise TooDemanding(f"The TIFF holds more than {MAX_DIRECTORIES} images; send them one by one.")
            tags, following = self._directory(place)
            waiting.append(following)
            waiting.extend(int(each) for each in self._integers(tags, _SUB_DIRECTORIES))
            offsets = self._integers(tags, _TILE_OFFSETS, _STRIP_OFFSETS)
            counts = self._integers(tags, _TILE_COUNTS, _STRIP_COUNTS)
            # A sparse file has no bytes for empty blocks, and an old writer may leave out the counts of a single strip.
            yield offsets, counts if len(counts) or len(offsets) != 1 else np.zeros(1)

    def _directory(self, place: int) -> tuple[dict[int, tuple[int, int, bytes]], int]:
        count_format, entry_bytes = ("Q", 20) if self.big else ("H", 12)
        (entries,) = struct.unpack(self.order + count_format, self._read(place, struct.calcsize(count_format)))
        if entries > 4096:
            raise ValueError(entries)
        start = place + struct.calcsize(count_format)
        table = self._read(start, entries * entry_bytes)
        word_bytes = struct.calcsize(self.word)
        tags = {}
        for at in range(0, len(table), entry_bytes):
            tag, kind, count = struct.unpack_from(f"{self.order}HH{self.word}", table, at)
            tags[tag] = (kind, count, table[at + 4 + word_bytes : at + entry_bytes])
        (following,) = struct.unpack(self.order + self.word, self._read(start + len(table), word_bytes))
        return tags, following

    def _integers(self, tags: dict[int, tuple[int, int, bytes]], *wanted: int) -> npt.NDArray[Any]:
        for tag in wanted:
            if tag not in tags:
                continue
            kind, count, value = tags[tag]
            if kind not in _INTEGERS or count > MAX_TIFF_BLOCKS:
                raise ValueError(tag)
            length = count * np.dtype(_INTEGERS[kind]).itemsize
            if length > len(value):
                (place,) = struct.unpack(self.order + self.word, value)
                value = self._read(place, length)
            return np.frombuffer(value[:length], dtype=self.order + _INTEGERS[kind])
        return np.zeros(0)

    def _read(self, place: int, length: int) -> bytes:
        self.file.seek(place)
        data = self.file.read(length)
        if len(data) != length:
            raise ValueError(place)
        return data


def _jp2_complete(file: IO[bytes], size: int) -> bool:
    if file.read(4) == b"\xff\x4f\xff\x51":
        return _ends_with(file, size, b"\xff\xd9")
    place = 0
    while place < size:
        file.seek(place)
        head = file.read(16)
        length, kind = struct.unpack_from(">I4s", head)
        if length == 1:
            (length,) = struct.unpack_from(">Q", head, 8)
        elif length == 0:
            return kind != b"jp2c" or _ends_with(file, size, b"\xff\xd9")
        if length < 8:
            return False
        place += length
    return place == size


def _png_complete(file: IO[bytes], size: int) -> bool:
    place = 8
    while place + 12 <= size:
        file.seek(place)
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"IEND":
            return True
        place += 12 + length
    return False


def _jpeg_complete(file: IO[bytes], size: int) -> bool:
    file.seek(max(0, size - _JPEG_TAIL_BYTES))
    return b"\xff\xd9" in file.read()


def _webp_complete(file: IO[bytes], size: int) -> bool:
    (length,) = struct.unpack("<4xI", file.read(8))
    return bool(length + 8 <= size)


def _ends_with(file: IO[bytes], size: int, mark: bytes) -> bool:
    file.seek(max(0, size - len(mark)), os.SEEK_SET)
    return file.read() == mark


_CHECKS: dict[str, Callable[[IO[bytes], int], bool]] = {
    GEOTIFF.name: _tiff_complete,
    JPEG_2000.name: _jp2_complete,
    PNG.name: _png_complete,
    JPEG.name: _jpeg_complete,
    WEBP.name: _webp_complete,
    NETCDF.name: netcdf_classic.is_complete,
}
