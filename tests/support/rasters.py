"""AOIs placed by another route than the code under test takes, and a look at what a clip became."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.warp
from affine import Affine

MakeRaster = Callable[..., Path]


def north_up(left: float, top: float, width: float, height: float | None = None) -> Affine:
    """A transform without rotation (rasterio's from_origin warns about itself under affine 3)."""
    return Affine(width, 0, left, 0, -(height or width), top)


def write_raster(folder: Path, array: np.ndarray, name: str = "made.tif", *, colormap: Any = None, **profile: Any) -> Path:
    """Writes an array as a plain GeoTIFF, in UTM 29N with 10 m pixels unless told otherwise; `mask` and `after` too."""
    stack = array[np.newaxis] if array.ndim == 2 else array
    mask, after = profile.pop("mask", None), profile.pop("after", None)
    settings = {"crs": "EPSG:32629", "transform": north_up(500_000, 2_700_000, 10), "driver": "GTiff"} | profile
    path = folder / name
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"),
        rasterio.open(
            path, "w", width=stack.shape[2], height=stack.shape[1], count=len(stack), dtype=stack.dtype, **settings
        ) as dataset,
    ):
        if colormap is not None:
            dataset.write_colormap(1, colormap)
        if after is not None:
            after(dataset)
        dataset.write(stack)
        if mask is not None:
            dataset.write_mask(mask)
    return path


def wgs84_ring(path: Path, corners: Sequence[tuple[float, float]]) -> list[list[float]]:
    """Columns and rows of a raster as longitudes and latitudes, by GDAL's own reprojection."""
    with rasterio.open(path) as dataset:
        xs, ys = zip(*(dataset.transform @ corner for corner in corners), strict=True)
        longitudes, latitudes = rasterio.warp.transform(dataset.crs, "EPSG:4326", xs, ys)
    return [[x, y] for x, y in zip(longitudes, latitudes, strict=True)]


def aoi_at(path: Path, corners: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """The AOI with these corners, given in columns and rows of the raster."""
    return {"type": "Polygon", "coordinates": [wgs84_ring(path, [*corners, corners[0]])]}


def aoi_within(path: Path, fractions: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """The AOI with these corners, given in fractions of the raster's width and height."""
    with rasterio.open(path) as dataset:
        return aoi_at(path, [(x * dataset.width, y * dataset.height) for x, y in fractions])


def offset_in(source: Path, clip: Path) -> tuple[int, int]:
    """Column and row of the source under the clip's first pixel; fails when the clip is off the source's grid."""
    with rasterio.open(source) as whole, rasterio.open(clip) as part:
        relative = ~whole.transform @ part.transform
        assert relative.almost_equals(Affine.translation(round(relative.c), round(relative.f)), precision=1e-6)
    return round(relative.c), round(relative.f)


def left_over(folder: Path, *expected: str) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in expected)
