"""Real scenes, and small made-up rasters whose values tell where a pixel is."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

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


@pytest.fixture(scope="session")
def dem(imagery: Path) -> Path:
    return imagery / "cop-dem-glo-30_N00_E006.tif"


@pytest.fixture(scope="session")
def sar(imagery: Path) -> Path:
    return imagery / "umbra_sar_mount_yasur.tif"


@pytest.fixture
def make_raster(tmp_path: Path) -> MakeRaster:
    return partial(write_raster, tmp_path)
