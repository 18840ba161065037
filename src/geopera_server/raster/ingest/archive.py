"""Unpacks a zip: bounded, only plain files, under names of our own."""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from geopera_server.raster.ingest.limits import MEGABYTE, Limits
from geopera_server.raster.ingest.refusals import Damaged, TooDemanding, UnsafeArchive

# Left by macOS and Windows beside the files that were meant.
_CLUTTER = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")
_COPY_BYTES = 4 * MEGABYTE
# Below this size a text of blanks may shrink as it likes.
_FREE_ENTRY_BYTES = 64 * MEGABYTE

_MAX_NAME_CHARACTERS = 1_000
# Control characters, and those that turn the direction of writing, behind which an extension can hide.
_MISLEADING = re.compile("[\x00-\x1f\u202a-\u202e\u2066-\u2069]")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def unpack(path: Path, name: str, folder: Path, limits: Limits) -> list[tuple[str, Path]]:
    """Unpacks the archive into the folder as 0, 1, 2, ... and returns (name in the archive, path).

    Raises UnsafeArchive, TooDemanding or Damaged before anything is written, or when an entry is not what it claims.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = list(_checked(archive, path.stat().st_size, name, limits))
            if shutil.disk_usage(folder).free < sum(entry.file_size for entry in entries):
                raise OSError(28, "No space left on device")
            return [(entry.filename, _extract(archive, entry, folder / str(n))) for n, entry in enumerate(entries)]
    except (zipfile.BadZipFile, zlib.error, EOFError, UnicodeDecodeError, NotImplementedError) as error:
        raise Damaged(f"{name} is no complete zip archive; pack and send it again.") from error


def _checked(archive: zipfile.ZipFile, packed_bytes: int, name: str, limits: Limits) -> Iterator[zipfile.ZipInfo]:
    entries = archive.infolist()
    if len(entries) > limits.max_entries:
        raise TooDemanding(f"{name} holds {len(entries):,} files, and {limits.max_entries:,} are allowed; send fewer.")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > limits.max_unpacked_bytes:
        raise TooDemanding(
            f"{name} unpacks to {unpacked // MEGABYTE:,} MB, and {limits.max_unpacked_bytes // MEGABYTE:,} MB are allowed."
        )
    # Over the whole archive no entry can lie: neither about its packed size nor by sharing bytes with another.
    if unpacked > _FREE_ENTRY_BYTES and unpacked > limits.max_entry_ratio * packed_bytes:
        raise TooDemanding(f"{name} unfolds to more than {limits.max_entry_ratio} times its size.")
    seen: set[str] = set()
    for entry in entries:
        _check_entry(entry, name, limits)
        if entry.filename in seen:
            raise UnsafeArchive(f"{name} holds {_shown(entry)} twice; pack it again.")
        seen.add(entry.filename)
        if not entry.is_dir() and not any(part in _CLUTTER for part in PurePosixPath(entry.filename).parts):
            yield entry


def _check_entry(entry: zipfile.ZipInfo, name: str, limits: Limits) -> None:
    inside = entry.filename
    if len(inside) > _MAX_NAME_CHARACTERS:
        raise UnsafeArchive(f"{name} holds a file whose name has {len(inside):,} characters ({_shown(entry)}...); rename it.")
    if is_trick(inside):
        raise UnsafeArchive(
            f"{name} holds a file named {_shown(entry)}, which leads out of the archive or hides itself; rename it."
        )
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UnsafeArchive(f"{name} holds {_shown(entry)}, which is a link or device, not a file; send the file itself.")
    if entry.flag_bits & 0x1:
        raise UnsafeArchive(f"{name} is encrypted; pack it again without a password.")
    if entry.compress_type not in _METHODS:
        raise UnsafeArchive(f"{name} is packed in an unusual way; pack it again as an ordinary zip.")
    if entry.file_size > _FREE_ENTRY_BYTES and entry.file_size > limits.max_entry_ratio * max(1, entry.compress_size):
        raise TooDemanding(f"{_shown(entry)} in {name} unfolds to more than {limits.max_entry_ratio} times its packed size.")


def is_trick(inside: str) -> bool:
    """Whether a name in an archive could lead out of the folder it is unpacked in, or reads as another name."""
    parts = inside.replace("\\", "/").split("/")
    return inside.startswith(("/", "\\", "~")) or ".." in parts or ":" in parts[0] or _MISLEADING.search(inside) is not None


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> Path:
    # The size in the directory is a claim; the stream is cut where the claim ends, and its checksum then fails.
    with archive.open(entry) as source, target.open("xb") as copy:
        shutil.copyfileobj(source, copy, _COPY_BYTES)
    return target


def _shown(entry: zipfile.ZipInfo) -> str:
    return repr(entry.filename[:120])
