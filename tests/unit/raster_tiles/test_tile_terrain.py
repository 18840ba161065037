from __future__ import annotations

import io

import numpy as np
import pytest
import rasterio
from PIL import Image

from geopera_server.raster.render import Rendering, tile
from support.rasters import aoi_within, north_up
from support.tiles import decoded, exact_places, target, tile_over

TERRAIN = Rendering(terrain=True)


def heights(body: bytes) -> np.ndarray:
    red, green, blue, alpha = (decoded(body)[..., channel].astype(np.int64) for channel in range(4))
    assert (alpha == 255).all()
    return np.round(-10_000 + 0.1 * (red * 65536 + green * 256 + blue), 1)


@pytest.mark.parametrize("share", [(0.5, 0.72), (0.6, 0.65), (0.0, 0.0)])
def test_heights_are_exact_to_the_decimetre(dem, share):
    where = tile_over(dem, 12, share)
    body = tile(target(dem), TERRAIN, *where, size=512)
    assert Image.open(io.BytesIO(body)).format == "WEBP"

    columns, rows = exact_places(dem, where, 512)
    with rasterio.open(dem) as dataset:
        whole = dataset.read(1).astype(np.float64)
    inside = (columns >= 0) & (columns < 3600) & (rows >= 0) & (rows < 3600)
    off_border = np.minimum(np.abs(columns - np.round(columns)), np.abs(rows - np.round(rows))) > 0.01
    nearest = whole[np.clip(rows, 0, 3599).astype(int), np.clip(columns, 0, 3599).astype(int)]
    assert np.array_equal(heights(body)[inside & off_border], np.round(nearest, 1)[inside & off_border])
    assert (heights(body)[~inside & off_border] == 0).all()


def test_depths_become_heights_when_inverted(make_raster):
    path = make_raster(np.full((60, 60), 1234.56, "float32"), transform=north_up(500_000, 2_700_000, 100))
    where = tile_over(path, 15)
    assert set(np.unique(heights(tile(target(path), TERRAIN, *where)))) == {1234.6}
    inverted = Rendering(terrain=True, invert=True)
    assert set(np.unique(heights(tile(target(path), inverted, *where)))) == {-1234.6}


def test_no_data_is_sea_level_inside_and_outside_the_raster(make_raster):
    array = np.full((60, 60), 500, "int16")
    array[:, :30] = -32768
    path = make_raster(array, transform=north_up(500_000, 2_700_000, 100), nodata=-32768)
    for wished in (TERRAIN, Rendering(terrain=True, resampling="bilinear")):
        assert set(np.unique(heights(tile(target(path), wished, *tile_over(path, 12))))) == {0, 500}
    far = tile(target(path), TERRAIN, 9, 0, 0)
    assert set(np.unique(heights(far))) == {0}
    assert far is tile(target(path), TERRAIN, 9, 1, 0)


def test_heights_beyond_the_range_of_the_format_are_cut(make_raster):
    array = np.array([[-20_000.0, 3e6]], "float32").repeat(30, axis=1).repeat(60, axis=0)
    path = make_raster(array, transform=north_up(500_000, 2_700_000, 100))
    found = heights(tile(target(path), TERRAIN, *tile_over(path, 12)))
    assert set(np.unique(found)) == {-10_000, 0, 1_667_721.5}


def test_outside_an_aoi_is_sea_level(dem):
    aoi = aoi_within(dem, [(0.55, 0.7), (0.6, 0.7), (0.6, 0.75), (0.55, 0.75)])
    where = tile_over(dem, 11, (0.575, 0.72))
    whole, cut = (heights(tile(target(dem), TERRAIN, *where, aoi=each)) for each in (None, aoi))
    assert (cut != 0).any()
    assert (cut[cut != 0] == whole[cut != 0]).all()
    assert (cut == 0).sum() > (whole == 0).sum()
