"""Real scenes, small made-up rasters and a web server for both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from support.http_files import HttpFiles
from support.rasters import MakeRaster, north_up

UTM_29N = "EPSG:32629"


@pytest.fixture(scope="session")
def imagery(shared_data: Path) -> Path:
    return shared_data / "imagery"


@pytest.fixture(scope="session")
def sentinel2(imagery: Path) -> Path:
    return imagery / "sentinel-2-l2a_S2A_29RKH_20200219"


@pytest.fixture(scope="session")
def bolzano(imagery: Path) -> Path:
    return imagery / "S2_L2A_bolzano_20220612_B04-B03-B02-B08-SCL.tif"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[HttpFiles]:
    folder = tmp_path / "served"
    folder.mkdir()
    with HttpFiles(folder) as files:
        yield files


@pytest.fixture
def make_raster(tmp_path: Path) -> MakeRaster:
    """Writes an array as a plain GeoTIFF, in UTM 29N with 10 m pixels unless told otherwise."""

    def make(array: np.ndarray, name: str = "made.tif", *, colormap: Any = None, **profile: Any) -> Path:
        stack = array[np.newaxis] if array.ndim == 2 else array
        mask, after = profile.pop("mask", None), profile.pop("after", None)
        settings = {"crs": UTM_29N, "transform": north_up(500_000, 2_700_000, 10), "driver": "GTiff"} | profile
        path = tmp_path / name
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

    return make
