"""Tiles looked at from outside: decoded pictures, and where their pixels lie by an exact route of its own."""

from __future__ import annotations

import io
from pathlib import Path

import morecantile
import numpy as np
import pyproj
import rasterio
from PIL import Image

from geopera_server.raster.render import Target, info

WEB_MERCATOR = morecantile.tms.get("WebMercatorQuad")


def target(path: Path, version: str = "1") -> Target:
    return Target(str(path), version)


def decoded(body: bytes) -> np.ndarray:
    """The picture as (row, column) of red, green, blue and alpha."""
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGBA"))


def tile_over(path: Path, z: int, share: tuple[float, float] = (0.5, 0.5)) -> tuple[int, int, int]:
    """The tile that holds a place in the raster, given in shares of its width and height."""
    with rasterio.open(path) as dataset:
        x, y = dataset.transform @ (share[0] * dataset.width, share[1] * dataset.height)
        lon, lat = pyproj.Transformer.from_crs(dataset.crs, 4326, always_xy=True).transform(x, y)
    place = WEB_MERCATOR.tile((lon + 180) % 360 - 180, lat, z)
    return z, place.x, place.y


def exact_places(path: Path, tile: tuple[int, int, int], size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Fractional columns and rows of the raster under the centres of all tile pixels, each projected by itself."""
    z, x, y = tile
    box = WEB_MERCATOR.xy_bounds(morecantile.Tile(x, y, z))
    step = (box.right - box.left) / size
    east = box.left + (np.arange(size) + 0.5) * step
    north = box.top - (np.arange(size) + 0.5) * step
    with rasterio.open(path) as dataset:
        way = pyproj.Transformer.from_crs(3857, pyproj.CRS.from_wkt(dataset.crs.to_wkt()), always_xy=True)
        across, down = way.transform(*np.meshgrid(east, north), errcheck=False)
        if dataset.crs.is_geographic:
            middle = (dataset.bounds.left + dataset.bounds.right) / 2
            across = across + 360 * np.round((middle - across) / 360)
        back = ~dataset.transform
    return back.a * across + back.b * down + back.c, back.d * across + back.e * down + back.f


def zoom_range(path: Path) -> tuple[int, int]:
    told = info(target(path))
    return told.minzoom, told.maxzoom
