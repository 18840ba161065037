"""Opens an uploaded raster by the one driver of its format, and holds it against the limits before a pixel is read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio._env
from affine import Affine
from rasterio.enums import Interleaving
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geopera_server.raster.env import gdal_env
from geopera_server.raster.georef import Grid
from geopera_server.raster.ingest import netcdf
from geopera_server.raster.ingest.bundle import Bundle, Parts
from geopera_server.raster.ingest.completeness import check_complete
from geopera_server.raster.ingest.drivers import RASTER_DRIVERS, keep_only
from geopera_server.raster.ingest.formats import NETCDF, NETCDF_4
from geopera_server.raster.ingest.hdf5 import check_hdf5
from geopera_server.raster.ingest.limits import MEGABYTE, Limits
from geopera_server.raster.ingest.placing import grid_of
from geopera_server.raster.ingest.refusals import Ambiguous, Damaged, OutsideReference, TooDemanding
from geopera_server.raster.layout import BLOCK_PX
from geopera_server.raster.source import GDAL_ERRORS, chain_text

# Metadata domains in which GDAL looks for other files' names; upper and lower case are one to it.
_POINTING_DOMAINS = frozenset({"overviews", "geolocation", "xml:vrt", "new_vrt_sources", "vrt_sources"})
_NO_MEMORY = re.compile("cannot allocate|out of memory|not enough memory", re.IGNORECASE)
_GDAL_TYPE_BYTES = {"complex_int16": 4, "complex_int32": 8}


@dataclass(frozen=True)
class Raster:
    """An open upload. `grid` is turned north up; `flipped` says whether rows, and columns, are stored the other way."""

    dataset: Any
    grid: Grid
    flipped: tuple[bool, bool]
    mask: Any
    variable: str | None
    notes: tuple[str, ...]

    @property
    def dtype(self) -> str:
        """The type of the values; GDAL's complex integers, which numpy does not have, become complex64."""
        name = str(self.dataset.dtypes[0])
        return "complex64" if name.startswith("complex_int") else name


@contextmanager
def open_raster(bundle: Bundle, parts: Parts, limits: Limits) -> Iterator[Raster]:
    """Opens the raster for the length of the block; raises IngestRefused of any kind, also for errors of GDAL in it."""
    check_complete(parts.path, parts.name, parts.format)
    with gdal_env(GDAL_NUM_THREADS="ALL_CPUS"):
        keep_only(RASTER_DRIVERS, rasterio._env)  # noqa: SLF001
        if parts.format is NETCDF_4:
            check_hdf5(parts.path, parts.name, rasterio._env)  # noqa: SLF001
        try:
            with _dataset(bundle, parts) as (dataset, variable):
                _check_references(dataset, parts)
                _check_size(dataset, parts, limits)
                with _external_mask(dataset, parts) as mask:
                    grid = grid_of(dataset, bundle, parts)
                    upright, flipped = _upright(grid)
                    raster = Raster(dataset, upright, flipped, mask, variable, _notes(dataset, bundle))
                    _check_ends(dataset)
                    yield raster
        except GDAL_ERRORS as error:
            if _NO_MEMORY.search(chain_text(error)):
                raise TooDemanding(f"{parts.name} needs more memory to decode than is allowed; tile it.") from error
            raise Damaged(f"{parts.name} is damaged or truncated: it cannot be decoded. Send it again.") from error


@contextmanager
def _dataset(bundle: Bundle, parts: Parts) -> Iterator[tuple[Any, str | None]]:
    with _opened(parts.path, parts.format.driver) as dataset:
        if parts.format not in (NETCDF, NETCDF_4):
            if dataset.subdatasets:
                raise Ambiguous(f"{parts.name} holds {len(dataset.subdatasets)} images; send each by itself.")
            yield dataset, None
            return
        variable = netcdf.chosen(dataset, parts, bundle.variable, _opened)
        if variable.address is None:
            yield dataset, variable.name
            return
    with _opened(variable.address, parts.format.driver) as dataset:
        yield dataset, variable.name


def _opened(path: Path | str, driver: str) -> Any:
    return DatasetReader(str(path), driver=[driver], sharing=False)


