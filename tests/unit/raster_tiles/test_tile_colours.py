from __future__ import annotations

import io

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp

from geopera_server.raster.colormaps import colormap, listed
from geopera_server.raster.errors import ColormapUnknown, InvalidAoi, Unrenderable
from geopera_server.raster.formula import parse
from geopera_server.raster.render import Rendering, default_rescale, thumbnail, tile
from support.rasters import aoi_within, north_up
from support.tiles import decoded, target, tile_over

WIDE = north_up(500_000, 2_700_000, 100)


def middle(path, rendering, z=11, **how):
    """The colour of the pixel over the raster's middle, where the raster is one value."""
    picture = decoded(tile(target(path), rendering, *tile_over(path, z), format="png", **how))
    seen = picture[picture[..., 3] > 0]
    assert len(seen), "nothing is shown"
    return tuple(int(value) for value in np.median(seen, axis=0))


def flat(value, dtype, bands=1):
    return np.full((bands, 60, 60), value, dtype)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("uint8", 100), ("int8", 100), ("uint16", 100), ("int16", 100), ("int32", 100), ("float32", 100), ("float64", 100)],
)
def test_every_type_is_stretched_alike(make_raster, dtype, value):
    path = make_raster(flat(value, dtype), transform=WIDE)
    assert middle(path, Rendering(rescale=((0, 250),))) == (102, 102, 102, 255)
    assert middle(path, Rendering(rescale=((150, 200),)))[:3] == (0, 0, 0)
    assert middle(path, Rendering(rescale=((-50, 50),)))[:3] == (255, 255, 255)


def test_negative_values_of_small_integers_are_stretched(make_raster):
    path = make_raster(flat(-150, "int16"), transform=WIDE)
    assert middle(path, Rendering(rescale=((-250, 0),))) == (102, 102, 102, 255)


def test_complex_values_are_shown_by_magnitude(make_raster):
    path = make_raster(flat(60 + 80j, "complex64"), transform=WIDE)
    assert middle(path, Rendering(rescale=((0, 250),))) == (102, 102, 102, 255)


def test_each_band_has_its_own_range(make_raster):
    array = np.stack([np.full((60, 60), value, "uint16") for value in (100, 200, 3000)])
    path = make_raster(array, transform=WIDE, photometric="minisblack")
    ranges = ((0, 250), (0, 500), (0, 3000))
    assert middle(path, Rendering(bands=(1, 2, 3), rescale=ranges)) == (102, 102, 255, 255)
    assert middle(path, Rendering(bands=(3, 1, 1), rescale=((0, 3000),)))[0] == 255


def test_bytes_of_red_green_and_blue_stay_as_they_are(make_raster):
    array = np.stack([np.full((60, 60), value, "uint8") for value in (10, 120, 240)])
    path = make_raster(array, transform=WIDE, photometric="rgb")
    assert middle(path, Rendering()) == (10, 120, 240, 255)


def test_other_rasters_are_stretched_over_their_percentiles(make_raster):
    ramp = np.arange(3600, dtype=np.uint16).reshape(60, 60)
    path = make_raster(ramp, transform=WIDE)
    ((low, high),) = default_rescale(target(path), Rendering())
    assert (low, high) == pytest.approx(tuple(np.percentile(ramp, (2, 98))))
    picture = decoded(tile(target(path), Rendering(), *tile_over(path, 10), format="png"))
    assert picture[..., 0][picture[..., 3] > 0].max() == 255


def test_a_raster_of_one_value_is_drawn(make_raster):
    assert middle(make_raster(flat(7, "uint16"), transform=WIDE), Rendering())[3] == 255


def test_the_stretch_of_an_aoi_is_that_of_the_aoi(bolzano):
    aoi = aoi_within(bolzano, [(0.1, 0.1), (0.3, 0.1), (0.3, 0.3), (0.1, 0.3)])
    ((low, high),) = default_rescale(target(bolzano), Rendering(bands=(4,)), aoi)
    with rasterio.open(bolzano) as dataset:
        whole = dataset.read(4)
    window = whole[round(0.1 * 705) : round(0.3 * 705), round(0.1 * 935) : round(0.3 * 935)]
    assert (low, high) == pytest.approx(tuple(np.percentile(window, (2, 98))), rel=0.02)
    assert (low, high) != default_rescale(target(bolzano), Rendering(bands=(4,)))[0]


def test_a_palette_gives_its_own_colours(make_raster):
    path = make_raster(flat(3, "uint8")[0], transform=WIDE, colormap={3: (10, 20, 30, 255), 4: (1, 2, 3, 255)})
    assert middle(path, Rendering()) == (10, 20, 30, 255)
    assert middle(path, Rendering(resampling="bilinear")) == (10, 20, 30, 255)


