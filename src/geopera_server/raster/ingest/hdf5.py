"""Looks through an HDF5 file for what leads out of it, before NetCDF opens it.

HDF5 can link to objects of other files, keep a dataset's bytes in any file, put a dataset together from others, and
call for filters that are loaded as plug-ins. The HDF5 library that GDAL was built with is asked; it reads no data.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import ModuleType
from typing import Any

from geopera_server.raster.ingest.refusals import Damaged, OutsideReference, TooDemanding, UnsupportedFormat

MAX_OBJECTS = 20_000

_READ_ONLY, _DEFAULT, _BY_NAME, _NATIVE = 0, 0, 0, 2
_HARD, _SOFT = 0, 1
_VIRTUAL = 3
# deflate, shuffle, fletcher32, szip, nbit, scale-offset: those HDF5 has of its own.
_BUILT_IN_FILTERS = range(1, 7)

_Visit = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int64, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int), ctypes.c_void_p)


def check_hdf5(path: Path, name: str, extension: ModuleType) -> None:
    """Raises OutsideReference, UnsupportedFormat (filters), TooDemanding or Damaged; `extension` is linked with HDF5."""
    library = _library(extension)
    if library is None:
        raise UnsupportedFormat(f"{name}: this server cannot look into NetCDF-4 files; send NetCDF-3 or GeoTIFF.")
    library.H5Eset_auto2(ctypes.c_int64(0), None, None)
    file = library.H5Fopen(str(path).encode(), ctypes.c_uint(_READ_ONLY), ctypes.c_int64(_DEFAULT))
    if file < 0:
        raise Damaged(f"{name} is truncated or damaged: it cannot be opened as NetCDF-4. Send it again.")
    try:
        for dataset in _objects(library, file, name):
            _check_dataset(library, file, dataset, name)
    finally:
        library.H5Fclose(ctypes.c_int64(file))


def _library(extension: ModuleType) -> Any:
    library = ctypes.CDLL(extension.__file__)
    try:
        for function in ("H5Fopen", "H5Dopen2", "H5Dget_create_plist"):
            getattr(library, function).restype = ctypes.c_int64
        return library if library.H5Lvisit2 and library.H5open() >= 0 else None
    except AttributeError:
        return None


def _objects(library: Any, file: int, name: str) -> list[bytes]:
    """The names of all objects; links are looked at, not followed."""
    found: list[bytes] = []
    outside: list[bytes] = []

    def visit(_group: int, link: bytes, kind: Any, _data: Any) -> int:
        if kind[0] == _HARD:
            found.append(link)
        elif kind[0] != _SOFT:
            outside.append(link)
        return 1 if len(found) > MAX_OBJECTS else 0

    done = library.H5Lvisit2(ctypes.c_int64(file), _BY_NAME, _NATIVE, _Visit(visit), None)
    if outside:
        raise _leads_out(name, outside[0])
    if done < 0:
        raise Damaged(f"{name} is damaged: its objects cannot be listed. Send it again.")
    if done > 0:
        raise TooDemanding(f"{name} holds more than {MAX_OBJECTS:,} objects; send it in parts.")
    return found


def _check_dataset(library: Any, file: int, path: bytes, name: str) -> None:
    dataset = library.H5Dopen2(ctypes.c_int64(file), path, ctypes.c_int64(_DEFAULT))
    if dataset < 0:
        return
    created = ctypes.c_int64(library.H5Dget_create_plist(ctypes.c_int64(dataset)))
    try:
        if library.H5Pget_layout(created) == _VIRTUAL or library.H5Pget_external_count(created) > 0:
            raise _leads_out(name, path)
        for place in range(library.H5Pget_nfilters(created)):
            size = ctypes.c_size_t(0)
            number = library.H5Pget_filter2(created, ctypes.c_uint(place), None, ctypes.byref(size), None, 0, None, None)
            if number not in _BUILT_IN_FILTERS:
                raise UnsupportedFormat(
                    f"{name} is compressed by a plug-in (filter {number}), and none is loaded; save it with deflate."
                )
    finally:
        library.H5Pclose(created)
        library.H5Dclose(ctypes.c_int64(dataset))


def _leads_out(name: str, path: bytes) -> OutsideReference:
    return OutsideReference(
        f"{name} keeps {path.decode(errors='replace')[:80]!r} in another file, and nothing outside an upload is read; "
        "save it as one file."
    )
