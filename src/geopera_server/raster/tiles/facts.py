"""What is learnt once from the header of a raster, for all its tiles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyproj
from rasterio.enums import ColorInterp, Interleaving, Resampling

from geopera_server.raster.env import MEGABYTE
from geopera_server.raster.errors import TooLarge, shown_href
from geopera_server.raster.georef import Grid
from geopera_server.raster.info import shown_names
from geopera_server.raster.layout import Colormap, overview_resampling
from geopera_server.raster.probe import band_names_of, grid_of
from geopera_server.raster.source import Source
from geopera_server.raster.tiles.levels import Level, levels_of

MAX_BLOCK_BYTES = 64 * MEGABYTE
_RANDOM_ACCESS = {"GTiff", "JP2OpenJPEG"}
_COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The header of a raster: where it lies, its levels, its bands, and how its invalid pixels are told.

    `alpha` is the number of the alpha band, from 1. `masked` says that a mask band is stored beside the pixels.
    `block` is (width, height). `random_access` is false for formats that are decoded from their beginning.
    """

    href: str
    grid: Grid
    levels: tuple[Level, ...]
    band_count: int
    band_names: tuple[str, ...]
    dtype: str
    nodata: float | None
    alpha: int | None
    masked: bool
    palette: Colormap | None
    categorical: bool
    colorinterp: tuple[str, ...]
    block: tuple[int, int]
    interleaved: bool
    random_access: bool

    @property
    def width(self) -> int:
        return self.grid.width

    @property
    def height(self) -> int:
        return self.grid.height

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize

    @cached_property
    def data_bands(self) -> tuple[int, ...]:
        """The numbers of all bands but the alpha band."""
        return tuple(number for number in range(1, self.band_count + 1) if number != self.alpha)

    @cached_property
    def colour_bands(self) -> tuple[int, ...] | None:
        """The bands of red, green and blue where the file names all three."""
        names = [color.name for color in _COLOURS]
        if not all(name in self.colorinterp for name in names):
            return None
        return tuple(self.colorinterp.index(name) + 1 for name in names)

    @property
    def finished(self) -> bool:
        """Whether the values are colours already: bytes of red, green and blue, or a palette."""
        return self.palette is not None or (self.dtype == "uint8" and self.colour_bands is not None)

    @cached_property
    def bounds_wgs84(self) -> tuple[float, float, float, float]:
        return self.grid.bbox_wgs84()

    @cached_property
    def turned_box(self) -> tuple[float, float, float, float]:
        """The box around the raster in degrees, with longitudes that run on over ±180 where the raster does."""
        west, south, east, north = self.grid.outline.bounds
        return west, south, east, north

    @cached_property
    def wkt(self) -> str:
        return self.grid.wkt2

    @cached_property
    def geographic(self) -> bool:
        return bool(pyproj.CRS.from_wkt(self.wkt).is_geographic)

    @cached_property
    def mercator(self) -> bool:
        return bool(self.grid.crs.to_epsg() == 3857)


def facts_of(source: Source) -> Facts:
    """Reads the header; raises NotGeoreferenced, SourceUnreachable or, for blocks too big to decode per tile, TooLarge."""
    source.confirm()
    dataset = source.dataset
    grid = grid_of(source)
    names = band_names_of(source)
    palette = _palette(dataset)
    dtype = "complex64" if dataset.dtypes[0] == "complex_int16" else str(dataset.dtypes[0])
    alpha = next((number for number, color in enumerate(dataset.colorinterp, 1) if color is ColorInterp.alpha), None)
    hints = [*names, source.href.partition("?")[0].rpartition("/")[2].rpartition(".")[0]] if dataset.count == 1 else names
    facts = Facts(
        href=source.href,
        grid=grid,
        levels=levels_of(grid.width, grid.height, dataset.overviews(1)),
        band_count=dataset.count,
        band_names=shown_names(names),
        dtype=dtype,
        nodata=dataset.nodata,
        alpha=alpha,
        masked=source.has_mask_band,
        palette=palette,
        categorical=overview_resampling(None, hints, dtype, palette) is Resampling.mode,
        colorinterp=tuple(color.name for color in dataset.colorinterp),
        block=(int(dataset.block_shapes[0][1]), int(dataset.block_shapes[0][0])),
        interleaved=dataset.count > 1 and dataset.interleaving is Interleaving.pixel,
        random_access=dataset.driver in _RANDOM_ACCESS,
    )
    _check_block(facts)
    return facts


def _check_block(facts: Facts) -> None:
    planes = facts.band_count if facts.interleaved else 1
    size = facts.block[0] * facts.block[1] * planes * facts.itemsize
    if size > MAX_BLOCK_BYTES:
        raise TooLarge(
            f"{shown_href(facts.href)} is stored in blocks of {size / MEGABYTE:,.0f} MB, too large for pictures of parts of it."
            f" Turn it into a Cloud Optimized GeoTIFF, as an upload does."
        )


def _palette(dataset: Any) -> Colormap | None:
    if dataset.count != 1 or dataset.colorinterp[0] is not ColorInterp.palette:
        return None
    try:
        return {int(value): tuple(colour) for value, colour in dataset.colormap(1).items()}
    except ValueError:
        return None