def test_classes_have_the_colours_of_their_values_and_are_never_mixed(make_raster):
    checks = np.indices((60, 60)).sum(axis=0).astype(np.uint8) % 2 * 4 + 2
    path = make_raster(checks, transform=WIDE)
    wished = Rendering(categories=((2, (255, 0, 0, 255)), (6, (0, 0, 255, 255))), resampling="bilinear")
    picture = decoded(tile(target(path), wished, *tile_over(path, 12), format="png"))
    seen = {tuple(colour) for colour in picture[picture[..., 3] > 0].tolist()}
    assert seen == {(255, 0, 0, 255), (0, 0, 255, 255)}
    only = decoded(tile(target(path), Rendering(categories=((2, (255, 0, 0, 255)),)), *tile_over(path, 12), format="png"))
    assert 0.2 < (only[..., 3] > 0).sum() / (picture[..., 3] > 0).sum() < 0.8


def test_class_layers_of_known_names_are_never_mixed(sentinel2):
    path = sentinel2 / "SCL.tif"
    where = tile_over(path, 9, (0.9, 0.1))
    smooth = tile(target(path), Rendering(colormap="scl", resampling="bilinear"), *where, format="png")
    assert smooth == tile(target(path), Rendering(colormap="scl"), *where, format="png")


def test_a_colormap_colours_a_formula(bolzano):
    ndvi = parse("(b4 - b1) / (b4 + b1)")
    wished = Rendering(formula=ndvi, colormap="RdYlGn", rescale=((-1, 1),))
    where = tile_over(bolzano, 13)
    picture = decoded(tile(target(bolzano), wished, *where, format="png"))
    from support.tiles import exact_places

    columns, rows = (np.floor(each).astype(int) for each in exact_places(bolzano, where))
    inside = (columns >= 0) & (columns < 935) & (rows >= 0) & (rows < 705)
    with rasterio.open(bolzano) as dataset:
        red, _, _, near, _ = dataset.read().astype(np.float32)
    index = (near - red) / (near + red)
    expected = colormap("rdylgn")[np.floor((index + 1) * 127.5 + 0.5).astype(int)]
    shown = expected[np.clip(rows, 0, 704), np.clip(columns, 0, 934)]
    assert (picture[inside] == shown[inside]).all(axis=-1).mean() > 0.99


@pytest.mark.parametrize("kind", ["nodata", "nan", "mask", "alpha"])
@pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
def test_invalid_pixels_are_transparent_however_they_are_told(make_raster, kind, resampling):
    array = np.full((60, 60), 100, "float32" if kind == "nan" else "uint8")
    hole = np.zeros((60, 60), np.bool_)
    hole[:, :30] = True
    profile = {"transform": WIDE}
    if kind == "nodata":
        array[hole] = 9
        profile["nodata"] = 9
    elif kind == "nan":
        array[hole] = np.nan
    elif kind == "mask":
        profile["mask"] = ~hole
    else:
        array = np.stack([array, np.where(hole, 0, 255).astype("uint8")])
        profile["after"] = lambda dataset: setattr(dataset, "colorinterp", (ColorInterp.gray, ColorInterp.alpha))
    path = make_raster(array, **profile)
    wished = Rendering(rescale=((0, 250),), resampling=resampling)
    left = decoded(tile(target(path), wished, *tile_over(path, 15, (0.25, 0.5)), format="png"))
    right = decoded(tile(target(path), wished, *tile_over(path, 15, (0.75, 0.5)), format="png"))
    assert not left[..., 3].any()
    assert (right == (102, 102, 102, 255)).all()


def test_a_pixel_is_shown_when_one_band_is_valid_and_computed_when_all_are(make_raster):
    array = np.stack([np.full((60, 60), value, "uint16") for value in (0, 50, 100)])
    path = make_raster(array, transform=WIDE, nodata=0, photometric="minisblack")
    assert middle(path, Rendering(rescale=((0, 100),)))[3] == 255
    computed = Rendering(formula=parse("b1 + b2"), rescale=((0, 100),))
    assert not decoded(tile(target(path), computed, *tile_over(path, 11), format="png"))[..., 3].any()


def test_nodata_may_be_overridden(make_raster):
    path = make_raster(flat(7, "uint8"), transform=WIDE, nodata=0)
    empty = tile(target(path), Rendering(rescale=((0, 9),), nodata=7), *tile_over(path, 11))
    assert not decoded(empty)[..., 3].any()


def test_outside_the_aoi_is_transparent(bolzano):
    aoi = aoi_within(bolzano, [(0.3, 0.3), (0.7, 0.3), (0.7, 0.7), (0.3, 0.7)])
    where = tile_over(bolzano, 12)
    whole, cut = (
        decoded(tile(target(bolzano), Rendering(rescale=((0, 3000),)), *where, format="png", aoi=each)) for each in (None, aoi)
    )
    assert 0.05 < (cut[..., 3] > 0).sum() / (whole[..., 3] > 0).sum() < 0.8
    kept = cut[..., 3] > 0
    assert np.array_equal(cut[kept], whole[kept])
    far = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    assert not decoded(tile(target(bolzano), Rendering(), *where, aoi=far))[..., 3].any()


