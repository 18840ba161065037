"""Which of the uploaded files is the data, and which stand beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from geopera_server.raster.ingest.archive import unpack
from geopera_server.raster.ingest.formats import (
    JPEG,
    KML,
    PNG,
    SHAPEFILE,
    WEBP,
    ZIP,
    Format,
    identified,
    unsupported,
)
from geopera_server.raster.ingest.limits import Limits
from geopera_server.raster.ingest.references import check_sidecar
from geopera_server.raster.ingest.refusals import Ambiguous, Damaged, UnsafeArchive, UnsupportedFormat

WORLD_SUFFIXES = frozenset(
    {".wld", ".tfw", ".tifw", ".tiffw", ".pgw", ".pngw", ".jgw", ".jpgw", ".jpegw", ".j2w", ".jp2w", ".wbw", ".webpw"}
)
SIDECAR_SUFFIXES = WORLD_SUFFIXES | {".prj", ".msk", ".ovr", ".aux.xml", ".shx", ".dbf", ".cpg"}

MAX_NOTES = 20

Named = tuple[str, Path]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """The uploaded files by their names, and what the customer said about them."""

    files: tuple[Named, ...]
    given_epsg: int | None
    is_categorical: bool
    variable: str | None

    @classmethod
    def of(cls, request: dict[str, Any]) -> Bundle:
        """The bundle of a request to the worker."""
        paths = (Path(path) for path in request["files"])
        return cls(
            files=tuple(zip(request["names"], paths, strict=True)),
            given_epsg=request["given_epsg"],
            is_categorical=request["is_categorical"],
            variable=request["variable"],
        )


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The data under a name of our own beside its sidecars by suffix.

    `name` is the customer's name of the data, `uploaded` the index of the uploaded file it came in, and `entry` its
    name in that file when it is an archive. `notes` say what was left aside.
    """

    name: str
    path: Path
    format: Format
    sidecars: dict[str, Path]
    uploaded: int
    entry: str | None
    notes: tuple[str, ...]

    @property
    def file_bytes(self) -> int:
        return self.path.stat().st_size


@contextmanager
def unpacked(bundle: Bundle, work: Path, limits: Limits) -> Iterator[Parts]:
    """Finds the data among the files, unpacked if they came as one zip.

    Raises UnsupportedFormat, Ambiguous, OutsideReference, UnsafeArchive, TooDemanding or Damaged.
    """
    folder = work / "parts"
    folder.mkdir()
    archives = [place for place, (name, path) in enumerate(bundle.files) if identified(path, name) is ZIP]
    if not archives:
        yield _parts(bundle.files, folder, None, bundle)
        return
    if len(bundle.files) > 1:
        raise Ambiguous("A zip archive is taken in alone; send one archive, or its files without it.")
    name, path = bundle.files[0]
    files = unpack(path, name, _made(work / "unpacked"), limits)
    if not files:
        raise UnsupportedFormat(f"{name} is an empty archive; pack it again.")
    for inside, entry in files:
        if identified(entry, inside) is ZIP:
            raise UnsafeArchive(f"{name} holds another archive ({inside}); unpack that one first.")
    yield _parts(files, folder, name, bundle)


def _parts(files: Sequence[Named], folder: Path, archive: str | None, bundle: Bundle) -> Parts:
    found = [(name, path, known) for name, path in files if (known := _data_format(name, path)) is not None]
    name, path, known = _chosen(found, files)
    sidecars = {suffix: other for other_name, other in files if (suffix := _beside(name, other_name)) is not None}
    for suffix, sidecar in sidecars.items():
        check_sidecar(f"{_stem(name)}{suffix}", suffix, sidecar)
    used = {path, *sidecars.values()}
    unused = [f"{other_name} was not used." for other_name, other in files if other not in used]
    notes = unused[:MAX_NOTES] + ([f"{len(unused) - MAX_NOTES:,} more files were not used."] if len(unused) > MAX_NOTES else [])
    main = _placed(path, folder / f"data{known.suffix}")
    if known is SHAPEFILE:
        _check_shapefile(name, sidecars, archive)
    placed = {suffix: _placed(sidecar, folder / f"data{suffix}") for suffix, sidecar in sidecars.items() if known is SHAPEFILE}
    uploaded = 0 if archive is not None else [each for each, _ in bundle.files].index(name)
    return Parts(
        name=PurePosixPath(name).name,
        path=main,
        format=known,
        sidecars=placed or sidecars,
        uploaded=uploaded,
        entry=None if archive is None else name,
        notes=tuple(notes),
    )


def _data_format(name: str, path: Path) -> Format | None:
    """The format of a file that may be the data; sidecars may look like data (.msk and .ovr are TIFFs)."""
    return None if _suffix(name) in SIDECAR_SUFFIXES else identified(path, name)


def _chosen(found: list[tuple[str, Path, Format]], files: Sequence[Named]) -> tuple[str, Path, Format]:
    # A KMZ brings the pictures of its placemarks along.
    pictures = (PNG, JPEG, WEBP)
    documents = [each for each in found if each[2] is KML]
    if len(documents) == 1 and all(known in pictures for _, _, known in found if known is not KML):
        return documents[0]
    if len(found) == 1:
        return found[0]
    if not found:
        name, path = max(files, key=lambda each: each[1].stat().st_size)
        raise unsupported(path, name)
    names = ", ".join(sorted(PurePosixPath(name).name for name, _, _ in found)[:6])
    raise Ambiguous(f"There are {len(found)} data files ({names}{', ...' if len(found) > 6 else ''}); send each by itself.")


def _beside(name: str, other: str) -> str | None:
    """The suffix of a sidecar of the data, else None: `scene.tfw` and `scene.tif.aux.xml` stand beside `scene.tif`."""
    suffix = _suffix(other)
    if suffix not in SIDECAR_SUFFIXES:
        return None
    stem = other[: -len(suffix)].lower()
    return suffix if stem in (_stem(name).lower(), name.lower()) else None


def _suffix(name: str) -> str:
    lower = name.lower()
    return ".aux.xml" if lower.endswith(".aux.xml") else PurePosixPath(lower).suffix


def _stem(name: str) -> str:
    return name[: -len(suffix)] if (suffix := PurePosixPath(name).suffix) else name


def _check_shapefile(name: str, sidecars: dict[str, Path], archive: str | None) -> None:
    if archive is None:
        raise UnsupportedFormat(f"{name} is one of several files of a Shapefile; send all of them in one zip.")
    missing = [suffix for suffix in (".shx", ".dbf") if suffix not in sidecars]
    if missing:
        raise Damaged(f"{name} came without its {' and '.join(missing)}; zip all files of the Shapefile together.")


def _placed(path: Path, link: Path) -> Path:
    # GDAL and NetCDF read meaning into names; the customer's never reach them.
    link.symlink_to(path)
    return link


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
