"""Cuts the part of a raster that a customer ordered, pixel for pixel, into a Cloud Optimized GeoTIFF.

Nothing is resampled or moved: the result has the source's pixels at the source's places, in its type and reference
system. How pixels outside the AOI are told apart, first rule that fits:

1. the source has a mask band: the result has one too, cut to the AOI;
2. it has a nodata value its type can hold: they become nodata;
3. it has an alpha band: they become transparent;
4. all pixels lie inside the AOI: there is nothing to tell apart;
5. its values are floating point: they become NaN, which is then the nodata value;
6. any value may be real (an 8-bit image, an elevation in metres): an internal mask is added.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.windows import Window
from shapely.geometry.base import BaseGeometry

from geopera_server.raster.aoi import aoi_in_pixels, covers, pixels_inside, window_around
from geopera_server.raster.cog import Progress, ShouldStop, write_cog
from geopera_server.raster.errors import NoOverlap, TooLarge
from geopera_server.raster.georef import Grid
from geopera_server.raster.info import CogInfo
from geopera_server.raster.layout import Band, Chunk, Colormap, Layout, chunk_windows, overview_resampling
from geopera_server.raster.probe import band_names_of, grid_of
from geopera_server.raster.source import Source, open_source

MAX_SAMPLES = 8_000_000_000

# Made anew for the result, or true of the whole source only.
_DROPPED_TAGS = ("STATISTICS_", "OVR_RESAMPLING_ALG", "LAYOUT", "COMPRESSION")


@dataclass(frozen=True)
class _Cut:
    """What part of the source is wanted; `placed` is None when every pixel of the window is."""

    window: Window
    placed: BaseGeometry | None


def clip_to_cog(
    href: str,
    destination: Path,
    *,
    aoi: dict[str, Any] | None,
    band_names: Sequence[str] | None = None,
    resampling: str | None = None,
    way: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
    max_samples: int = MAX_SAMPLES,
) -> CogInfo:
    """Writes the pixels of a raster that an AOI touches as a Cloud Optimized GeoTIFF, and says what the file is.

    `aoi` is a GeoJSON geometry in WGS84, None for the whole raster. `band_names` replace the source's. `resampling`
    is the method for overviews; without it, class bands are told by name or colour table. `way` is how the network is
    asked. An AOI with only invalid
    pixels in it still gives a file, with statistics of None. `progress` hears shares from 0 to 1; `should_stop` is
    asked after each chunk of 16 MB and between steps, of which the final copy is the longest (2 s per 100 million
    values). Raises SourceError, AoiError, TooLarge, WriteFailed or Stopped, and leaves nothing behind then.
    """
    with open_source(href, way=way) as source:
        grid = grid_of(source)
        cut = _cut(href, grid, aoi)
        layout = _layout(source, grid, cut, band_names, resampling)
        _check_size(layout, max_samples)
        chunks = _chunks(source, cut, layout)
        return write_cog(layout, chunks, destination, progress=progress, should_stop=should_stop)


def _cut(href: str, grid: Grid, aoi: dict[str, Any] | None) -> _Cut:
    if aoi is None:
        return _Cut(Window(0, 0, grid.width, grid.height), None)
    placed = aoi_in_pixels(aoi, grid)
    if placed.is_empty:
        raise NoOverlap(href)
    window = window_around(placed, grid)
    return _Cut(window, None if covers(placed, window) else placed)


def _check_size(layout: Layout, max_samples: int) -> None:
    samples = layout.grid.width * layout.grid.height * layout.count
    if samples > max_samples:
        raise TooLarge(
            f"The AOI holds {samples:,} values of this raster, and one file may hold {max_samples:,}; "
            f"order it in smaller parts."
        )


def _layout(source: Source, grid: Grid, cut: _Cut, names: Sequence[str] | None, resampling: str | None) -> Layout:
    dataset = source.dataset
    if names is not None and len(names) != dataset.count:
        raise ValueError(f"{len(names)} band names for {dataset.count} bands")
    own_names: Sequence[str | None] = names if names is not None else band_names_of(source)
    # GDAL's complex integers have no counterpart in numpy; complex64 holds them without loss.
    dtype = "complex64" if dataset.dtypes[0] == "complex_int16" else str(dataset.dtypes[0])
    colormap = _colormap(source)
    nodata, masked = _invalid(source, dtype, cutting=cut.placed is not None)
    hints = [*own_names, PurePath(source.href.partition("?")[0]).stem] if dataset.count == 1 else own_names
    return Layout(
        grid=grid.window(cut.window),
        dtype=dtype,
        nodata=nodata,
        masked=masked,
        bands=tuple(_band(source, number, name) for number, name in enumerate(own_names, start=1)),
        colormap=colormap,
        tags=_kept(dataset.tags()),
        resampling=overview_resampling(resampling, hints, dtype, colormap),
    )


def _invalid(source: Source, dtype: str, *, cutting: bool) -> tuple[float | None, bool]:
    """The nodata value of the result, and whether it has an internal mask; the rules stand in the module's text."""
    nodata = source.dataset.nodata
    if nodata is not None and not _holds(dtype, nodata):
        nodata = None
    if source.has_mask_band:
        return nodata, True
    if nodata is not None or not cutting or ColorInterp.alpha in source.dataset.colorinterp:
        return nodata, False
    return (float("nan"), False) if np.dtype(dtype).kind == "f" else (None, True)


