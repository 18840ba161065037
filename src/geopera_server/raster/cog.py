"""Writes Cloud Optimized GeoTIFFs: lossless, in blocks of 512, with overviews and statistics, whole or not at all.

GDAL's COG driver only copies a finished raster, so the pixels are staged first in an uncompressed tiled file beside
the destination. On a full disk GDAL may report success for a file without its end (seen with 3.10), so the result is
read back and compared with the checksums of what was staged before it takes the destination's name.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_validate

from geopera_server.raster.env import MEGABYTE, gdal_env
from geopera_server.raster.errors import Stopped, WriteFailed
from geopera_server.raster.georef import Grid
from geopera_server.raster.info import COG_MEDIA_TYPE, CogInfo, grid_fields, shown_names, shown_nodata
from geopera_server.raster.layout import (
    BLOCK_PX,
    Band,
    Chunk,
    Colormap,
    Layout,
    chunk_windows,
    overview_resampling,
)
from geopera_server.raster.source import GDAL_ERRORS
from geopera_server.raster.statistics import BandStatistics, RunningStatistics, statistics_tags

Progress = Callable[[float], None]
ShouldStop = Callable[[], bool]

# Shares of the time that a clip of 81 megapixels takes, so that progress moves evenly.
STAGED, OVERVIEWED, COPIED, CHECKED = 0.27, 0.36, 0.84, 0.92


class _Broken(Exception):
    """The file that GDAL called complete is not."""


@dataclass(frozen=True)
class _Checksum:
    window: Window
    pixels: int
    mask: int | None


def array_to_cog(
    array: npt.NDArray[Any],
    destination: Path,
    *,
    crs: CRS | str | int,
    transform: Affine,
    nodata: float | None = None,
    valid: npt.NDArray[np.bool_] | None = None,
    band_names: Sequence[str] | None = None,
    colormap: Colormap | None = None,
    resampling: str | None = None,
    tags: dict[str, str] | None = None,
    scale: float = 1.0,
    offset: float = 0.0,
) -> CogInfo:
    """Writes an array, (row, column) or (band, row, column), as a Cloud Optimized GeoTIFF.

    `valid` (row, column) becomes an internal mask. `crs` is anything rasterio understands, such as "EPSG:3035".
    `scale` and `offset` turn stored values into physical ones in every band. Raises WriteFailed.
    """
    stack = array[np.newaxis] if array.ndim == 2 else array
    names = _names(band_names, len(stack))
    layout = Layout(
        grid=Grid(stack.shape[2], stack.shape[1], transform, CRS.from_user_input(crs)),
        dtype=stack.dtype.name,
        nodata=nodata,
        masked=valid is not None,
        bands=tuple(Band(name=name, scale=scale, offset=offset, tags={}) for name in names),
        colormap=colormap,
        tags=tags or {},
        resampling=overview_resampling(resampling, names, stack.dtype.name, colormap),
    )
    windows = chunk_windows(layout.grid, layout.pixel_bytes)
    return write_cog(layout, (_slice(stack, valid, window) for window in windows), destination)


def write_cog(
    layout: Layout,
    chunks: Iterable[Chunk],
    destination: Path,
    *,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> CogInfo:
    """Writes the chunks, which hold each pixel of the layout once, and returns what the file is.

    The file appears under its name when it is complete and checked; on any error nothing is left behind. It needs
    about 2.3 times its uncompressed size on the destination's disk meanwhile. `should_stop` is asked between chunks
    and steps. Raises WriteFailed, Stopped, and whatever the chunks raise.
    """
    step = _Steps(progress or (lambda _share: None), should_stop or (lambda: False))
    with gdal_env(), _work_folder(destination) as folder:
        staged, result = folder / "staged.tif", folder / "result.tif"
        checksums, statistics = _stage(layout, chunks, staged, step)
        step.done(STAGED)
        with _writing(folder, layout):
            _build_overviews(layout, staged)
            step.done(OVERVIEWED)
            _copy_as_cog(layout, staged, result)
            step.done(COPIED)
            _check(layout, result, checksums, step)
            info = _describe(layout, result, statistics)
            step.done(1.0)
            result.replace(destination)
    return info


@dataclass(frozen=True)
class _Steps:
    progress: Progress
    should_stop: ShouldStop

    def done(self, share: float) -> None:
        if self.should_stop():
            raise Stopped
        self.progress(share)


@contextmanager
def _work_folder(destination: Path) -> Iterator[Path]:
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    except OSError as error:
        raise WriteFailed.of(error) from error
    try:
        yield folder
    except BaseException:
        destination.unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(folder)


@contextmanager
def _writing(folder: Path, layout: Layout) -> Iterator[None]:
    try:
        yield
    except _Broken as broken:
        raise _why(folder, layout, str(broken)) from broken
    except GDAL_ERRORS as error:
        raise _why(folder, layout, "GDAL could not complete the file") from error
    except OSError as error:
        raise WriteFailed.of(error) from error


def _why(folder: Path, layout: Layout, symptom: str) -> WriteFailed:
    """The reason of a failed write, found out afterwards: GDAL passes no errno on."""
    try:
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(bytes(MEGABYTE))
            trial.flush()
            os.fsync(trial.fileno())
    except OSError as error:
        return WriteFailed.of(error)
    # GDAL deletes its own broken file, which may give the room back; the next attempt would need it again.
    if shutil.disk_usage(folder).free < _raw_bytes(layout):
        return WriteFailed(os.strerror(errno.ENOSPC), errno.ENOSPC)
    return WriteFailed(symptom)


def _raw_bytes(layout: Layout) -> int:
    return layout.grid.width * layout.grid.height * (layout.pixel_bytes + layout.masked)


def _stage(layout: Layout, chunks: Iterable[Chunk], path: Path, step: _Steps) -> tuple[list[_Checksum], list[BandStatistics]]:
    folder, total = path.parent, layout.grid.width * layout.grid.height
    if shutil.disk_usage(folder).free < _raw_bytes(layout):
        raise WriteFailed(os.strerror(errno.ENOSPC), errno.ENOSPC)
    running = [RunningStatistics() for _ in layout.bands]
    checksums: list[_Checksum] = []
    written = 0
    with _writing(folder, layout):
        dataset = _create(layout, path)
    try:
        for chunk in chunks:
            with _writing(folder, layout):
                checksums.append(_write_chunk(layout, dataset, chunk))
            for index, statistics in enumerate(running):
                statistics.add(chunk.values(index, layout.nodata))
            written += chunk.pixels.shape[1] * chunk.pixels.shape[2]
            step.done(STAGED * written / total)
        assert written == total, "the chunks must hold every pixel once"
    except BaseException:
        # The file is lost already; what its closing may add would hide the first error.
        with suppress(*GDAL_ERRORS):
            dataset.close()
        raise
    results = [statistics.result(total) for statistics in running]
    with _writing(folder, layout):
        for number, band_statistics in enumerate(results, start=1):
            dataset.update_tags(number, **statistics_tags(band_statistics))
        dataset.close()
    return checksums, results


def _create(layout: Layout, path: Path) -> Any:
    grid = layout.grid
    dataset = rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=grid.width,
        height=grid.height,
        count=layout.count,
        dtype=layout.dtype,
        crs=grid.crs,
        transform=grid.transform,
        nodata=layout.nodata,
        tiled=True,
        blockxsize=BLOCK_PX,
        blockysize=BLOCK_PX,
        interleave="band",
        BIGTIFF="IF_SAFER",
    )
    if layout.colormap is not None:
        dataset.write_colormap(1, layout.colormap)
    elif all(band.color is not None for band in layout.bands):
        dataset.colorinterp = [band.color for band in layout.bands]
    dataset.descriptions = [band.name for band in layout.bands]
    dataset.scales = [band.scale for band in layout.bands]
    dataset.offsets = [band.offset for band in layout.bands]
    dataset.units = [band.unit for band in layout.bands]
    dataset.update_tags(**layout.tags)
    for number, band in enumerate(layout.bands, start=1):
        dataset.update_tags(number, **band.tags)
    return dataset


def _write_chunk(layout: Layout, dataset: Any, chunk: Chunk) -> _Checksum:
    dataset.write(chunk.pixels, window=chunk.window)
    mask = None
    if layout.masked:
        assert chunk.valid is not None, "a masked layout needs to know the valid pixels"
        dataset.write_mask(chunk.valid, window=chunk.window)
        mask = _crc(chunk.valid)
    return _Checksum(chunk.window, _crc(chunk.pixels), mask)


def _crc(array: npt.NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data.cast("B"))


def _build_overviews(layout: Layout, staged: Path) -> None:
    levels = layout.overview_levels()
    if levels:
        with rasterio.open(staged, "r+") as dataset:
            dataset.build_overviews(levels, layout.resampling)


def _copy_as_cog(layout: Layout, staged: Path, result: Path) -> None:
    # A predictor pays on continuous values and costs on classes; TIFF has none for complex ones.
    plain = layout.categorical or np.dtype(layout.dtype).kind == "c"
    rasterio.shutil.copy(
        str(staged),
        str(result),
        driver="COG",
        COMPRESS="DEFLATE",
        PREDICTOR="NO" if plain else "YES",
        BLOCKSIZE=BLOCK_PX,
        BIGTIFF="IF_SAFER",
        NUM_THREADS="ALL_CPUS",
    )


def _check(layout: Layout, path: Path, checksums: list[_Checksum], step: _Steps) -> None:
    """Proves that the file holds what was staged, and that every overview can be read."""
    problem = "the file on disk is not what was written to it"
    with rasterio.open(path, NUM_THREADS="ALL_CPUS") as dataset:
        overviews = len(dataset.overviews(1))
        for done, checksum in enumerate(checksums, start=1):
            if _crc(dataset.read(window=checksum.window)) != checksum.pixels:
                raise _Broken(problem)
            if checksum.mask is not None and _crc(dataset.read_masks(1, window=checksum.window) != 0) != checksum.mask:
                raise _Broken(problem)
            step.done(COPIED + (CHECKED - COPIED) * done / len(checksums))
    if overviews != len(layout.overview_levels()):
        raise _Broken("GDAL left overviews out")
    for level in range(overviews):
        with rasterio.open(path, OVERVIEW_LEVEL=level, NUM_THREADS="ALL_CPUS") as dataset:
            grid = Grid(dataset.width, dataset.height, dataset.transform, dataset.crs)
            for window in chunk_windows(grid, layout.pixel_bytes):
                dataset.read(window=window)
    valid, errors, _warnings = cog_validate(path)
    if not valid:
        raise _Broken(f"GDAL wrote no valid Cloud Optimized GeoTIFF ({'; '.join(errors)})")


def _describe(layout: Layout, path: Path, statistics: list[BandStatistics]) -> CogInfo:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return CogInfo(
        **grid_fields(layout.grid),
        band_count=layout.count,
        dtype=layout.dtype,
        nodata=shown_nodata(layout.nodata),
        band_names=shown_names([band.name for band in layout.bands]),
        media_type=COG_MEDIA_TYPE,
        statistics=tuple(statistics),
        size_bytes=path.stat().st_size,
        sha256=sha256,
    )


def _slice(stack: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None, window: Window) -> Chunk:
    rows, columns = window.toslices()
    return Chunk(window, stack[:, rows, columns], None if valid is None else valid[rows, columns])


def _names(names: Sequence[str] | None, count: int) -> list[str | None]:
    if names is None:
        return [None] * count
    if len(names) != count:
        raise ValueError(f"{len(names)} band names for {count} bands")
    return list(names)
