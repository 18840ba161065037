"""A clip holds the source's pixels at the source's places, and nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.warp
import shapely
from affine import Affine
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.features import geometry_mask
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_validate
from shapely.geometry import box, mapping, shape

from geopera_server.raster.clip import clip_to_cog
from geopera_server.raster.errors import (
    InvalidAoi,
    NoOverlap,
    NotGeoreferenced,
    SourceUnreadable,
    Stopped,
    TooLarge,
)
from support.rasters import MakeRaster, aoi_at, aoi_within, left_over, north_up, offset_in

# Odd fractions, so that no edge runs through a pixel's corner, where two sound methods may disagree.
KITE = [(0.22137, 0.50291), (0.47193, 0.18047), (0.81311, 0.44119), (0.52271, 0.49033), (0.48097, 0.86231)]
S2 = "sentinel-2-l2a_S2A_29RKH_20200219"

REAL = {
    "true colour": (f"{S2}/TCI.tif", 0.0),
    "reflectance": (f"{S2}/B04.tif", 0.0),
    "classes": (f"{S2}/SCL.tif", 0.0),
    "five bands": ("S2_L2A_bolzano_20220612_B04-B03-B02-B08-SCL.tif", 0.0),
    "elevation, no nodata": ("cop-dem-glo-30_N00_E006.tif", "nan"),
    "rotated radar, no nodata": ("umbra_sar_mount_yasur.tif", None),
    "temperature, strips": ("landsat-c2-l2_LC08_001062_20201031/LC08_L2SP_001062_20201031_20201106_02_T2_ST_B10.TIF", 0.0),
    "quality, no nodata": (
        "landsat-c2-l2_LC08_001062_20201031/LC08_L2SP_001062_20201031_20201106_02_T2_QA_PIXEL.TIF",
        None,
    ),
}


def inside_by_gdal(source: Path, aoi: dict[str, Any], window: Window) -> np.ndarray:
    """Which pixels the AOI touches, worked out in map coordinates by GDAL alone."""
    fine = shapely.segmentize(shape(aoi), 0.01)
    with rasterio.open(source) as dataset:
        placed = rasterio.warp.transform_geom("EPSG:4326", dataset.crs, mapping(fine))
        transform = dataset.transform @ Affine.translation(window.col_off, window.row_off)
    return ~geometry_mask([placed], (int(window.height), int(window.width)), transform, all_touched=True)


@pytest.mark.parametrize(("name", "nodata"), REAL.values(), ids=REAL.keys())
def test_a_clip_of_a_real_scene_is_the_source_cut_to_the_aoi(imagery: Path, tmp_path: Path, name: str, nodata: Any) -> None:
    source, clip = imagery / name, tmp_path / "clip.tif"
    aoi = aoi_within(source, KITE)

    info = clip_to_cog(str(source), clip, aoi=aoi)

    column, row = offset_in(source, clip)
    window = Window(column, row, info.width, info.height)
    with rasterio.open(source) as whole, rasterio.open(clip) as part:
        assert (part.crs, part.dtypes, part.count) == (whole.crs, whole.dtypes, whole.count)
        wanted, got = whole.read(window=window), part.read()
        masks = part.read_masks()
        overviews = part.overviews(1)
        assert (info.nodata, info.band_count, info.dtype) == (nodata, whole.count, whole.dtypes[0])
    inside = inside_by_gdal(source, aoi, window)
    assert inside.any(axis=0).all(), "a column without a pixel of the AOI should have been cut away"
    assert inside.any(axis=1).all(), "a row without a pixel of the AOI should have been cut away"
    assert np.array_equal(got[:, inside], wanted[:, inside])
    assert not masks[:, ~inside].any()
    if nodata != 0.0:
        assert masks[:, inside].all()
    assert cog_validate(clip)[:2] == (True, [])
    assert overviews == [2**n for n in range(1, 9) if max(info.width, info.height) > 512 * 2 ** (n - 1)]
    check_statistics(info.statistics, got, masks)
    assert info.size_bytes == clip.stat().st_size
    json.dumps(asdict(info), allow_nan=False)
    assert left_over(tmp_path, "clip.tif") == []


def check_statistics(statistics: Any, pixels: np.ndarray, masks: np.ndarray) -> None:
    for band, mask, found in zip(pixels, masks, statistics, strict=True):
        values = band[mask != 0].astype("float64")
        assert (found["min"], found["max"]) == (values.min(), values.max())
        assert found["mean"] == pytest.approx(values.mean(), rel=1e-9)
        assert found["stddev"] == pytest.approx(values.std(), rel=1e-9)
        assert found["valid_percent"] == pytest.approx(100 * values.size / band.size)


def test_statistics_stand_in_the_file_where_gdal_looks_for_them(sentinel2: Path, tmp_path: Path) -> None:
    info = clip_to_cog(str(sentinel2 / "B04.tif"), tmp_path / "c.tif", aoi=aoi_within(sentinel2 / "B04.tif", KITE))
    with rasterio.open(tmp_path / "c.tif") as clip:
        tags = clip.tags(1)
    assert float(tags["STATISTICS_MEAN"]) == info.statistics[0]["mean"]
    assert float(tags["STATISTICS_MAXIMUM"]) == info.statistics[0]["max"]
    assert float(tags["STATISTICS_VALID_PERCENT"]) == pytest.approx(info.statistics[0]["valid_percent"], rel=1e-3)


def test_without_an_aoi_the_whole_raster_is_kept(sentinel2: Path, tmp_path: Path) -> None:
    info = clip_to_cog(str(sentinel2 / "TCI.tif"), tmp_path / "c.tif", aoi=None)
    with rasterio.open(sentinel2 / "TCI.tif") as source, rasterio.open(tmp_path / "c.tif") as clip:
        assert np.array_equal(source.read(), clip.read())
        assert clip.transform == source.transform
        assert clip.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    assert (info.width, info.height) == (1098, 1098)


def test_an_aoi_around_the_scene_adds_no_nodata_and_no_mask(imagery: Path, tmp_path: Path) -> None:
    source = imagery / "cop-dem-glo-30_N00_E006.tif"
    aoi = aoi_within(source, [(-0.2, -0.2), (1.2, -0.2), (1.2, 1.2), (-0.2, 1.2)])
    info = clip_to_cog(str(source), tmp_path / "c.tif", aoi=aoi)
    with rasterio.open(source) as whole, rasterio.open(tmp_path / "c.tif") as clip:
        assert np.array_equal(whole.read(), clip.read())
        assert clip.mask_flag_enums == whole.mask_flag_enums
    assert info.nodata is None


def test_an_aoi_over_the_edge_gives_the_part_that_is_there(bolzano: Path, tmp_path: Path) -> None:
    aoi = aoi_at(bolzano, [(-300, -200), (100, -200), (100, 50), (-300, 50)])
    info = clip_to_cog(str(bolzano), tmp_path / "c.tif", aoi=aoi)
    assert offset_in(bolzano, tmp_path / "c.tif") == (0, 0)
    assert (info.width, info.height) == pytest.approx((100, 50), abs=1)


def test_an_aoi_beside_the_scene_is_no_overlap(bolzano: Path, tmp_path: Path) -> None:
    aoi = aoi_at(bolzano, [(-300, -200), (-10, -200), (-10, 50), (-300, 50)])
    with pytest.raises(NoOverlap, match="no pixel of S2_L2A_bolzano"):
        clip_to_cog(str(bolzano), tmp_path / "c.tif", aoi=aoi)
    assert left_over(tmp_path) == []


def test_an_aoi_that_only_touches_the_edge_is_no_overlap(make_raster: MakeRaster, tmp_path: Path) -> None:
    source = make_raster(np.ones((20, 20), "uint8"), crs="EPSG:4326", transform=north_up(10, 50, 0.5))
    with pytest.raises(NoOverlap):
        clip_to_cog(str(source), tmp_path / "c.tif", aoi=mapping(box(20, 40, 30, 50)))


def test_an_aoi_on_pixel_borders_takes_no_pixel_beside(make_raster: MakeRaster, tmp_path: Path) -> None:
    source = make_raster(np.arange(10_000, dtype="uint16").reshape(100, 100), nodata=65535)
    clip_to_cog(str(source), tmp_path / "c.tif", aoi=aoi_at(source, [(20, 30), (60, 30), (60, 70), (20, 70)]))
    with rasterio.open(tmp_path / "c.tif") as clip:
        assert clip.shape == (40, 40)
    assert offset_in(source, tmp_path / "c.tif") == (20, 30)


def test_an_aoi_smaller_than_a_pixel_gives_that_pixel(make_raster: MakeRaster, tmp_path: Path) -> None:
    source = make_raster(np.arange(10_000, dtype="uint16").reshape(100, 100), nodata=65535)
    clip_to_cog(str(source), tmp_path / "c.tif", aoi=aoi_at(source, [(20.2, 30.2), (20.4, 30.2), (20.4, 30.4)]))
    with rasterio.open(tmp_path / "c.tif") as clip:
        assert clip.read(1).tolist() == [[3020]]


def test_a_pixel_belongs_to_the_aoi_when_any_part_of_it_does(make_raster: MakeRaster, tmp_path: Path) -> None:
    source = make_raster(np.full((60, 60), 7, "uint8"))
    corners = [(10.3, 5.7), (50.1, 20.4), (30.6, 55.2), (25.5, 25.5)]
    clip_to_cog(str(source), tmp_path / "c.tif", aoi=aoi_at(source, corners))
    columns, rows = np.meshgrid(np.arange(60), np.arange(60))
    exact = shapely.intersects(shapely.box(columns, rows, columns + 1, rows + 1), shapely.Polygon(corners))
    column, row = offset_in(source, tmp_path / "c.tif")
    with rasterio.open(tmp_path / "c.tif") as clip:
        got = clip.dataset_mask() != 0
    assert np.array_equal(got, exact[row : row + got.shape[0], column : column + got.shape[1]])
    assert got.sum() == exact.sum()


def test_holes_and_several_parts_are_cut_as_drawn(make_raster: MakeRaster, tmp_path: Path) -> None:
    source = make_raster(np.full((100, 100), 5, "uint8"), crs="EPSG:4326", transform=north_up(0, 1, 0.01), nodata=0)
    outer, hole, island = box(0.1, 0.1, 0.5, 0.5), box(0.2, 0.2, 0.4, 0.4), box(0.7, 0.7, 0.9, 0.9)
    clip_to_cog(str(source), tmp_path / "c.tif", aoi=mapping((outer - hole).union(island)))
    with rasterio.open(tmp_path / "c.tif") as clip:
        values = [next(clip.sample([place]))[0] for place in [(0.15, 0.3), (0.3, 0.3), (0.6, 0.6), (0.8, 0.8)]]
    assert values == [5, 0, 0, 5]


def test_a_long_straight_edge_is_bent_into_the_reference_system(make_raster: MakeRaster, tmp_path: Path) -> None:
    """The parallel of 60° sags 67 km below its chord in this system; both edges of the AOI must follow it."""
    source = make_raster(np.ones((300, 300), "uint8"), crs="EPSG:3035", transform=north_up(3_000_000, 4_400_000, 8000))
    clip_to_cog(str(source), tmp_path / "c.tif", aoi=mapping(box(-10, 59, 30, 60)))
    with rasterio.open(tmp_path / "c.tif") as clip:
        rows, columns = np.nonzero(clip.dataset_mask())
        xs, ys = rasterio.transform.xy(clip.transform, rows, columns)
        _, latitudes = rasterio.warp.transform(clip.crs, "EPSG:4326", xs, ys)
    assert min(latitudes) > 59 - 0.06
    assert max(latitudes) < 60 + 0.06


# --- what tells pixels outside the AOI apart ---------------------------------------------------------------------------

TRIANGLE = [(10, 10), (80, 10), (10, 80)]


def clipped(source: Path, tmp_path: Path, corners: Any = TRIANGLE, **options: Any) -> tuple[Any, Path]:
    clip = tmp_path / "clip.tif"
    return clip_to_cog(str(source), clip, aoi=aoi_at(source, corners), **options), clip


def test_eight_bit_images_without_nodata_get_a_mask(make_raster: MakeRaster, tmp_path: Path) -> None:
    source = make_raster(np.zeros((3, 100, 100), "uint8"))
    info, clip = clipped(source, tmp_path)
    with rasterio.open(clip) as part:
        assert part.mask_flag_enums == ([MaskFlags.per_dataset],) * 3
        assert part.dataset_mask()[0, 0] == 255
        assert part.dataset_mask()[-1, -1] == 0
    assert info.nodata is None
    assert info.statistics[0]["min"] == 0


def test_a_source_mask_is_kept_and_cut(make_raster: MakeRaster, tmp_path: Path) -> None:
    mask = np.full((100, 100), 255, "uint8")
    mask[10:20, 10:20] = 0
    source = make_raster(np.full((100, 100), 9, "uint16"), mask=mask)
    info, clip = clipped(source, tmp_path)
    with rasterio.open(clip) as part:
        got = part.dataset_mask()
    assert (got[5, 5], got[15, 15], got[-1, -1]) == (0, 255, 0)
    assert info.statistics[0]["valid_percent"] == pytest.approx(100 * (got != 0).mean())


def test_a_source_mask_is_kept_without_an_aoi(make_raster: MakeRaster, tmp_path: Path) -> None:
    mask = np.full((700, 700), 255, "uint8")
    mask[:300] = 0
    source = make_raster(np.full((700, 700), 9, "uint16"), mask=mask)
    clip_to_cog(str(source), tmp_path / "c.tif", aoi=None)
    with rasterio.open(tmp_path / "c.tif") as part:
        assert np.array_equal(part.dataset_mask(), mask)
    with rasterio.open(tmp_path / "c.tif", OVERVIEW_LEVEL=0) as small:
        assert np.array_equal(small.dataset_mask(), mask[::2, ::2])


def test_outside_an_image_with_alpha_is_transparent(make_raster: MakeRaster, tmp_path: Path) -> None:
    array = np.full((4, 100, 100), 200, "uint8")
    array[3] = 255
    array[3, 10:20, 10:20] = 0
    source = make_raster(array, photometric="RGB", alpha="YES")
    info, clip = clipped(source, tmp_path)
    with rasterio.open(clip) as part:
        assert part.colorinterp[3] is ColorInterp.alpha
        alpha = part.read(4)
    assert (alpha[5, 5], alpha[15, 15], alpha[-1, -1]) == (0, 255, 0)
    assert info.statistics[0]["valid_percent"] == pytest.approx(100 * (alpha != 0).mean())


@pytest.mark.parametrize("claim", [b"-99", b"300", b"7.5", b"nan"])
def test_a_nodata_value_the_type_cannot_hold_is_no_nodata(make_raster: MakeRaster, tmp_path: Path, claim: bytes) -> None:
    source = make_raster(np.full((100, 100), 3, "uint8"), nodata=123)
    content = source.read_bytes()
    assert content.count(b"123\x00") == 1
    source.write_bytes(content.replace(b"123\x00", claim + b"\x00"))
    info, clip = clipped(source, tmp_path)
    assert info.nodata is None
    with rasterio.open(clip) as part:
        assert part.dataset_mask()[-1, -1] == 0


def test_an_aoi_over_invalid_pixels_is_still_delivered(make_raster: MakeRaster, tmp_path: Path) -> None:
    source = make_raster(np.zeros((100, 100), "uint16"), nodata=0)
    info, clip = clipped(source, tmp_path)
    assert info.statistics == ({"min": None, "max": None, "mean": None, "stddev": None, "valid_percent": 0.0},)
    assert cog_validate(clip)[0]


def test_nan_and_infinity_are_not_counted(make_raster: MakeRaster, tmp_path: Path) -> None:
    array = np.ones((100, 100), "float32")
    array[20, 20], array[20, 21], array[20, 22] = np.nan, np.inf, 3
    info, _ = clipped(make_raster(array), tmp_path)
    assert (info.nodata, info.statistics[0]["min"], info.statistics[0]["max"]) == ("nan", 1.0, 3.0)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float64", "complex64"])
def test_every_type_comes_through_unchanged(make_raster: MakeRaster, tmp_path: Path, dtype: str) -> None:
    array = (np.arange(10_000).reshape(100, 100) % 120).astype(dtype)
    _, clip = clipped(make_raster(array), tmp_path)
    with rasterio.open(clip) as part:
        inside = part.dataset_mask() != 0
        assert part.dtypes == (dtype,)
        assert np.array_equal(part.read(1)[inside], array[10:80, 10:80][inside])


# --- what is kept beside the pixels -------------------------------------------------------------------------------------


def describe(dataset: Any) -> None:
    dataset.descriptions = ("nir", None)
    dataset.scales, dataset.offsets, dataset.units = (0.0001, 1.0), (-0.1, 0.0), ("reflectance", "m")
    dataset.update_tags(2, note="kept", STATISTICS_MAXIMUM="12")
    dataset.update_tags(TIFFTAG_DATETIME="2020:02:19 11:00:00")


def test_descriptions_scales_units_and_tags_are_kept(make_raster: MakeRaster, tmp_path: Path) -> None:
    source = make_raster(np.ones((2, 100, 100), "uint16"), nodata=0, after=describe)
    info, clip = clipped(source, tmp_path)
    with rasterio.open(clip) as part:
        assert (part.descriptions, part.scales, part.offsets) == (("nir", None), (0.0001, 1.0), (-0.1, 0.0))
        assert part.units == ("reflectance", "m")
        assert (part.tags(2)["note"], part.tags(2)["STATISTICS_MAXIMUM"]) == ("kept", "1")
        assert part.tags()["TIFFTAG_DATETIME"] == "2020:02:19 11:00:00"
    assert info.band_names == ("nir", "b2")


def test_given_band_names_replace_the_source_names(make_raster: MakeRaster, tmp_path: Path) -> None:
    source = make_raster(np.ones((2, 100, 100), "uint16"), nodata=0, after=describe)
    info, clip = clipped(source, tmp_path, band_names=["red", "green"])
    with rasterio.open(clip) as part:
        assert part.descriptions == ("red", "green")
    assert info.band_names == ("red", "green")
    with pytest.raises(ValueError, match="1 band names for 2 bands"):
        clipped(source, tmp_path, band_names=["red"])


def test_names_in_band_metadata_are_found(bolzano: Path, tmp_path: Path) -> None:
    info = clip_to_cog(str(bolzano), tmp_path / "c.tif", aoi=aoi_within(bolzano, KITE))
    assert info.band_names == ("B04", "B03", "B02", "B08", "SCL")


def test_a_colour_table_is_kept(make_raster: MakeRaster, tmp_path: Path) -> None:
    table = {0: (0, 0, 0, 255), 1: (0, 100, 0, 255), 2: (30, 60, 250, 255)}
    _, clip = clipped(make_raster(np.ones((100, 100), "uint8"), colormap=table), tmp_path)
    with rasterio.open(clip) as part:
        assert part.colorinterp == (ColorInterp.palette,)
        assert {key: part.colormap(1)[key] for key in table} == table


def test_pixel_is_point_does_not_move_the_grid(make_raster: MakeRaster, tmp_path: Path) -> None:
    source = make_raster(np.ones((100, 100), "uint16"), nodata=0, after=lambda d: d.update_tags(AREA_OR_POINT="Point"))
    _, clip = clipped(source, tmp_path)
    assert offset_in(source, clip) == (10, 10)
    with rasterio.open(clip) as part:
        assert part.tags()["AREA_OR_POINT"] == "Point"


@pytest.mark.parametrize(
    "transform",
    [
        Affine(10, 0, 500_000, 0, 10, 2_600_000),
        Affine(-10, 0, 500_000, 0, -10, 2_600_000),
        Affine(7, 3, 500_000, 3, -7, 2_600_000),
        Affine(10, 0, 500_000, 0, -30, 2_600_000),
    ],
    ids=["south up", "east to west", "turned and mirrored", "oblong pixels"],
)
def test_unusual_grids_are_cut_in_place(make_raster: MakeRaster, tmp_path: Path, transform: Affine) -> None:
    array = np.arange(10_000, dtype="uint16").reshape(100, 100)
    source = make_raster(array, transform=transform)
    _, clip = clipped(source, tmp_path, [(20, 30), (60, 30), (60, 70), (20, 70)])
    assert offset_in(source, clip) == (20, 30)
    with rasterio.open(clip) as part:
        assert np.array_equal(part.read(1), array[30:70, 20:60])


# --- overviews ---------------------------------------------------------------------------------------------------------


def overview_values(clip: Path, band: int = 1) -> set[int]:
    with rasterio.open(clip, OVERVIEW_LEVEL=0) as small:
        return set(np.unique(small.read(band)).tolist())


@pytest.mark.parametrize(
    ("name", "options"),
    [("SCL.tif", {}), ("x.tif", {"band_names": ["SCL"]}), ("x.tif", {"resampling": "nearest"}), ("x.tif", {"colormap": True})],
)
def test_overviews_of_classes_hold_only_classes(
    make_raster: MakeRaster, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    array = np.where(np.indices((700, 700)).sum(axis=0) % 3 == 0, 4, 8).astype("uint8")
    colormap = {4: (0, 100, 0, 255), 8: (200, 200, 200, 255)} if options.pop("colormap", False) else None
    source = make_raster(array, name, nodata=0, colormap=colormap)
    clip_to_cog(str(source), tmp_path / "c.tif", aoi=None, **options)
    assert overview_values(tmp_path / "c.tif") <= {4, 8}


def test_overviews_of_continuous_values_are_averages(make_raster: MakeRaster, tmp_path: Path) -> None:
    array = np.where(np.indices((700, 700)).sum(axis=0) % 2 == 0, 4, 8).astype("uint8")
    clip_to_cog(str(make_raster(array, nodata=0)), tmp_path / "c.tif", aoi=None)
    assert overview_values(tmp_path / "c.tif") == {6}


def test_one_class_band_among_reflectances_decides_for_all(bolzano: Path, tmp_path: Path) -> None:
    clip_to_cog(str(bolzano), tmp_path / "c.tif", aoi=None)
    with rasterio.open(bolzano) as source:
        classes = set(np.unique(source.read(5)).tolist())
    assert overview_values(tmp_path / "c.tif", 5) <= classes


def test_an_unknown_resampling_is_refused(make_raster: MakeRaster, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="use one of nearest, average"):
        clipped(make_raster(np.ones((100, 100), "uint8")), tmp_path, resampling="magic")


# --- what stops a clip -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "aoi",
    [
        {"type": "Point", "coordinates": [11, 46]},
        {"type": "LineString", "coordinates": [[11, 46], [12, 47]]},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": [[[11, 46], [12, 47]]]},
        {"type": "Polygon", "coordinates": [[[11, 46], [12, "x"], [12, 47], [11, 46]]]},
        {"type": "Polygon", "coordinates": [[[11, 46], [12, float("nan")], [12, 47], [11, 46]]]},
        {"type": "Triangle"},
        {},
    ],
)
def test_an_aoi_that_is_no_polygon_is_refused(bolzano: Path, tmp_path: Path, aoi: dict[str, Any]) -> None:
    with pytest.raises(InvalidAoi, match=r"AOI .*"):
        clip_to_cog(str(bolzano), tmp_path / "c.tif", aoi=aoi)
    assert left_over(tmp_path) == []


def test_a_bow_tie_is_cut_as_its_two_triangles(make_raster: MakeRaster, tmp_path: Path) -> None:
    source = make_raster(np.ones((100, 100), "uint8"))
    _, clip = clipped(source, tmp_path, [(10, 10), (90, 90), (90, 10), (10, 90)])
    with rasterio.open(clip) as part:
        mask = part.dataset_mask()
    assert (mask[40, 5], mask[40, 75], mask[2, 40]) == (255, 255, 0)


def test_more_values_than_allowed_are_too_large(bolzano: Path, tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="3,295,875 values"):
        clip_to_cog(str(bolzano), tmp_path / "c.tif", aoi=None, max_samples=1_000_000)
    assert left_over(tmp_path) == []


def test_progress_runs_from_start_to_end(sentinel2: Path, tmp_path: Path) -> None:
    shares: list[float] = []
    clip_to_cog(str(sentinel2 / "B04.tif"), tmp_path / "c.tif", aoi=None, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[0] > 0
    assert shares[-1] == 1.0
    assert len(shares) >= 4


@pytest.mark.parametrize("answers_before", [0, 1, 2, 3, 4])
def test_a_stop_is_obeyed_at_every_step(sentinel2: Path, tmp_path: Path, answers_before: int) -> None:
    asked = iter([False] * answers_before)
    with pytest.raises(Stopped):
        clip_to_cog(str(sentinel2 / "B04.tif"), tmp_path / "c.tif", aoi=None, should_stop=lambda: next(asked, True))
    assert left_over(tmp_path) == []


def test_an_error_of_the_caller_leaves_nothing_behind(sentinel2: Path, tmp_path: Path) -> None:
    def fail(_share: float) -> None:
        raise KeyError("the job is gone")

    (tmp_path / "c.tif").write_text("an earlier attempt")
    with pytest.raises(KeyError):
        clip_to_cog(str(sentinel2 / "B04.tif"), tmp_path / "c.tif", aoi=None, progress=fail)
    assert left_over(tmp_path) == []


def test_a_raster_without_a_place_on_earth_is_refused(make_raster: MakeRaster, tmp_path: Path) -> None:
    source = make_raster(np.ones((100, 100), "uint8"), crs=None)
    with pytest.raises(NotGeoreferenced, match="has no place on Earth"):
        clip_to_cog(str(source), tmp_path / "c.tif", aoi=mapping(box(0, 0, 1, 1)))


def test_a_truncated_source_is_unreadable(sentinel2: Path, tmp_path: Path) -> None:
    source = tmp_path / "cut.tif"
    source.write_bytes((sentinel2 / "B04.tif").read_bytes()[:1_500_000])
    with pytest.raises(SourceUnreadable, match=r"cut\.tif is damaged or truncated"):
        clip_to_cog(str(source), tmp_path / "c.tif", aoi=None)
    assert left_over(tmp_path, "cut.tif") == []


def test_clips_in_threads_do_not_disturb_each_other(sentinel2: Path, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    names = ["TCI.tif", "B04.tif", "SCL.tif", "B08.tif"] * 3

    def clip(number: int) -> str:
        source = sentinel2 / names[number]
        return clip_to_cog(str(source), tmp_path / f"{number}.tif", aoi=aoi_within(source, KITE)).sha256

    with ThreadPoolExecutor(6) as pool:
        sums = list(pool.map(clip, range(len(names))))
    assert sums[:4] == sums[4:8] == sums[8:]
    assert len(set(sums)) == 4
