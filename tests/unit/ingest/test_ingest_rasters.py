"""Every raster format people send: what is said about it, and that its pixels arrive unchanged in a valid COG."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.enums import ColorInterp
from rio_cogeo.cogeo import cog_validate

from geopera_server.raster import ingest
from geopera_server.raster.errors import Stopped, WriteFailed
from geopera_server.raster.ingest import Limits
from support.rasters import left_over, north_up

CORNER = north_up(500_000, 2_700_000, 10)


def converted(files, tmp_path: Path, **given):
    """Inspects and converts; the result is a valid COG of the inspected shape, with nothing left beside it."""
    files = [files] if isinstance(files, Path) else files
    inspection = ingest.inspect(files, **given)
    folder = tmp_path / "converted"
    folder.mkdir()
    info = ingest.convert(inspection, folder / "cog.tif")
    valid, errors, _ = cog_validate(folder / "cog.tif")
    assert valid, errors
    assert left_over(folder) == ["cog.tif"]
    assert (info.width, info.height, info.band_names) == (inspection.info.width, inspection.info.height, inspection.band_names)
    with rasterio.open(folder / "cog.tif") as dataset:
        return (
            inspection,
            info,
            dataset.read(),
            dataset.dataset_mask(),
            dataset.meta | {"tags": dataset.tags(), "dataset": dataset},
        )


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"BIGTIFF": "YES"},
        {"compress": "lzw", "predictor": 2},
        {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"},
        {"ENDIANNESS": "BIG"},
        {"SPARSE_OK": "TRUE", "tiled": True, "blockxsize": 16, "blockysize": 16},
    ],
    ids=["striped", "bigtiff", "lzw", "tiled", "big-endian", "sparse"],
)
def test_a_geotiff_of_any_layout_keeps_its_pixels(make, ramp, tmp_path, layout):
    inspection, info, pixels, _, _ = converted(make(ramp, **layout), tmp_path)
    assert (inspection.kind, inspection.format, inspection.driver) == ("raster", "GeoTIFF", "GTiff")
    assert inspection.needs_conversion
    assert inspection.info.epsg == 32629
    assert info.statistics[0]["max"] == 4799
    assert np.array_equal(pixels[0], ramp)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint32", "float32", "float64", "complex64"])
def test_every_type_of_value_is_kept(make, tmp_path, dtype):
    array = np.arange(100, dtype=dtype).reshape(10, 10)
    _, info, pixels, _, _ = converted(make(array), tmp_path)
    assert info.dtype == dtype
    assert np.array_equal(pixels[0], array)


def test_names_scale_offset_nodata_units_and_tags_are_kept(make, ramp, tmp_path):
    def describe(dataset):
        dataset.descriptions = ("red", "nir")
        dataset.scales, dataset.offsets, dataset.units = (0.1, 0.2), (1.0, 2.0), ("K", "m")
        dataset.update_tags(TIFFTAG_DATETIME="2021:05:04 03:02:01", SENSOR="x")

    path = make(np.stack([ramp, ramp]), nodata=7, after=describe)
    inspection, info, _, mask, meta = converted(path, tmp_path)
    assert inspection.acquired == datetime(2021, 5, 4, 3, 2, 1, tzinfo=UTC)
    assert info.band_names == ("red", "nir")
    assert info.nodata == 7
    assert info.statistics[0]["valid_percent"] == pytest.approx(100 * 4799 / 4800)
    assert mask[0, 7] == 0
    assert meta["tags"]["SENSOR"] == "x"
    with rasterio.open(tmp_path / "converted" / "cog.tif") as dataset:
        assert (dataset.scales, dataset.offsets, dataset.units) == ((0.1, 0.2), (1.0, 2.0), ("K", "m"))


def test_names_in_an_unknown_encoding_are_left_aside(make, ramp, tmp_path):
    def named(dataset):
        dataset.set_band_description(1, "name: CAFE")
        dataset.update_tags(note="note: CAFE")
        dataset.update_tags(1, note="note: CAFE")

    path = make(ramp, after=named)
    path.write_bytes(path.read_bytes().replace(b"CAFE", b"CAF\xe9"))
    inspection, _, pixels, _, _ = converted(path, tmp_path)
    assert inspection.band_names == ("b1",)
    assert np.array_equal(pixels[0], ramp)


def test_a_palette_is_kept(make, tmp_path):
    classes = np.tile(np.arange(3, dtype=np.uint8), (30, 10))
    path = make(classes, after=lambda dataset: dataset.write_colormap(1, {1: (255, 0, 0, 255), 2: (0, 255, 0, 255)}))
    converted(path, tmp_path)
    with rasterio.open(tmp_path / "converted" / "cog.tif") as dataset:
        assert dataset.colorinterp == (ColorInterp.palette,)
        assert dataset.colormap(1)[2] == (0, 255, 0, 255)


@pytest.mark.parametrize("internal", ["YES", "NO"])
def test_a_mask_inside_or_beside_the_image_is_kept(make, ramp, tmp_path, internal):
    valid = np.zeros(ramp.shape, dtype=bool)
    valid[10:20, 5:50] = True
    path = make(ramp, internal_mask=internal, after=lambda dataset: dataset.write_mask(valid))
    files = [path] if internal == "YES" else [path, tmp_path / "made.tif.msk"]
    _, info, _, mask, _ = converted(files, tmp_path)
    assert np.array_equal(mask != 0, valid)
    assert info.statistics[0]["min"] == ramp[valid].min()


def test_categorical_overviews_hold_only_values_that_are_there(make, tmp_path):
    classes = np.random.default_rng(1).choice(np.array([1, 200], dtype=np.uint8), (1100, 1100))
    inspection = ingest.inspect([make(classes)], is_categorical=True)
    ingest.convert(inspection, tmp_path / "classes.tif")
    with rasterio.open(tmp_path / "classes.tif", OVERVIEW_LEVEL=0) as overview:
        assert set(np.unique(overview.read())) == {1, 200}
    ingest.convert(ingest.inspect([tmp_path / "made.tif"]), tmp_path / "values.tif")
    with rasterio.open(tmp_path / "values.tif", OVERVIEW_LEVEL=0) as overview:
        assert len(np.unique(overview.read())) > 2


def test_an_image_with_its_rows_or_columns_the_other_way_is_turned_upright(make, ramp, tmp_path):
    upside_down = Affine(10, 0, 500_000, 0, 10, 2_700_000 - 600)
    _, info, pixels, _, _ = converted(make(ramp[::-1], transform=upside_down), tmp_path)
    assert info.transform == (10, 0, 500_000, 0, -10, 2_700_000)
    assert np.array_equal(pixels[0], ramp)
    mirrored = ingest.inspect([make(ramp[:, ::-1], "mirrored.tif", transform=Affine(-10, 0, 500_800, 0, -10, 2_700_000))])
    ingest.convert(mirrored, tmp_path / "mirrored-cog.tif")
    with rasterio.open(tmp_path / "mirrored-cog.tif") as dataset:
        assert dataset.transform == CORNER
        assert np.array_equal(dataset.read(1), ramp)


def test_a_rotated_image_keeps_its_transform(imagery, tmp_path):
    inspection, info, _, _, _ = converted(imagery / "umbra_sar_mount_yasur.tif", tmp_path)
    assert info.transform == inspection.info.transform
    assert info.transform[1] != 0


def test_jpeg_2000_is_converted(make, ramp, tmp_path):
    path = make(ramp, "scene.jp2", driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")
    inspection, _, pixels, _, _ = converted(path, tmp_path)
    assert inspection.format == "JPEG 2000"
    assert np.array_equal(pixels[0], ramp)


@pytest.mark.parametrize(
    ("driver", "name", "world", "options"),
    [
        ("PNG", "photo.png", "photo.pgw", {}),
        ("WEBP", "photo.webp", "photo.wld", {"LOSSLESS": "YES"}),
        ("JPEG", "photo.jpg", "photo.JGW", {}),
    ],
)
def test_a_picture_is_placed_by_its_world_file_and_an_epsg_code(make, tmp_path, driver, name, world, options):
    colours = np.tile(np.arange(120, dtype=np.uint8), (3, 90, 1))
    picture = make(colours, name, driver=driver, crs=None, transform=None, **options)
    (tmp_path / world).write_text("10.0\n0.0\n0.0\n-10.0\n500005.0\n2699995.0\n")
    inspection, info, pixels, _, _ = converted([picture, tmp_path / world], tmp_path, given_epsg=32629)
    assert inspection.given_epsg == 32629
    assert info.transform == tuple(CORNER[:6])
    if driver != "JPEG":
        assert np.array_equal(pixels, colours)


def test_a_picture_is_placed_by_a_prj_or_by_gdals_own_sidecar(make, ramp, tmp_path):
    picture = make(ramp, "photo.png", driver="PNG", crs=None, transform=None)
    wkt = rasterio.crs.CRS.from_epsg(32629).to_wkt()
    (tmp_path / "photo.pgw").write_text("10 0 0 -10 500005 2699995")
    (tmp_path / "photo.prj").write_text(wkt)
    by_prj = ingest.inspect([picture, tmp_path / "photo.pgw", tmp_path / "photo.prj"])
    escaped = wkt.replace('"', "&quot;")
    (tmp_path / "photo.png.aux.xml").write_text(
        f"<PAMDataset><SRS>{escaped}</SRS><GeoTransform>5e5, 10, 0, 2.7e6, 0, -10</GeoTransform></PAMDataset>"
    )
    by_aux = ingest.inspect([picture, tmp_path / "photo.png.aux.xml"])
    for inspection in (by_prj, by_aux):
        assert (inspection.info.epsg, inspection.info.transform) == (32629, tuple(CORNER[:6]))


def test_an_ascii_grid_is_placed_by_an_epsg_code(tmp_path):
    rows = "\n".join(" ".join(str(row * 4 + column) for column in range(4)) for row in range(3))
    path = tmp_path / "dem.asc"
    path.write_text(f"ncols 4\nnrows 3\nxllcorner 500000\nyllcorner 2700000\ncellsize 30\nNODATA_value -9999\n{rows}\n")
    inspection, _, pixels, _, _ = converted(path, tmp_path, given_epsg=32629)
    assert inspection.format == "ASCII grid"
    assert pixels[0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_a_zip_of_one_raster_is_unpacked(make, ramp, zipped, tmp_path):
    archive = zipped({"scene/image.tif": make(ramp), "scene/readme.txt": b"hello", "__MACOSX/._image.tif": b"x"})
    inspection, _, pixels, _, _ = converted(archive, tmp_path)
    assert (inspection.main, inspection.entry, inspection.media_type) == (archive, "scene/image.tif", "application/zip")
    assert inspection.notes == ("scene/readme.txt was not used.",)
    assert np.array_equal(pixels[0], ramp)


def test_a_picture_and_its_world_file_may_come_as_a_zip(make, ramp, zipped, tmp_path):
    picture = make(ramp, "photo.png", driver="PNG", crs=None, transform=None)
    archive = zipped({"a/photo.png": picture, "a/photo.pgw": b"10 0 0 -10 500005 2699995"})
    assert ingest.inspect([archive], given_epsg=32629).info.transform == tuple(CORNER[:6])


def test_a_complete_cog_is_copied_byte_for_byte(bolzano, tmp_path):
    ingest.convert(ingest.inspect([bolzano]), tmp_path / "first.tif")
    inspection = ingest.inspect([tmp_path / "first.tif"])
    assert not inspection.needs_conversion
    assert inspection.media_type.endswith("profile=cloud-optimized")
    info = ingest.convert(inspection, tmp_path / "second.tif")
    assert (tmp_path / "second.tif").read_bytes() == (tmp_path / "first.tif").read_bytes()
    assert info.statistics == inspection.statistics
    assert info.size_bytes == (tmp_path / "first.tif").stat().st_size


STATISTICS = {"MINIMUM": "0", "MAXIMUM": "9", "MEAN": "4", "STDDEV": "2", "VALID_PERCENT": "100"}


@pytest.mark.parametrize(
    ("claimed", "block_px"), [({}, 512), ({"MAXIMUM": "nan"}, 512), ({"VALID_PERCENT": "1e999"}, 512), ({}, 2048)]
)
def test_only_a_cog_that_serves_well_is_kept_as_it_is(make, tmp_path, claimed, block_px):
    image = np.random.default_rng(0).integers(0, 9, (2100, 2100), dtype=np.uint8)
    path = make(image, after=lambda d: d.update_tags(1, **{f"STATISTICS_{k}": v for k, v in (STATISTICS | claimed).items()}))
    rasterio.shutil.copy(str(path), str(tmp_path / "cog.tif"), driver="COG", blocksize=block_px, compress="deflate")
    inspection = ingest.inspect([tmp_path / "cog.tif"])
    assert inspection.needs_conversion == bool(claimed or block_px > 1024)


def test_a_cog_with_names_in_an_unknown_encoding_is_written_anew(bolzano, tmp_path):
    ingest.convert(ingest.inspect([bolzano]), tmp_path / "cog.tif")
    data = (tmp_path / "cog.tif").read_bytes()
    for written in (b"LAYOUT=IFDS", b">B04<"):
        assert written in data
        (tmp_path / "hurt.tif").write_bytes(data.replace(written, written[:-2] + b"\xe9" + written[-1:]))
        assert ingest.inspect([tmp_path / "hurt.tif"]).needs_conversion


def test_a_cog_without_statistics_is_written_anew(imagery, tmp_path):
    inspection, info, pixels, _, _ = converted(imagery / "cop-dem-glo-30_N00_E006.tif", tmp_path)
    assert inspection.needs_conversion
    with rasterio.open(imagery / "cop-dem-glo-30_N00_E006.tif") as source:
        assert np.array_equal(source.read(), pixels)
    assert info.statistics[0]["max"] == pixels.max()


def test_a_grid_of_places_may_hang_over_the_poles(make):
    image = make(np.zeros((73, 144), dtype=np.uint8), crs="EPSG:4326", transform=north_up(-1.25, 91.25, 2.5))
    info = ingest.inspect([image]).info
    assert info.bbox_wgs84 == (-180, -90, 180, 90)


def test_the_files_own_system_is_kept_against_another_code(make, ramp):
    inspection = ingest.inspect([make(ramp)], given_epsg=4326)
    assert inspection.info.epsg == 32629
    assert "EPSG:4326" in inspection.notes[0]


def test_an_image_in_code_points_of_any_script_keeps_its_place(make, ramp):
    assert ingest.inspect([make(ramp, "изображение ' $(x) #1.tif")]).info.width == 80


def test_stopping_and_a_missing_folder_leave_nothing(make, ramp, tmp_path):
    inspection = ingest.inspect([make(ramp)])
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(Stopped):
        ingest.convert(inspection, folder / "cog.tif", should_stop=lambda: True)
    assert left_over(folder) == []
    with pytest.raises(WriteFailed):
        ingest.convert(inspection, tmp_path / "nowhere" / "cog.tif")


def test_progress_rises_to_one(make, ramp, tmp_path):
    heard: list[float] = []
    ingest.convert(ingest.inspect([make(ramp)]), tmp_path / "cog.tif", progress=heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 1.0


def test_a_plan_bounds_the_pixels(make, ramp):
    with pytest.raises(ingest.IngestRefused, match="unfolds to") as refused:
        ingest.inspect([make(ramp)], limits=Limits(max_raw_bytes=9_000))
    assert refused.value.code == "too_demanding"