def _holds(dtype: str, value: float) -> bool:
    """Whether the type has this value; GDAL lets an 8-bit file claim a nodata value of -9999."""
    if np.dtype(dtype).kind not in "iu":
        return True
    limits = np.iinfo(dtype)
    return value.is_integer() and limits.min <= value <= limits.max


def _band(source: Source, number: int, name: str | None) -> Band:
    dataset, index = source.dataset, number - 1
    return Band(
        name=name,
        scale=dataset.scales[index],
        offset=dataset.offsets[index],
        unit=dataset.units[index],
        color=dataset.colorinterp[index],
        tags=_kept(dataset.tags(number)),
    )


def _colormap(source: Source) -> Colormap | None:
    palette = source.dataset.count == 1 and source.dataset.colorinterp[0] is ColorInterp.palette
    return dict(source.dataset.colormap(1)) if palette else None


def _kept(tags: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if not key.startswith(_DROPPED_TAGS)}


def _chunks(source: Source, cut: _Cut, layout: Layout) -> Iterator[Chunk]:
    whole_rows = source.dataset.block_shapes[0][1] >= source.dataset.width
    for window in chunk_windows(layout.grid, layout.pixel_bytes, whole_rows=whole_rows):
        wanted = Window(window.col_off + cut.window.col_off, window.row_off + cut.window.row_off, *_size(window))
        if cut.placed is None:
            yield _whole(source, layout, window, wanted)
        else:
            yield _cut_out(source, layout, window, wanted, cut.placed)
    source.confirm()


def _whole(source: Source, layout: Layout, window: Window, wanted: Window) -> Chunk:
    pixels = source.read(wanted)
    valid = source.read_mask(wanted) if layout.masked else None
    return Chunk(window, pixels, _visible(layout, pixels, valid))


def _cut_out(source: Source, layout: Layout, window: Window, wanted: Window, placed: BaseGeometry) -> Chunk:
    width, height = _size(window)
    fill = 0 if layout.nodata is None else layout.nodata
    inside = pixels_inside(placed, wanted)
    pixels = np.full((layout.count, height, width), fill, dtype=layout.dtype)
    valid = inside.copy() if layout.masked else None
    if inside.any():
        rows, columns = _extent(inside.any(axis=1)), _extent(inside.any(axis=0))
        part = Window.from_slices(rows, columns)
        needed = Window(wanted.col_off + part.col_off, wanted.row_off + part.row_off, *_size(part))
        np.copyto(pixels[:, rows, columns], source.read(needed), where=inside[rows, columns])
        if valid is not None and source.has_mask_band:
            valid[rows, columns] &= source.read_mask(needed)
    return Chunk(window, pixels, _visible(layout, pixels, valid))


def _visible(layout: Layout, pixels: Any, valid: Any) -> Any:
    """The valid pixels, as an alpha band tells them where there is no mask."""
    if valid is None and layout.alpha is not None:
        return pixels[layout.alpha] != 0
    return valid


def _extent(flags: Any) -> slice:
    where = np.flatnonzero(flags)
    return slice(int(where[0]), int(where[-1]) + 1)


def _size(window: Window) -> tuple[int, int]:
    return int(window.width), int(window.height)
