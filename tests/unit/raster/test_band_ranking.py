"""What bands show is told from real scenes: a desert, alpine valleys, and the tropics under clouds."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geopera_server.raster.bands.ranking import Sample, suggested
from geopera_server.raster.bands.sampling import sample_bands
from geopera_server.raster.readers import Target

SENTINEL = "sentinel-2-l2a_S2A_29RKH_20200219"
LANDSAT = "landsat-c2-l2_LC08_001062_20201031/LC08_L2SP_001062_20201031_20201106_02_T2_SR_"
ALPS = "S2_L2A_bolzano_20220612_B04-B03-B02-B08-SCL.tif"
MSI = {
    "coastal": "B01", "blue": "B02", "green": "B03", "red": "B04", "rededge1": "B05", "rededge2": "B06", "rededge3": "B07",
    "nir": "B08", "nir08": "B8A", "nir09": "B09", "swir16": "B11", "swir22": "B12",
}  # fmt: skip
OLI = {"coastal": "B1", "blue": "B2", "green": "B3", "red": "B4", "nir": "B5", "swir16": "B6", "swir22": "B7"}
RGBN = ("red", "green", "blue", "nir")
SIDE = 64


def read(path: Path, band: int = 1) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(band, out_shape=(SIDE, SIDE)).astype(float).ravel()


@pytest.fixture(scope="module")
def scenes(shared_data):
    """The bands of three scenes by what they show, without pixels that one of them lacks."""
    folder = shared_data / "imagery"
    found = {
        "desert": {name: read(folder / SENTINEL / f"{file}.tif") for name, file in MSI.items()},
        "tropics": {name: read(folder / f"{LANDSAT}{file}.TIF") for name, file in OLI.items()},
        "alps": {name: read(folder / ALPS, band) for band, name in enumerate(RGBN, start=1)},
    }
    for bands in found.values():
        valid = np.all([values > 0 for values in bands.values()], axis=0)
        for name in bands:
            bands[name] = bands[name][valid]
    return found


def sample(bands, names, *, dtype="uint16", **more) -> Sample:
    return Sample(values=np.array([bands[name] for name in names]), dtype=dtype, **more)


@pytest.mark.parametrize("scene", ["desert", "tropics", "alps"])
def test_four_bands_are_told_in_every_order(scenes, scene):
    wrong = [order for order in itertools.permutations(RGBN) if suggested(sample(scenes[scene], order)) != list(order)]
    assert wrong == []


@pytest.mark.parametrize("scene", ["desert", "tropics", "alps"])
@pytest.mark.parametrize("order", [("red", "green", "blue"), ("blue", "green", "red")])
def test_colours_are_told(scenes, scene, order):
    assert suggested(sample(scenes[scene], order)) == list(order)


@pytest.mark.parametrize("scene", ["tropics", "alps"])
def test_false_colours_are_told_where_something_grows(scenes, scene):
    order = ["nir", "red", "green"]
    assert suggested(sample(scenes[scene], order)) == order


@pytest.mark.parametrize(
    "left_out",
    [(), ("coastal", "nir09"), ("coastal", "nir09", "nir"), ("coastal", "rededge1", "rededge2", "rededge3", "nir08", "nir09")],
)
def test_sentinel_2_is_told(scenes, left_out):
    order = [name for name in MSI if name not in left_out]
    assert suggested(sample(scenes["desert"], order)) == order


def test_sentinel_2_is_told_in_the_order_of_its_files(scenes):
    order = sorted(MSI, key=MSI.__getitem__)
    assert order[-1] == "nir08"
    assert suggested(sample(scenes["desert"], order)) == order


@pytest.mark.parametrize("left_out", [(), ("coastal",)])
def test_landsat_is_told_by_its_own_zero(scenes, left_out):
    order = [name for name in OLI if name not in left_out]
    assert suggested(sample(scenes["tropics"], order)) == order
    scaled = sample(scenes["tropics"], order, scales=(0.0000275,) * 7, offsets=(-0.2,) * 7)
    assert suggested(scaled) == order


@pytest.mark.parametrize("scene", ["desert", "alps"])
def test_the_later_zero_of_sentinel_2_is_known(scenes, scene):
    order = ["blue", "green", "red", "nir"]
    moved = {name: scenes[scene][name] + 1_000 for name in order}
    assert suggested(sample(moved, order)) == order


@pytest.mark.parametrize("scene", ["desert", "alps"])
def test_aerial_pictures_of_eight_bits_are_told(scenes, scene):
    eight = {name: np.clip(values * 255 / 6_000, 0, 255).round() for name, values in scenes[scene].items()}
    assert suggested(sample(eight, RGBN, dtype="uint8")) == list(RGBN)


def test_of_two_bands_only_what_is_certain_is_told(scenes):
    assert suggested(sample(scenes["alps"], ["red", "nir"])) == [None, "nir"]
    assert suggested(sample(scenes["tropics"], ["nir", "red"])) == ["nir", None]
    assert suggested(sample(scenes["alps"], ["red", "green"])) == [None, None]
    assert suggested(sample(scenes["alps"], ["nir"])) == [None]


def test_what_is_no_reflectance_is_not_named(scenes):
    chance = np.random.default_rng(1)
    noise = chance.permuted(sample(scenes["alps"], ["red", "nir", "green", "blue"]).values ** 4, axis=1)
    assert suggested(Sample(values=noise, dtype="float32")) == [None] * 4
    few = sample({name: values[:8] for name, values in scenes["alps"].items()}, RGBN)
    assert suggested(few) == [None] * 4
    alpha = {**scenes["alps"], "alpha": chance.integers(0, 255, len(scenes["alps"]["red"])).astype(float)}
    assert suggested(sample(alpha, (*RGBN, "alpha"), alpha=4)) == [*RGBN, None]
    assert suggested(Sample(values=np.zeros((15, 100)), dtype="uint8")) == [None] * 15


@pytest.mark.parametrize(
    ("name", "names"),
    [
        (ALPS, [*RGBN, None]),
        (f"{SENTINEL}/TCI.tif", ["red", "green", "blue"]),
        ("cop-dem-glo-30_N00_E006.tif", [None]),
        ("umbra_sar_mount_yasur.tif", [None]),
        (f"{LANDSAT}QA_AEROSOL.TIF", [None]),
    ],
)
def test_real_files_are_told(shared_data, name, names):
    assert suggested(sample_bands(Target(str(shared_data / "imagery" / name), "1"))) == names


def test_large_rasters_without_overviews_are_read_in_parts(scenes, tmp_path):
    """A whole read would decode every pixel of them."""
    path, side = tmp_path / "large.tif", 2_304
    tile = {name: values[: 48 * 48].reshape(48, 48) for name, values in scenes["alps"].items()}
    profile = {
        "driver": "GTiff", "width": side, "height": side, "count": 4, "dtype": "uint16", "nodata": 0, "tiled": True,
        "blockxsize": 256, "blockysize": 256, "compress": "deflate",
    }  # fmt: skip
    with rasterio.open(path, "w", crs="EPSG:32632", transform=rasterio.Affine(10, 0, 6e5, 0, -10, 5e6), **profile) as dataset:
        for band, name in enumerate(RGBN, start=1):
            dataset.write(np.tile(tile[name], (48, 48)).astype("uint16"), band)
    found = sample_bands(Target(str(path), "1"))
    assert found.values.shape == (4, 16 * 24 * 24)
    assert suggested(found) == list(RGBN)
