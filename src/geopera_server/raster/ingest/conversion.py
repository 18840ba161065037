"""Writes an uploaded raster as a Cloud Optimized GeoTIFF, pixel for pixel."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

from geopera_server.raster.cog import write_cog
from geopera_server.raster.info import COG_MEDIA_TYPE, CogInfo
from geopera_server.raster.ingest.bundle import Bundle, Parts
from geopera_server.raster.ingest.describing import band_names, described, ready_statistics
from geopera_server.raster.ingest.formats import NETCDF, NETCDF_4
from geopera_server.raster.ingest.limits import Limits
from geopera_server.raster.ingest.rasters import Raster, open_raster
from geopera_server.raster.layout import Band, Chunk, Colormap, Layout, chunk_windows, overview_resampling

# Made anew for the result.
_DROPPED_TAGS = ("STATISTICS_", "OVR_RESAMPLING_ALG", "LAYOUT", "COMPRESSION", "NETCDF_", "NC_GLOBAL")


def converted(bundle: Bundle, parts: Parts, limits: Limits, result: Path, report: Callable[[float], None]) -> CogInfo:
    """Writes the result, a copy of the upload when that is a complete COG already, and says what it is."""
    with open_raster(bundle, parts, limits) as raster:
        statistics = ready_statistics(raster, bundle, parts)
        if statistics is None:
            layout = _layout(raster, bundle, parts)
            return write_cog(layout, _chunks(raster, layout), result, progress=report)
        info = described(raster, parts)
    shutil.copyfile(parts.path, result)
    with result.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    known = {field.name: getattr(info, field.name) for field in fields(info)} | {"media_type": COG_MEDIA_TYPE}
    return CogInfo(**known, statistics=statistics, size_bytes=result.stat().st_size, sha256=sha256)


def _layout(raster: Raster, bundle: Bundle, parts: Parts) -> Layout:
    dataset = raster.dataset
    names, colormap = band_names(raster, parts), _colormap(dataset)
    hints = [*names, Path(parts.name).stem] if dataset.count == 1 else names
    given = "nearest" if bundle.is_categorical else None
    gridded = parts.format in (NETCDF, NETCDF_4)
    return Layout(
        grid=raster.grid,
        dtype=raster.dtype,
        nodata=_nodata(dataset, raster.dtype),
        masked=_has_mask(raster),
        bands=tuple(_band(dataset, number, name) for number, name in enumerate(names, start=1)),
        colormap=colormap,
        tags={} if gridded else _kept(dataset.tags()),
        resampling=overview_resampling(given, hints, raster.dtype, colormap),
    )


def _nodata(dataset: Any, dtype: str) -> float | None:
    """The nodata value, unless the type cannot hold it: GDAL lets an 8-bit file claim one of -9999."""
    nodata: float | None = dataset.nodata
    if nodata is None or np.dtype(dtype).kind not in "iu":
        return nodata
    bounds = np.iinfo(dtype)
    return nodata if float(nodata).is_integer() and bounds.min <= nodata <= bounds.max else None


def _has_mask(raster: Raster) -> bool:
    flags = raster.dataset.mask_flag_enums[0]
    return raster.mask is not None or (MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags)


def _colormap(dataset: Any) -> Colormap | None:
    palette = dataset.count == 1 and dataset.colorinterp[0] is ColorInterp.palette and dataset.dtypes[0] in ("uint8", "uint16")
    return dict(dataset.colormap(1)) if palette else None


def _band(dataset: Any, number: int, name: str | None) -> Band:
    index = number - 1
    return Band(
        name=name,
        scale=dataset.scales[index],
        offset=dataset.offsets[index],
        unit=dataset.units[index],
        color=dataset.colorinterp[index],
        tags=_kept(dataset.tags(number)),
    )


def _kept(tags: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if not key.startswith(_DROPPED_TAGS) and "#" not in key}


def _chunks(raster: Raster, layout: Layout) -> Iterator[Chunk]:
    dataset = raster.dataset
    whole_rows = dataset.block_shapes[0][1] >= dataset.width
    for window in chunk_windows(layout.grid, layout.pixel_bytes, whole_rows=whole_rows):
        stored = _stored(raster, window)
        pixels = _turned(raster, dataset.read(window=stored))
        valid = _turned(raster, _valid(raster, stored)) if layout.masked else None
        if valid is None and layout.alpha is not None:
            valid = pixels[layout.alpha] != 0
        yield Chunk(window, pixels, valid)


def _valid(raster: Raster, window: Window) -> npt.NDArray[np.bool_]:
    if raster.mask is not None:
        return np.asarray(raster.mask.read(1, window=window) != 0)
    return np.asarray(raster.dataset.dataset_mask(window=window), dtype=np.bool_)


def _stored(raster: Raster, window: Window) -> Window:
    """The window of the upright grid as the file counts it."""
    rows, columns = raster.flipped
    column = raster.grid.width - window.col_off - window.width if columns else window.col_off
    row = raster.grid.height - window.row_off - window.height if rows else window.row_off
    return Window(column, row, window.width, window.height)


def _turned(raster: Raster, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    rows, columns = raster.flipped
    return array[..., :: -1 if rows else 1, :: -1 if columns else 1]