def _check_references(dataset: Any, parts: Parts) -> None:
    domains = set(dataset.tag_namespaces())
    for number in dataset.indexes[:_NAMED_BANDS]:
        domains |= set(dataset.tag_namespaces(number))
    pointing = {domain for domain in domains if domain.lower() in _POINTING_DOMAINS}
    if pointing:
        raise OutsideReference(
            f"{parts.name} carries metadata ({', '.join(sorted(pointing))}) that names other files, and none of them is read; "
            "write it anew without it, for example with gdal_translate."
        )


_NAMED_BANDS = 1_000


def _check_size(dataset: Any, parts: Parts, limits: Limits) -> None:
    if dataset.count == 0:
        raise Damaged(f"{parts.name} holds no raster band; send a raster.")
    if dataset.count > limits.max_bands:
        raise TooDemanding(f"{parts.name} has {dataset.count:,} bands, and {limits.max_bands:,} are allowed; send it in parts.")
    name = str(dataset.dtypes[0])
    value_bytes = _GDAL_TYPE_BYTES.get(name) or np.dtype(name).itemsize
    raw = dataset.width * dataset.height * dataset.count * value_bytes
    if raw > limits.max_raw_bytes:
        raise TooDemanding(
            f"{parts.name} unfolds to {math.ceil(raw / MEGABYTE):,} MB of pixels, and {limits.max_raw_bytes // MEGABYTE:,} MB "
            "are allowed; send it in parts."
        )
    if raw > limits.free_raw_bytes and raw > limits.max_ratio * parts.file_bytes:
        raise TooDemanding(
            f"{parts.name} declares {raw // max(1, parts.file_bytes):,} times as many bytes of pixels as it has, and "
            f"{limits.max_ratio} times are allowed; cut away its empty parts."
        )
    height, width = dataset.block_shapes[0]
    planes = dataset.count if dataset.interleaving is Interleaving.pixel else 1
    block = max(height * width * planes, BLOCK_PX * BLOCK_PX * dataset.count) * value_bytes
    if block > limits.max_block_bytes:
        raise TooDemanding(
            f"{parts.name} needs blocks of {math.ceil(block / MEGABYTE):,} MB, and {limits.max_block_bytes // MEGABYTE:,} MB "
            "are allowed; tile it, or send fewer bands in one file."
        )


@contextmanager
def _external_mask(dataset: Any, parts: Parts) -> Iterator[Any]:
    path = parts.sidecars.get(".msk")
    if path is None:
        yield None
        return
    check_complete(path, f"{parts.name}.msk", parts.format)
    with _opened(path, "GTiff") as mask:
        if mask.shape != dataset.shape or mask.dtypes[0] != "uint8":
            raise Damaged(f"{parts.name}.msk is not a mask of this image: its size differs. Send the image without it.")
        yield mask


def _upright(grid: Grid) -> tuple[Grid, tuple[bool, bool]]:
    """The grid with rows from north to south and columns from west to east, where that is a matter of order alone."""
    a, b, c, d, e, f = grid.transform[:6]
    if b != 0 or d != 0 or (a > 0 and e < 0):
        return grid, (False, False)
    rows, columns = e > 0, a < 0
    moved = Affine(abs(a), 0, c + a * grid.width * columns, 0, -abs(e), f + e * grid.height * rows)
    return Grid(grid.width, grid.height, moved, grid.crs), (rows, columns)


def _check_ends(dataset: Any) -> None:
    """Decodes the first and the last block, so that a file cut short in a way its structure does not tell is noticed."""
    height, width = dataset.block_shapes[0]
    for row, column in {(0, 0), ((dataset.height - 1) // height * height, (dataset.width - 1) // width * width)}:
        window = Window(column, row, min(width, dataset.width - column), min(height, dataset.height - row))
        dataset.read(dataset.count, window=window)


def _notes(dataset: Any, bundle: Bundle) -> tuple[str, ...]:
    epsg = bundle.given_epsg
    if epsg is None or dataset.crs is None or dataset.crs.to_epsg() == epsg:
        return ()
    return (f"The file's own reference system was kept; EPSG:{epsg} was not used.",)
