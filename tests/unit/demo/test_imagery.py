from __future__ import annotations

import importlib.util
import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5netcdf
import numpy as np
import pystac
import pytest
import rasterio
from pyproj import Geod, Transformer
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from rio_cogeo.cogeo import cog_validate
from shapely import shortest_line
from shapely.geometry import Polygon, shape

from geopera_server.demo import imagery
from geopera_server.demo.imagery import build_demo_imagery
from geopera_server.demo.series import DemoSourceError, choose_scenes, read_series, source_file

GEOD = Geod(ellps="WGS84")
SMALL = {"open_scenes": 2, "archive_scenes": 1}
CLOUD = (8, 9, 10)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return build_demo_imagery(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def source():
    """The source as h5netcdf tells it, beside the product's own reader."""
    with h5netcdf.File(source_file(), "r") as file:
        days = np.datetime64("2015-08-01") + file["time"][:].astype("timedelta64[D]")
        yield {str(day): number for number, day in enumerate(days)}, file


@pytest.fixture(scope="module")
def schemas(shared_data):
    """pystac's validator with the published schemas on disk, so that it asks no server."""
    validator = JsonSchemaSTACValidator()
    root = shared_data / "stac-schemas"
    for path in root.rglob("*.json"):
        validator.schema_cache[f"https://{path.relative_to(root).as_posix()}"] = json.loads(path.read_text())
    return validator


def every_item(demo):
    return [*demo.open_items, *demo.archive_items]


def read(item, asset):
    with rasterio.open(item["assets"][asset]["href"]) as file:
        return file.read()


def day_of(item):
    return item["properties"]["datetime"][:10]


def rasters_of(item):
    return {key: asset for key, asset in item["assets"].items() if asset["href"].endswith(".tif")}


def modified(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != imagery.LOCK}


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_items_are_valid_stac(demo, schemas):
    on_disk = {"eo", "projection"}
    for item in every_item(demo):
        extensions = [uri for uri in item["stac_extensions"] if uri.split("/")[3] in on_disk]
        assert {uri.split("/")[3] for uri in extensions} == on_disk
        checked = schemas.validate(item, pystac.STACObjectType.ITEM, "1.0.0", extensions)
        assert len(checked) == 1 + len(on_disk)


def test_collections_are_valid_stac(demo, schemas):
    for collection, items in (
        (demo.open_collection, demo.open_items),
        (demo.archive_collection, demo.archive_items),
    ):
        schemas.validate(collection, pystac.STACObjectType.COLLECTION, "1.0.0", [])
        assert [link["href"] for link in collection["links"] if link["rel"] == "item"] == [
            str(demo.folder / collection["id"] / item["id"] / "item.json") for item in items
        ]


def test_an_item_that_breaks_the_schema_is_noticed(demo, schemas):
    broken = {**demo.open_items[0], "properties": {**demo.open_items[0]["properties"], "eo:cloud_cover": 101}}
    with pytest.raises(pystac.STACValidationError):
        schemas.validate(broken, pystac.STACObjectType.ITEM, "1.0.0", broken["stac_extensions"][:1])


def test_links_and_assets_lead_to_files_that_are_as_described(demo):
    for item in every_item(demo):
        (collection,) = [link["href"] for link in item["links"] if link["rel"] == "collection"]
        assert json.loads(Path(collection).read_text())["id"] == item["collection"]
        for asset in item["assets"].values():
            assert Path(asset["href"]).is_absolute()
            assert Path(asset["href"]).stat().st_size == asset["file:size"]
        for asset in rasters_of(item).values():
            with rasterio.open(asset["href"]) as file:
                assert [band["data_type"] for band in asset["raster:bands"]] == list(file.dtypes)
                assert {band["nodata"] for band in asset["raster:bands"]} == set(file.nodatavals) == {0}
                names = [band["name"] for band in asset.get("eo:bands", [{"name": "SCL"}])]
                assert names == list(file.descriptions)
                assert list(file.transform)[:6] == item["properties"]["proj:transform"]
                assert [*file.shape] == item["properties"]["proj:shape"]
                assert [*file.bounds] == item["properties"]["proj:bbox"]
                assert file.crs.to_epsg() == item["properties"]["proj:epsg"] == 3035


def test_every_raster_is_a_cloud_optimized_geotiff(demo):
    for item in every_item(demo):
        for asset in rasters_of(item).values():
            assert cog_validate(asset["href"], strict=True) == (True, [], [])


def test_pixels_are_those_of_the_source(demo, source):
    position, file = source
    for item in demo.open_items:
        number = position[day_of(item)]
        for asset, variable in {"B02": "B2", "B03": "B3", "B04": "B4", "B08": "B8", "SCL": "SCL"}.items():
            np.testing.assert_array_equal(read(item, asset)[0], file[variable][number])
    for item in demo.archive_items:
        number = position[day_of(item)]
        red, green, blue, nir = read(item, "analytic")
        for pixels, variable in ((red, "B4"), (green, "B3"), (blue, "B2"), (nir, "B8")):
            np.testing.assert_array_equal(pixels, file[variable][number])


def test_rasters_lie_where_the_source_says(demo, source):
    _, file = source
    with rasterio.open(demo.archive_items[0]["assets"]["analytic"]["href"]) as raster:
        assert raster.xy(0, 0) == pytest.approx((file["x"][0], file["y"][0]), abs=1e-6)
        assert raster.xy(99, 99) == pytest.approx((file["x"][99], file["y"][99]), abs=1e-6)


def test_cloud_cover_is_that_of_the_scene_classes(demo, source):
    position, file = source
    for item in every_item(demo):
        classes = file["SCL"][position[day_of(item)]]
        assert item["properties"]["eo:cloud_cover"] == pytest.approx(100 * np.isin(classes, CLOUD).mean(), abs=0.005)
    shares = [value for name, value in demo.open_items[0]["properties"].items() if name.startswith("s2:")]
    assert sum(shares) == pytest.approx(100, abs=0.06)


def test_footprint_is_the_outline_of_the_pixels(demo):
    ring = demo.open_items[0]["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1]
    assert 9 <= len(ring) <= 40
    assert Polygon(ring).exterior.is_ccw
    area_m2, _ = GEOD.geometry_area_perimeter(Polygon(ring))
    assert area_m2 == pytest.approx(1_000_000, rel=0.001)
    to_map = Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True)
    left, bottom, right, top = demo.open_items[0]["properties"]["proj:bbox"]
    for x, y in (to_map.transform(*place) for place in ring):
        assert min(abs(x - left), abs(x - right), abs(y - bottom), abs(y - top)) < 0.02
    for item in every_item(demo):
        assert item["geometry"] == demo.open_items[0]["geometry"]
        assert tuple(item["bbox"]) == shape(item["geometry"]).bounds == tuple(demo.bbox)


def test_aoi_lies_well_inside_over_about_half_of_the_area(demo):
    aoi, outline = shape(demo.aoi), shape(demo.open_items[0]["geometry"])
    assert aoi.exterior.is_ccw
    assert outline.contains(aoi)
    share = GEOD.geometry_area_perimeter(aoi)[0] / GEOD.geometry_area_perimeter(outline)[0]
    assert 0.45 < share < 0.55
    assert GEOD.geometry_length(shortest_line(aoi, outline.exterior)) > 100


def test_products_share_no_date_and_show_the_years_and_the_weather(demo):
    assert (len(demo.open_items), len(demo.archive_items)) == (24, 12)
    days = [day_of(item) for item in every_item(demo)]
    assert len(set(days)) == len(days)
    for items in (demo.open_items, demo.archive_items):
        assert [day_of(item) for item in items] == sorted(day_of(item) for item in items)
        assert {"2016", "2017", "2018", "2019", "2020"} <= {day_of(item)[:4] for item in items}
        cover = [item["properties"]["eo:cloud_cover"] for item in items]
        assert sum(share < 5 for share in cover) == len(items) * 3 // 4
        assert sum(10 <= share <= 90 for share in cover) == len(items) // 4


def test_owner_and_origin_are_named(demo):
    for item in every_item(demo):
        properties = item["properties"]
        assert properties["attribution"] == f"Contains modified Copernicus Sentinel data {day_of(item)[:4]}"
        assert properties["description"].startswith("Demonstration data")
        assert any(link["rel"] == "license" for link in item["links"])
    for item in demo.archive_items:
        assert item["id"] == f"CARPATHIA_ORTHO_{day_of(item).replace('-', '')}"
        assert (item["properties"]["geopera:vendor"], item["properties"]["geopera:resolution"]) == ("carpathia", "10m")
        assert "fictional" in item["properties"]["description"]


def test_platforms_take_turns_and_begin_when_they_flew(demo):
    by_platform = {"sentinel-2a": [], "sentinel-2b": []}
    for item in every_item(demo):
        by_platform[item["properties"]["platform"]].append(day_of(item))
    assert min(by_platform["sentinel-2b"]) > "2017-03-07"
    assert min(by_platform["sentinel-2a"]) < "2017-03-07"


def test_summer_forest_is_dark_green(demo):
    (item,) = [item for item in demo.open_items if day_of(item) == "2019-07-06"]
    red, green, blue = np.median(read(item, "visual"), axis=(1, 2))
    assert red < green > blue
    assert green < 110
    assert read(item, "visual").min() >= 1


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_thumbnail_is_the_picture(demo):
    item = demo.open_items[0]
    with rasterio.open(item["assets"]["thumbnail"]["href"]) as thumbnail:
        assert thumbnail.driver == "PNG"
        np.testing.assert_array_equal(thumbnail.read(), read(item, "visual"))


def test_scene_classes_have_colours(demo):
    with rasterio.open(demo.open_items[0]["assets"]["SCL"]["href"]) as file:
        assert file.colormap(1)[4] == (0, 160, 0, 255)


def test_second_call_is_quick_and_rewrites_nothing(demo):
    before = modified(demo.folder)
    told = []
    durations_s = []
    for _ in range(3):
        start = time.perf_counter()
        again = build_demo_imagery(demo.folder, progress=lambda done, total: told.append((done, total)))
        durations_s.append(time.perf_counter() - start)
    assert again == demo
    assert modified(demo.folder) == before
    assert told == [(36, 36)] * 3
    assert min(durations_s) < 0.05


def test_complete_imagery_needs_no_source(demo, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert build_demo_imagery(demo.folder) == demo


def test_missing_package_tells_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(DemoSourceError, match=r"pip install .*nrt==0\.1\.0"):
        build_demo_imagery(tmp_path, **SMALL)


def test_the_source_package_is_not_imported():
    code = "import sys; from geopera_server.demo.series import read_series; read_series(); sys.exit('nrt' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_server_starts_without_the_packages_of_the_demo():
    code = "import sys; sys.modules.update(h5netcdf=None, h5py=None, nrt=None); import geopera_server.demo.imagery"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_progress_counts_every_scene(tmp_path):
    told = []
    build_demo_imagery(tmp_path, progress=lambda done, total: told.append((done, total)), **SMALL)
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_base_href_replaces_the_folder(tmp_path):
    plain = build_demo_imagery(tmp_path, **SMALL)
    published = build_demo_imagery(tmp_path, base_href="https://data.example/demo/", **SMALL)
    (name,) = [item["id"] for item in plain.archive_items]
    (item,) = published.archive_items
    assert item["assets"]["analytic"]["href"] == f"https://data.example/demo/carpathia-ortho/{name}/analytic.tif"
    assert item["links"][0]["href"] == "https://data.example/demo/carpathia-ortho/collection.json"
    assert item["links"][1] == plain.archive_items[0]["links"][1]


def test_folder_may_be_moved(tmp_path):
    build_demo_imagery(tmp_path / "here", **SMALL)
    (tmp_path / "here").rename(tmp_path / "there")
    before = modified(tmp_path / "there")
    moved = build_demo_imagery(tmp_path / "there", **SMALL)
    assert modified(tmp_path / "there") == before
    assert all(Path(asset["href"]).is_file() for item in every_item(moved) for asset in item["assets"].values())


def test_lost_file_brings_back_its_scene_alone(tmp_path):
    demo = build_demo_imagery(tmp_path, **SMALL)
    before = modified(tmp_path)
    lost = Path(demo.open_items[1]["assets"]["B04"]["href"])
    lost.unlink()
    assert build_demo_imagery(tmp_path, **SMALL) == demo
    after = modified(tmp_path)
    assert after.keys() == before.keys()
    assert {path.parent for path in after if after[path] != before[path]} == {lost.parent}


def test_other_numbers_keep_the_scenes_already_there(tmp_path):
    build_demo_imagery(tmp_path, open_scenes=1, archive_scenes=0)
    (kept,) = (tmp_path / "sentinel-2-l2a").glob("*/B02.tif")
    before = kept.stat().st_mtime_ns
    more = build_demo_imagery(tmp_path, open_scenes=3, archive_scenes=0)
    assert str(kept) in {item["assets"]["B02"]["href"] for item in more.open_items}
    assert kept.stat().st_mtime_ns == before


@pytest.mark.parametrize("death", [1, 7, 10, 16, 17, 19])
def test_kill_leaves_nothing_half_written(tmp_path, death):
    """The process dies just before its n-th rename: 7 and 14 complete open scenes, 16 the archive scene, 19 the manifest."""
    code = f"""
import itertools, os, pathlib, signal
from geopera_server.demo.imagery import build_demo_imagery
replace, calls = pathlib.Path.replace, itertools.count(1)
def dying(self, target):
    if next(calls) == {death}:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
pathlib.Path.replace = dying
build_demo_imagery(pathlib.Path({str(tmp_path)!r}), open_scenes=2, archive_scenes=1)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / imagery.MANIFEST).exists()
    for scene in tmp_path.glob("[!.]*/*/"):
        assert_complete(scene)
    survivors = {path: when for path, when in modified(tmp_path).items() if imagery.BUILDING not in path.parts}
    resumed = build_demo_imagery(tmp_path, **SMALL)
    assert survivors.items() <= modified(tmp_path).items()
    assert not (tmp_path / imagery.BUILDING).exists()
    untouched = build_demo_imagery(tmp_path.with_name("untouched"), **SMALL)
    assert files_in(tmp_path) == files_in(untouched.folder)
    assert [item["id"] for item in every_item(resumed)] == [item["id"] for item in every_item(untouched)]


def assert_complete(scene):
    item = json.loads((scene / "item.json").read_text())
    for asset in item["assets"].values():
        assert (scene / asset["href"]).stat().st_size == asset["file:size"]


def test_two_processes_build_once(tmp_path):
    code = "import sys, pathlib; from geopera_server.demo.imagery import build_demo_imagery as build;"
    code += "print(build(pathlib.Path(sys.argv[1]), open_scenes=2, archive_scenes=1).open_items[0]['id'])"
    runs = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(2)]
    answers = [run.communicate(timeout=60)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert answers[0] == answers[1] != b""


def test_any_number_of_scenes_up_to_the_series_can_be_chosen():
    found = read_series()
    for open_scenes, archive_scenes in itertools.product((0, 1, 5, 70), (0, 1, 7, 70)):
        choice = choose_scenes(found, open_scenes, archive_scenes)
        assert len(set(choice.open_scenes) | set(choice.archive_scenes)) == open_scenes + archive_scenes
        assert (len(choice.open_scenes), len(choice.archive_scenes)) == (open_scenes, archive_scenes)
    with pytest.raises(ValueError, match="0 to 140"):
        choose_scenes(found, 130, 11)
