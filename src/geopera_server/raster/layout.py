"""What is known of a raster before its pixels: shape, type, bands, how invalid pixels are told, how it is overviewed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.enums import ColorInterp, Resampling
from rasterio.windows import Window

from geopera_server.raster.env import MEGABYTE
from geopera_server.raster.georef import Grid

BLOCK_PX = 512
CHUNK_BYTES = 16 * MEGABYTE

# Names of class and quality layers in the products of Sentinel-2, Landsat, MODIS, PlanetScope and land-cover maps.
_CLASS_NAMES = {"scl", "qa", "fmask", "udm", "udm2", "clm", "cloudmask", "mask", "aerosol"} | {
    *("class", "classes", "classification", "landcover", "lulc", "worldcover"),
}

Colormap = dict[int, tuple[int, int, int, int]]


@dataclass(frozen=True, kw_only=True)
class Band:
    """One band beside its pixels."""

    name: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    unit: str | None = None
    color: ColorInterp | None = None
    tags: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A raster to be written.

    `masked` adds an internal mask. `categorical` says that values are classes: overviews then pick a value that is
    there (the most frequent) instead of averaging.
    """

    grid: Grid
    dtype: str
    nodata: float | None
    masked: bool
    bands: tuple[Band, ...]
    colormap: Colormap | None
    tags: dict[str, str]
    resampling: Resampling

    @property
    def count(self) -> int:
        return len(self.bands)

    @property
    def categorical(self) -> bool:
        return self.resampling in (Resampling.nearest, Resampling.mode)

    @property
    def pixel_bytes(self) -> int:
        return self.count * np.dtype(self.dtype).itemsize

    @property
    def alpha(self) -> int | None:
        """The index of the alpha band, from 0."""
        return next((index for index, band in enumerate(self.bands) if band.color is ColorInterp.alpha), None)

    def overview_levels(self) -> list[int]:
        """2, 4, 8, ... until the smallest overview fits into one block."""
        levels: list[int] = []
        while max(self.grid.width, self.grid.height) > BLOCK_PX << len(levels):
            levels.append(2 << len(levels))
        return levels


@dataclass(frozen=True)
class Chunk:
    """The pixels (band, row, column) of a window; `valid` (row, column) where a mask or an alpha band tells it."""

    window: Window
    pixels: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_] | None

    def values(self, index: int, nodata: float | None) -> npt.NDArray[Any]:
        """The valid values of one band, in one dimension."""
        band = self.pixels[index]
        keep = self.valid
        if nodata is not None:
            present = ~np.isnan(band) if np.isnan(nodata) else band != np.array(nodata).astype(band.dtype)
            keep = present if keep is None else keep & present
        values: npt.NDArray[Any] = band.ravel() if keep is None or keep.all() else band[keep]
        return values


def chunk_windows(grid: Grid, pixel_bytes: int, *, whole_rows: bool = False) -> Iterator[Window]:
    """Windows of whole output blocks that together hold every pixel once, each of about CHUNK_BYTES at most.

    `whole_rows` suits a source stored in strips, of which every strip would be decoded again for each chunk beside.
    """
    blocks = max(1, CHUNK_BYTES // (pixel_bytes * BLOCK_PX * BLOCK_PX))
    blocks_in_row = -(-grid.width // BLOCK_PX)
    across = min(blocks_in_row, blocks if whole_rows else max(1, int(blocks**0.5)))
    down = max(1, blocks // across)
    width, height = across * BLOCK_PX, down * BLOCK_PX
    for row in range(0, grid.height, height):
        for column in range(0, grid.width, width):
            yield Window(column, row, min(width, grid.width - column), min(height, grid.height - row))


def overview_resampling(given: str | None, names: Sequence[str | None], dtype: str, colormap: Colormap | None) -> Resampling:
    """The given method, else mode for a raster with a class band (by colour table or name) and average for others.

    A file has one method for all its bands: one class band among reflectances decides for all of them.
    """
    if given is not None:
        if given not in _METHODS:
            raise ValueError(f"Overviews cannot be made by {given!r}; use one of {', '.join(_METHODS)}.")
        return Resampling[given]
    kind = np.dtype(dtype).kind
    if kind == "c":
        return Resampling.nearest
    classes = kind in "iu" and (colormap is not None or any(_is_class_name(name) for name in names))
    return Resampling.mode if classes else Resampling.average


_METHODS = ("nearest", "average", "bilinear", "cubic", "mode", "gauss", "lanczos", "rms")


def _is_class_name(name: str | None) -> bool:
    return not _CLASS_NAMES.isdisjoint(re.split(r"[^a-z0-9]+", (name or "").lower()))
