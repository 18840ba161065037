from __future__ import annotations

import warnings

import numpy as np
import pytest
from affine import Affine
from rio_tiler.io import Reader

from geopera_server.raster.render import Rendering, tile
from support.rasters import north_up
from support.tiles import decoded, exact_places, target, tile_over

BYTES = Rendering(rescale=((0, 255),))

GRIDS = {
    "UTM": dict(crs="EPSG:32629", transform=north_up(500_000, 2_700_000, 10)),
    "rotated": dict(crs="EPSG:32759", transform=Affine(-4.3, -17.3, 337_934, -17.3, 4.3, 7_840_518)),
    "upside down": dict(crs="EPSG:32629", transform=Affine(10, 0, 500_000, 0, 10, 2_690_000)),
    "degrees": dict(crs="EPSG:4326", transform=north_up(6.0, 1.0, 0.0002)),
    "degrees from 0 to 360": dict(crs="EPSG:4326", transform=north_up(355.0, 10.0, 0.03)),
    "over the antimeridian in degrees": dict(crs="EPSG:4326", transform=north_up(175.0, -10.0, 0.03)),
    "over the antimeridian in UTM": dict(crs="EPSG:32660", transform=north_up(800_000, 6_000_000, 100)),
    "Web Mercator": dict(crs="EPSG:3857", transform=north_up(1_000_000, 6_000_000, 20)),
    "oblong pixels": dict(crs="EPSG:32629", transform=north_up(500_000, 2_700_000, 10, 25)),
    "Lambert": dict(crs="EPSG:3035", transform=north_up(4_400_000, 2_600_000, 30)),
    "polar": dict(crs="EPSG:3413", transform=north_up(-2_200_000, 1_000_000, 3000)),
}


