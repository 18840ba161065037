from __future__ import annotations

import time

import numpy as np
import pytest
import rasterio

from geopera_server.raster.errors import SourceUnreadable, TooLarge
from geopera_server.raster.render import Rendering, info, thumbnail, tile
from geopera_server.raster.tiles.levels import MAX_PART_PX, levels_of
from support.rasters import north_up
from support.tiles import decoded, target, tile_over, zoom_range

BYTES = Rendering(rescale=((0, 255),))


def sparse(tmp_path, size, *, tiled, bands=1, name="huge.tif"):
    """A file of few bytes that claims to hold many pixels."""
    path = tmp_path / name
    blocks = {"tiled": True, "blockxsize": 512, "blockysize": 512} if tiled else {"blockysize": 1}
    with rasterio.open(
        path, "w", driver="GTiff", width=size, height=size, count=bands, dtype="uint8", crs="EPSG:32629", sparse_ok=True,
        bigtiff="YES", interleave="pixel", transform=north_up(400_000, 2_800_000, 1), **blocks,
    ):  # fmt: skip
        pass
    return path


def test_a_huge_raster_without_overviews_is_refused_from_afar_and_shown_from_near(tmp_path):
    path = sparse(tmp_path, 60_000, tiled=True)
    low, high = zoom_range(path)
    started = time.monotonic()
    with pytest.raises(TooLarge, match="Cloud Optimized GeoTIFF"):
        tile(target(path), BYTES, *tile_over(path, low))
    assert time.monotonic() - started < 2
    assert decoded(tile(target(path), BYTES, *tile_over(path, high)))[..., 3].all()
    with pytest.raises(TooLarge, match="Zoom in"):
        thumbnail(target(path))


def test_lines_of_a_huge_raster_are_left_out_rather_than_decoded(tmp_path):
    path = sparse(tmp_path, 60_000, tiled=False)
    assert decoded(tile(target(path), BYTES, *tile_over(path, zoom_range(path)[0])))[..., 3].any()


def test_a_raster_in_one_huge_block_is_refused(tmp_path):
    path = tmp_path / "block.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=12_000, height=12_000, count=1, dtype="uint8", crs="EPSG:32629", sparse_ok=True,
        transform=north_up(400_000, 2_800_000, 1), tiled=True, blockxsize=12_000, blockysize=12_000,
    ):  # fmt: skip
        pass
    with pytest.raises(TooLarge, match="blocks of 144 MB"):
        info(target(path))


def test_levels_are_never_more_than_a_factor_of_two_apart():
    for overviews in ([], [2, 4, 8], [4, 16], [3, 9], [7]):
        levels = levels_of(20_000, 9_000, overviews)
        assert levels[0].x == levels[0].y == 1
        assert max(levels[-1].width, levels[-1].height) <= 256
        assert [level for level in levels if level.thinning == 1][1:] == [
            level for level in levels if round(level.x) in overviews and level.thinning == 1
        ]
        for finer, coarser in zip(levels, levels[1:], strict=False):
            assert 1 < coarser.x / finer.x < 2.1
    assert MAX_PART_PX == 2_000_000


@pytest.mark.parametrize("overviews", [[], [2, 4, 8], [4, 16]])
def test_overviews_are_read_where_they_lie(make_raster, overviews):
    """A picture of a raster from afar shows each place where it is, whichever overviews there are."""
    size = 2100
    rows, columns = np.mgrid[0:size, 0:size]
    array = np.stack([columns // 9, rows // 9, np.full_like(rows, 1)]).astype(np.uint8)
    path = make_raster(array, transform=north_up(500_000, 2_700_000, 10), tiled=True, photometric="rgb")
    if overviews:
        with rasterio.open(path, "r+") as dataset:
            dataset.build_overviews(overviews, rasterio.enums.Resampling.average)
    assert info(target(path)).overviews == len(overviews)
    from support.tiles import exact_places

    for zoom in (8, 10, 12):
        where = tile_over(path, zoom)
        picture = decoded(tile(target(path), Rendering(), *where, format="png")).astype(int)
        across, down = exact_places(path, where)
        seen = (picture[..., 3] > 0) & (across >= 0) & (across < size) & (down >= 0) & (down < size)
        scale = np.median(np.diff(across, axis=1))
        for found, place in ((picture[..., 0], across), (picture[..., 1], down)):
            off = (found + 0.5) * 9 - place
            assert np.abs(off[seen]).max() <= 9 / 2 + max(scale, 1) * 1.3, zoom
            assert abs(np.median(off[seen])) <= 1 + scale / 4, zoom


def test_a_damaged_raster_is_told_apart_from_an_empty_one(tmp_path, sentinel2):
    torn = tmp_path / "torn.tif"
    whole = (sentinel2 / "TCI.tif").read_bytes()
    torn.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceUnreadable, match="damaged"):
        tile(target(torn), Rendering(), *tile_over(sentinel2 / "TCI.tif", 10))
