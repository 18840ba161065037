"""Made-up uploads of every format, a secret beside them, and a web server that must never be asked."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from support.http_files import HttpFiles
from support.rasters import MakeRaster, north_up

UTM_29N = "EPSG:32629"


@pytest.fixture(scope="session")
def imagery(shared_data: Path) -> Path:
    return shared_data / "imagery"


@pytest.fixture(scope="session")
def bolzano(imagery: Path) -> Path:
    return imagery / "S2_L2A_bolzano_20220612_B04-B03-B02-B08-SCL.tif"


@pytest.fixture
def ramp() -> np.ndarray:
    """60 rows of 80 columns, every value its own."""
    return np.arange(4800, dtype=np.uint16).reshape(60, 80)


@pytest.fixture
def make(tmp_path: Path) -> MakeRaster:
    """Writes an array in any format GDAL writes, in UTM 29N with 10 m pixels unless told otherwise."""

    def write(array: np.ndarray, name: str = "made.tif", *, driver: str = "GTiff", after: Any = None, **profile: Any) -> Path:
        stack = array[np.newaxis] if array.ndim == 2 else array
        settings = {"crs": UTM_29N, "transform": north_up(500_000, 2_700_000, 10)} | profile
        path = tmp_path / name
        shape = {"width": stack.shape[2], "height": stack.shape[1], "count": len(stack), "dtype": stack.dtype}
        with rasterio.Env(GDAL_PAM_ENABLED="NO", GDAL_TIFF_INTERNAL_MASK=settings.pop("internal_mask", "YES")):
            if driver == "GTiff":
                with rasterio.open(path, "w", driver=driver, **shape, **settings) as dataset:
                    dataset.write(stack)
                    if after is not None:
                        after(dataset)
                return path
            # Formats that GDAL can only copy into.
            with rasterio.MemoryFile() as memory:
                placed = {key: settings.pop(key, None) for key in ("crs", "transform", "nodata")}
                with memory.open(driver="GTiff", **shape, **placed) as dataset:
                    dataset.write(stack)
                rasterio.shutil.copy(memory.name, str(path), driver=driver, **settings)
        return path

    return write


@pytest.fixture
def zipped(tmp_path: Path) -> Callable[..., Path]:
    """Packs files, or bytes, under the names given as keys."""

    def pack(entries: dict[str, Path | bytes], name: str = "upload.zip") -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for inside, content in entries.items():
                archive.writestr(inside, content if isinstance(content, bytes) else content.read_bytes())
        return path

    return pack


@pytest.fixture
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raster of the server's that no upload may read: it is found again by its one value, 54321."""
    path = tmp_path_factory.mktemp("server") / "secret.tif"
    array = np.full((1, 60, 80), 54321, dtype=np.uint16)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=80,
        height=60,
        count=1,
        dtype="uint16",
        crs=UTM_29N,
        transform=north_up(500_000, 2_700_000, 10),
    ) as dataset:
        dataset.write(array)
    return path


@pytest.fixture
def silent(secret: Path) -> Iterator[HttpFiles]:
    """Serves the secret's folder; fails the test when anything was asked for."""
    with HttpFiles(secret.parent) as files:
        yield files
        assert files.requests == [], "an upload made the server send a request"