def numbered(height: int = 400, width: int = 360) -> np.ndarray:
    """Red tells the column and green the row, both counted in steps of 256; blue tells which step, from 1."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([columns % 256, rows % 256, 1 + (rows // 256) * 2 + columns // 256]).astype(np.uint8)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("share", [(0.5, 0.5), (0.02, 0.03), (0.97, 0.6)])
def test_every_pixel_is_the_one_that_lies_under_it(make_raster, grid, share):
    path = make_raster(numbered(), **GRIDS[grid])
    zoom = {"over the antimeridian in degrees": 5, "degrees from 0 to 360": 5, "polar": 4}.get(grid, 9)
    where = tile_over(path, zoom if share[0] == 0.5 else zoom + 4, share)

    picture = decoded(tile(target(path, grid + str(share)), BYTES, *where, format="png")).astype(int)

    columns, rows = exact_places(path, where)
    off_border = np.minimum(np.abs(columns - np.round(columns)), np.abs(rows - np.round(rows))) > 0.1
    with np.errstate(invalid="ignore"):
        inside = (columns >= 0) & (columns < 360) & (rows >= 0) & (rows < 400)
    shown = picture[..., 3] == 255
    found_column = picture[..., 0] + 256 * ((picture[..., 2] - 1) % 2)
    found_row = picture[..., 1] + 256 * ((picture[..., 2] - 1) // 2)
    # Beyond the scale of one pixel a coarser level is read, whose pixels stand for their neighbours too.
    scale = max(1.0, np.nanmedian(np.hypot(*np.gradient(columns))), np.nanmedian(np.hypot(*np.gradient(rows))))
    compared = inside & shown & off_border
    assert compared.sum() > 50
    assert np.array_equal(shown & off_border, inside & off_border) or scale > 1
    assert np.abs(found_column - np.floor(columns))[compared].max() <= (0 if scale == 1 else scale)
    assert np.abs(found_row - np.floor(rows))[compared].max() <= (0 if scale == 1 else scale)


@pytest.mark.parametrize(
    ("name", "zooms", "same"),
    [("TCI.tif", (8, 9, 10, 12), 0.92), ("B04.tif", (10, 12), 0.93), ("dem", (8, 10, 12, 13), 0.99), ("sar", (18, 19), 0.99)],
)
def test_real_scenes_look_as_rio_tiler_shows_them(sentinel2, dem, sar, name, zooms, same):
    path = {"dem": dem, "sar": sar}.get(name, sentinel2 / name)
    rescale = {"B04.tif": ((0, 5000),), "dem": ((0, 2000),)}.get(name, ((0, 255),))
    with warnings.catch_warnings(action="ignore"), Reader(str(path)) as peer:
        for zoom in zooms:
            where = tile_over(path, zoom)
            theirs = peer.tile(where[1], where[2], zoom)
            if rescale != ((0, 255),):
                theirs.rescale(rescale)
            ours = decoded(tile(target(path), Rendering(rescale=rescale), *where, format="png"))
            agreed = (theirs.mask > 0) == (ours[..., 3] > 0)
            both = (theirs.mask > 0) & (ours[..., 3] > 0)
            off = np.abs(ours[..., : len(theirs.data)].transpose(2, 0, 1).astype(int) - theirs.data.astype(int)).max(axis=0)
            assert agreed.mean() > 0.998
            assert (off[both] <= 1).mean() > same, zoom


def test_neighbouring_tiles_join_without_a_seam(make_raster):
    ramp = np.tile(np.linspace(1, 255, 800).astype(np.uint8), (800, 1))
    path = make_raster(ramp, transform=north_up(500_000, 2_700_000, 10))
    z, x, y = tile_over(path, 14)
    left, right = (decoded(tile(target(path), BYTES, z, column, y, format="png"))[..., 0].astype(int) for column in (x, x + 1))
    assert np.abs(right[:, 0] - left[:, -1]).max() <= 1


def test_bilinear_smooths_what_nearest_repeats(make_raster):
    path = make_raster(np.array([[0, 255], [0, 255]], np.uint8), transform=north_up(500_000, 2_700_000, 1000))
    where = tile_over(path, 12)
    nearest = decoded(tile(target(path), BYTES, *where, format="png"))
    smooth = decoded(tile(target(path), Rendering(rescale=((0, 255),), resampling="bilinear"), *where, format="png"))
    assert set(np.unique(nearest[..., 0][nearest[..., 3] > 0])) <= {0, 255}
    assert len(np.unique(smooth[..., 0])) > 25
    assert np.array_equal(nearest[..., 3], smooth[..., 3])


def test_bilinear_looks_as_rio_tiler_shows_it(sentinel2):
    path = sentinel2 / "TCI.tif"
    where = tile_over(path, 12)
    with warnings.catch_warnings(action="ignore"), Reader(str(path)) as peer:
        theirs = peer.tile(where[1], where[2], 12, reproject_method="bilinear", resampling_method="bilinear").data
    ours = decoded(tile(target(path), Rendering(resampling="bilinear"), *where, format="png"))[..., :3].transpose(2, 0, 1)
    assert np.abs(ours.astype(int) - theirs.astype(int)).mean() < 1.0


def test_zooming_in_and_out_stays_on_the_grid(sentinel2):
    path = sentinel2 / "TCI.tif"
    for zoom in range(25):
        picture = decoded(tile(target(path), Rendering(), *tile_over(path, zoom), format="png"))
        assert picture.shape == (256, 256, 4)
        assert picture[..., 3].any(), zoom


def test_half_the_globe_from_above_the_pole_fits_one_tile(make_raster):
    array = np.full((300, 300), 7, np.uint8)
    path = make_raster(array, crs="EPSG:3413", transform=north_up(-3_000_000, 3_000_000, 20_000))
    picture = decoded(tile(target(path), BYTES, 0, 0, 0, format="png"))
    # The raster covers all longitudes north of about 63°, and nothing south of 51°, its corners.
    assert (picture[:50, :, 3] == 255).all()
    assert not picture[100:, :, 3].any()


def test_a_tile_off_the_grid_is_refused(sentinel2):
    for z, x, y in ((25, 0, 0), (-1, 0, 0), (3, 8, 0), (3, 0, 8), (3, -1, 0)):
        with pytest.raises(ValueError, match="zoom level"):
            tile(target(sentinel2 / "TCI.tif"), Rendering(), z, x, y)
