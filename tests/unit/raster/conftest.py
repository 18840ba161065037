"""Real scenes, small made-up rasters and a web server for both."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from support.http_files import HttpFiles
from support.rasters import MakeRaster, write_raster


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
    return partial(write_raster, tmp_path)
