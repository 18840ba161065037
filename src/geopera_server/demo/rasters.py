"""The files of one demo scene: reflectance as it came, a picture of it, and a thumbnail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp, Resampling
from rasterio.windows import Window

from geopera_server.demo.series import Scene, UInt8
from geopera_server.raster.cog import write_cog
from geopera_server.raster.env import gdal_env
from geopera_server.raster.layout import Band, Chunk, Colormap, Layout

NODATA = 0
ARCHIVE_BANDS = {"red": "B04", "green": "B03", "blue": "B02", "nir": "B08"}
PICTURE_BANDS = ("B04", "B03", "B02")
RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)

# One stretch for all dates, so that pictures can be compared: forest (0.02) gets dark, bare soil (0.15) bright.
WHITE_REFLECTANCE = 0.25
GAMMA = 1.6

# The colours in which Sen2Cor's scene classes are customarily shown.
CLASS_COLORS: Colormap = {
    0: (0, 0, 0, 0),
    1: (255, 0, 0, 255),
    2: (47, 47, 47, 255),
    3: (100, 50, 0, 255),
    4: (0, 160, 0, 255),
    5: (255, 230, 90, 255),
    6: (0, 0, 255, 255),
    7: (128, 128, 128, 255),
    8: (192, 192, 192, 255),
    9: (255, 255, 255, 255),
    10: (100, 200, 255, 255),
    11: (255, 150, 255, 255),
}


def write_open_files(scene: Scene, folder: Path) -> None:
    """Writes what an open-data host publishes: one file per band, the scene classes, a picture and a thumbnail."""
    for name, pixels in scene.bands.items():
        _write(scene, folder / f"{name}.tif", pixels[np.newaxis], {name: ColorInterp.gray})
    _write(scene, folder / "SCL.tif", scene.classes[np.newaxis], {"SCL": ColorInterp.palette}, CLASS_COLORS)
    picture = picture_of(scene)
    _write(scene, folder / "visual.tif", picture, dict(zip(PICTURE_BANDS, RGB, strict=True)))
    _write_png(scene, folder / "thumbnail.png", picture)


def write_archive_files(scene: Scene, folder: Path) -> None:
    """Writes what an archive delivers: one file of red, green, blue and near infrared, and a thumbnail."""
    stack = np.stack([scene.bands[band] for band in ARCHIVE_BANDS.values()])
    _write(scene, folder / "analytic.tif", stack, dict(zip(ARCHIVE_BANDS, (*RGB, ColorInterp.undefined), strict=True)))
    _write_png(scene, folder / "thumbnail.png", picture_of(scene))


def picture_of(scene: Scene) -> UInt8:
    """Returns true colour (band, row, column) in 1 to 255, and 0 where there is no data."""
    stored = np.stack([scene.bands[band] for band in PICTURE_BANDS])
    reflectance = stored / 10_000.0
    brightness = np.clip(reflectance / WHITE_REFLECTANCE, 0.0, 1.0) ** (1.0 / GAMMA)
    return np.where(stored == NODATA, NODATA, np.rint(1.0 + 254.0 * brightness)).astype(np.uint8)


def attribution(scene: Scene) -> str:
    """Returns the notice that Copernicus asks of whoever passes its data on."""
    return f"Contains modified Copernicus Sentinel data {scene.day.year}"


def _write(
    scene: Scene, path: Path, stack: npt.NDArray[Any], bands: dict[str, ColorInterp], colors: Colormap | None = None
) -> None:
    layout = Layout(
        # One grid for all files: setting up its way to WGS84 takes ten times as long as writing one of them.
        grid=scene.grid,
        dtype=stack.dtype.name,
        nodata=NODATA,
        masked=False,
        bands=tuple(Band(name=name, color=color, tags={}) for name, color in bands.items()),
        colormap=colors,
        tags={"TIFFTAG_COPYRIGHT": attribution(scene), "TIFFTAG_DATETIME": f"{scene.day:%Y:%m:%d} 00:00:00"},
        resampling=Resampling.average if colors is None else Resampling.mode,
    )
    write_cog(layout, [Chunk(Window(0, 0, scene.grid.width, scene.grid.height), stack, None)], path)


def _write_png(scene: Scene, path: Path, picture: UInt8) -> None:
    bands, height, width = picture.shape
    # A PNG cannot keep the transform; without one rasterio warns that the picture lies nowhere.
    shape = {"width": width, "height": height, "count": bands, "dtype": "uint8", "transform": scene.grid.transform}
    with gdal_env(), rasterio.open(path, "w", driver="PNG", **shape) as file:
        file.write(picture)