def test_an_aoi_at_the_ends_of_the_world_is_laid_over_a_tile(make_raster):
    path = make_raster(flat(100, "uint8"), crs="EPSG:4326", transform=north_up(-180, 60, 6, 2))
    aoi = {"type": "Polygon", "coordinates": [[[170, -90], [-170, -90], [-170, 90], [170, 90], [170, -90]]]}
    picture = decoded(tile(target(path), Rendering(rescale=((0, 250),)), 0, 0, 0, format="png", aoi=aoi))
    shown = np.flatnonzero(picture[128, :, 3])
    assert shown.tolist() == [*range(7), *range(249, 256)]


def test_an_aoi_that_is_none_is_refused(bolzano):
    with pytest.raises(InvalidAoi):
        tile(target(bolzano), Rendering(), *tile_over(bolzano, 12), aoi={"type": "Point", "coordinates": [1, 2]})


@pytest.mark.parametrize("form", ["webp", "png", "jpeg"])
@pytest.mark.parametrize("size", [256, 512])
def test_outside_the_raster_is_one_transparent_picture(bolzano, form, size):
    pictures = [tile(target(bolzano), Rendering(), 9, x, 0, format=form, size=size) for x in (0, 1)]
    assert pictures[0] is pictures[1]
    image = Image.open(io.BytesIO(pictures[0]))
    assert image.size == (size, size)
    assert image.format == form.upper()
    if form != "jpeg":
        assert not decoded(pictures[0])[..., 3].any()


def test_quality_is_kept(bolzano):
    where = tile_over(bolzano, 13)
    for form in ("webp", "jpeg"):
        low, high = (tile(target(bolzano), Rendering(), *where, format=form, quality=each) for each in (20, 95))
        assert len(low) < len(high) / 2


@pytest.mark.parametrize(
    ("wished", "words"),
    [
        (Rendering(bands=(6,)), "bands 1 to 5"),
        (Rendering(bands=(0,)), "bands 1 to 5"),
        (Rendering(bands=(1, 2)), "one, or three"),
        (Rendering(bands=(1, 2, 3), colormap="viridis"), "colours one band"),
        (Rendering(bands=(1,), colormap="no-such-map"), "cog.colormaps"),
        (Rendering(bands=(1, 2, 3), rescale=((0, 1), (0, 1))), "one for each band"),
        (Rendering(rescale=((5, 5),)), "min below max"),
        (Rendering(formula=parse("b9")), "bands 1 to 5"),
        (Rendering(formula=parse("b1"), bands=(1,)), "not of both"),
        (Rendering(terrain=True), "one band of heights"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused_with_what_can(bolzano, wished, words):
    with pytest.raises(Unrenderable, match=words):
        tile(target(bolzano), wished, *tile_over(bolzano, 12))


def test_a_thumbnail_keeps_the_proportions(bolzano, sentinel2, make_raster):
    for path, size in ((bolzano, (256, 193)), (sentinel2 / "TCI.tif", (256, 256)), (sentinel2 / "L2A_PVI.tif", (256, 256))):
        image = Image.open(io.BytesIO(thumbnail(target(path))))
        assert (image.format, image.size) == ("JPEG", size)
    tall = make_raster(np.full((400, 20), 9, "uint8"), transform=WIDE)
    assert Image.open(io.BytesIO(thumbnail(target(tall), width=300, height=100))).size == (5, 100)


def test_a_thumbnail_shows_the_scene(sentinel2):
    with rasterio.open(sentinel2 / "TCI.tif") as dataset:
        whole = dataset.read(out_shape=(3, 128, 128), resampling=rasterio.enums.Resampling.average)
    shown = decoded(thumbnail(target(sentinel2 / "TCI.tif"), width=128, height=128))[..., :3].transpose(2, 0, 1)
    assert np.abs(shown.astype(int) - whole.astype(int)).mean() < 6


def test_colormaps_are_found_in_any_case_and_reversed():
    for group in listed().values():
        for each in group:
            table = colormap(each["name"])
            assert table.shape == (256, 4)
            assert each["label"]
            assert all(len(colour) == 7 for colour in each["colors"])
    assert {"sequential", "diverging", "perceptual", "terrain", "categorical"} == set(listed())
    for name in ("viridis", "magma", "RdYlGn", "terrain", "bathymetry"):
        assert np.array_equal(colormap(f"{name}_r"), colormap(name)[::-1])
        assert np.array_equal(colormap(name.upper()), colormap(name))
    for unknown in ("", "_r", "../viridis", "viridis_r_r_x"):
        with pytest.raises(ColormapUnknown):
            colormap(unknown)


def test_viridis_is_viridis():
    assert colormap("viridis")[0].tolist() == [68, 1, 84, 255]
    assert colormap("viridis")[255].tolist() == [253, 231, 36, 255]
