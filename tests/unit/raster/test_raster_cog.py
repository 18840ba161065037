"""A file is written whole and right, or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from geopera_server.raster import cog
from geopera_server.raster.cog import array_to_cog
from geopera_server.raster.errors import WriteFailed
from geopera_server.raster.georef import Grid
from geopera_server.raster.layout import chunk_windows
from geopera_server.raster.statistics import RunningStatistics
from support.rasters import left_over, north_up

PLACE = {"crs": "EPSG:3035", "transform": north_up(5_200_000, 2_600_000, 10)}


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).integers(1, 65535, shape, dtype="uint16")


def test_an_array_becomes_a_valid_cog(tmp_path: Path) -> None:
    array = noise(3, 700, 1100)
    info = array_to_cog(
        array, tmp_path / "a.tif", **PLACE, nodata=0, band_names=["B04", "B03", "B02"], scale=0.0001, tags={"made": "here"}
    )
    assert cog_validate(tmp_path / "a.tif")[:2] == (True, [])
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert np.array_equal(dataset.read(), array)
        assert (dataset.descriptions, dataset.scales) == (("B04", "B03", "B02"), (0.0001,) * 3)
        assert (dataset.overviews(1), dataset.block_shapes[0]) == ([2, 4], (512, 512))
        assert dataset.tags()["made"] == "here"
        assert dataset.compression.value == "DEFLATE"
    content = (tmp_path / "a.tif").read_bytes()
    assert (info.sha256, info.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert (info.epsg, info.gsd_m, info.width, info.height, info.nodata) == (3035, 10.0, 1100, 700, 0)
    assert info.transform == (10, 0, 5_200_000, 0, -10, 2_600_000)


def test_an_array_of_two_dimensions_is_one_band(tmp_path: Path) -> None:
    info = array_to_cog(noise(40, 50), tmp_path / "a.tif", **PLACE)
    assert (info.band_count, info.band_names, info.width, info.height) == (1, ("b1",), 50, 40)


def test_a_mask_and_a_colour_table_are_written(tmp_path: Path) -> None:
    valid = np.zeros((600, 600), dtype=bool)
    valid[100:300, 50:90] = True
    classes = np.full((600, 600), 4, "uint8")
    table = {4: (0, 120, 0, 255)}
    info = array_to_cog(classes, tmp_path / "a.tif", **PLACE, valid=valid, colormap=table)
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert np.array_equal(dataset.dataset_mask() != 0, valid)
        assert dataset.colormap(1)[4] == table[4]
    assert info.statistics[0]["valid_percent"] == pytest.approx(100 * valid.mean())


def test_wrong_band_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 band names for 1 bands"):
        array_to_cog(noise(10, 10), tmp_path / "a.tif", **PLACE, band_names=["a", "b"])


@pytest.mark.parametrize("whole_rows", [False, True])
@pytest.mark.parametrize(
    ("width", "height", "pixel_bytes"), [(1, 1, 1), (512, 513, 2), (10_000, 7_000, 2), (3_000, 90_000, 24)]
)
def test_chunks_hold_every_pixel_once(width: int, height: int, pixel_bytes: int, *, whole_rows: bool) -> None:
    grid = Grid(width, height, PLACE["transform"], rasterio.CRS.from_epsg(3035))
    windows = list(chunk_windows(grid, pixel_bytes, whole_rows=whole_rows))
    assert sum(w.width * w.height for w in windows) == width * height
    assert len({(w.col_off, w.row_off) for w in windows}) == len(windows)
    assert all(w.col_off % 512 == w.row_off % 512 == 0 for w in windows)
    assert all(w.col_off + w.width <= width and w.row_off + w.height <= height for w in windows)
    assert max(w.width * w.height * pixel_bytes for w in windows) <= max(16e6, 512 * 512 * pixel_bytes)


def test_statistics_of_pieces_equal_those_of_the_whole() -> None:
    values = np.random.default_rng(3).normal(1e6, 0.5, 3_000_000)
    running = RunningStatistics()
    for piece in np.array_split(values, [1, 10, 2_000_003]):
        running.add(piece)
    running.add(values[:0])
    found = running.result(6_000_000)
    assert (found["min"], found["max"]) == (values.min(), values.max())
    assert found["mean"] == pytest.approx(values.mean(), rel=1e-12)
    assert found["stddev"] == pytest.approx(values.std(), rel=1e-9)
    assert found["valid_percent"] == 50.0


# --- failing writes ----------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("size", ["2m", "5m", "7m", "9m", "11m", "12500k", "13m"])
def test_a_full_disk_is_an_error_that_says_so(tmp_path: Path, size: str) -> None:
    """The staged file needs 6.5 MB and its overviews 2.2, the result as much again: each size stops another step."""
    with small_disk(tmp_path / "disk", size) as disk:
        with pytest.raises(WriteFailed, match="No space left on device") as caught:
            array_to_cog(noise(1800, 1800), disk / "a.tif", **PLACE)
        assert left_over(disk) == []
    assert caught.value.errno == errno.ENOSPC


def test_the_same_disk_with_enough_room_takes_it(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "20m") as disk:
        array_to_cog(noise(1800, 1800), disk / "a.tif", **PLACE)
        assert left_over(disk) == ["a.tif"]


@pytest.mark.parametrize("limit", [1_000_000, 7_000_000, 8_000_000])
def test_a_write_that_the_system_refuses_leaves_nothing_behind(tmp_path: Path, limit: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(WriteFailed):
            array_to_cog(noise(1800, 1800), tmp_path / "a.tif", **PLACE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert left_over(tmp_path) == []


def test_a_missing_folder_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(WriteFailed, match="No such file or directory") as caught:
        array_to_cog(noise(10, 10), tmp_path / "none" / "a.tif", **PLACE)
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("damage", ["end missing", "pixels changed", "overviews missing"])
def test_a_result_that_is_not_what_was_written_never_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    copy = cog._copy_as_cog

    def copy_badly(layout: Any, staged: Path, result: Path) -> None:
        if damage == "pixels changed":
            with rasterio.open(staged, "r+") as dataset:
                dataset.write(np.ones((1, 10, 10), "uint16"), window=rasterio.windows.Window(600, 600, 10, 10))
        if damage == "overviews missing":
            rasterio.shutil.copy(str(staged), str(result), driver="COG", OVERVIEWS="NONE")
            return
        copy(layout, staged, result)
        if damage == "end missing":
            os.truncate(result, result.stat().st_size - 5000)

    monkeypatch.setattr(cog, "_copy_as_cog", copy_badly)
    with pytest.raises(WriteFailed):
        array_to_cog(noise(1100, 1100), tmp_path / "a.tif", **PLACE)
    assert left_over(tmp_path) == []


def test_memory_does_not_grow_with_the_raster(tmp_path: Path) -> None:
    """288 MB of pixels pass through; the process may grow by a fraction of that."""
    script = f"""
import resource, sys
from pathlib import Path
import rasterio
from affine import Affine
from geopera_server.raster.clip import clip_to_cog
source = Path({str(tmp_path)!r}) / "source.tif"
with rasterio.open(source, "w", driver="GTiff", width=6000, height=6000, count=4, dtype="uint16", crs="EPSG:32629",
                   transform=Affine(1, 0, 500000, 0, -1, 5000000), tiled=True, SPARSE_OK=True):
    pass
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
info = clip_to_cog(str(source), source.with_name("clip.tif"), aoi=None)
assert info.width * info.height * info.band_count * 2 == 288_000_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=100)
    assert int(done.stdout) < 230_000
