"""Footprints, boxes and pixel sizes, and AOIs where longitudes end."""

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
from rasterio.crs import CRS
from shapely.geometry import MultiPolygon, Polygon, box, mapping, shape

from geopera_server.raster.clip import clip_to_cog
from geopera_server.raster.errors import NoOverlap
from geopera_server.raster.georef import Grid
from geopera_server.raster.probe import probe
from support.rasters import MakeRaster, aoi_at, north_up, offset_in


def grid(crs: str, width: int, height: int, left: float, top: float, pixel: float) -> Grid:
    return Grid(width, height, north_up(left, top, pixel), CRS.from_user_input(crs))


# --- what is said about a raster ---------------------------------------------------------------------------------------


def test_the_footprint_of_a_real_scene_agrees_with_its_published_one(sentinel2: Path) -> None:
    item = json.loads((sentinel2 / "S2A_29RKH_20200219_0_L2A.json").read_text())
    info = probe(str(sentinel2 / "B04.tif"))
    published, found = shape(item["geometry"]), shape(info.footprint_wgs84)
    assert found.intersection(published).area / published.area > 0.999
    assert info.epsg == item["properties"]["proj:epsg"]
    assert found.exterior.is_ccw
    assert info.gsd_m == 100.0
    assert info.bbox_wgs84 == pytest.approx(found.bounds, abs=1e-4)
    json.dumps(asdict(info), allow_nan=False)


def test_a_footprint_bends_with_its_edges() -> None:
    """GDAL's own densified box of the same raster is the measure."""
    wide = grid("EPSG:3035", 500, 500, 2_500_000, 5_500_000, 8000)
    with_corners_only = rasterio.warp.transform_bounds(wide.crs, "EPSG:4326", 2_500_000, 1_500_000, 6_500_000, 5_500_000, 2)
    densified = rasterio.warp.transform_bounds(wide.crs, "EPSG:4326", 2_500_000, 1_500_000, 6_500_000, 5_500_000, 200)
    assert wide.bbox_wgs84() == pytest.approx(densified, abs=0.02)
    assert wide.bbox_wgs84() != pytest.approx(with_corners_only, abs=0.3)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (grid("EPSG:32632", 100, 100, 500_000, 5_000_000, 10), 10.0),
        (grid("EPSG:4326", 3600, 3600, 6, 1, 1 / 3600), 30.92),
        (grid("EPSG:4326", 3600, 3600, 6, 61, 1 / 3600), 30.95),
        (grid("EPSG:3857", 100, 100, 0, 8_399_738, 10), 5.0),
        (grid("EPSG:2263", 100, 100, 980_000, 200_000, 1), 0.3048),
    ],
    ids=["UTM", "degrees at the equator", "degrees at 60° north", "Web Mercator at 60° north", "US feet"],
)
def test_the_pixel_size_is_told_in_metres_on_the_ground(made: Grid, expected: float) -> None:
    assert made.gsd_m() == pytest.approx(expected, rel=0.005)


def test_a_rotated_scene_has_the_footprint_of_its_corners(imagery: Path) -> None:
    path = imagery / "umbra_sar_mount_yasur.tif"
    corners = aoi_at(path, [(0, 0), (2000, 0), (2000, 2000), (0, 2000)])
    info = probe(str(path))
    assert shape(info.footprint_wgs84).symmetric_difference(shape(corners)).area < 1e-4 * shape(corners).area
    assert info.gsd_m == pytest.approx(0.59, abs=0.01)


# --- the antimeridian --------------------------------------------------------------------------------------------------

ACROSS = {
    "degrees past 180": ("EPSG:4326", 179.0, 1.0, 0.02),
    "degrees past -180": ("EPSG:4326", -181.0, 1.0, 0.02),
    "degrees past 180 in another datum": ("EPSG:4740", 179.0, 1.0, 0.02),
    "UTM zone 1": ("EPSG:32601", 166_021 - 111_000, 111_000, 2220.0),
    "UTM zone 60": ("EPSG:32660", 833_979 - 111_000, 111_000, 2220.0),
    "Pacific Mercator": ("EPSG:3832", 29 * 111_319.49 + 0.5, 111_000, 2220.0),
}

AOIS: dict[str, dict[str, Any]] = {
    "cut in two, as RFC 7946 asks": mapping(MultiPolygon([box(179.5, -0.5, 180, 0.5), box(-180, -0.5, -179.5, 0.5)])),
    "running on past 180": mapping(box(179.5, -0.5, 180.5, 0.5)),
    "running on past -180": mapping(box(-180.5, -0.5, -179.5, 0.5)),
    "jumping from 179 to -179": mapping(
        Polygon([(179.5, -0.5), (-179.5, -0.5), (-179.5, 0.5), (179.5, 0.5)]),
    ),
}


@pytest.mark.parametrize("aoi", AOIS.values(), ids=AOIS.keys())
@pytest.mark.parametrize(("crs", "left", "top", "pixel"), ACROSS.values(), ids=ACROSS.keys())
def test_an_aoi_across_the_antimeridian_is_cut_from_a_raster_across_it(
    make_raster: MakeRaster, tmp_path: Path, crs: str, left: float, top: float, pixel: float, aoi: dict[str, Any]
) -> None:
    source = make_raster(np.ones((100, 100), "uint8"), nodata=0, crs=crs, transform=north_up(left, top, pixel))
    info = clip_to_cog(str(source), tmp_path / "c.tif", aoi=aoi)
    column, row = offset_in(source, tmp_path / "c.tif")
    assert (column, row) == pytest.approx((25, 25), abs=2)
    assert (info.width, info.height) == pytest.approx((50, 50), abs=2)
    west, south, east, north = info.bbox_wgs84
    assert (west, south, east, north) == pytest.approx((179.5, -0.5, -179.5, 0.5), abs=0.04)
    assert info.footprint_wgs84["type"] == "MultiPolygon"
    assert shape(info.footprint_wgs84).area == pytest.approx(1.0, abs=0.1)
    assert all(-180 <= x <= 180 for x, _ in shapely.get_coordinates(shape(info.footprint_wgs84)))


def test_the_other_side_of_the_world_is_no_overlap(make_raster: MakeRaster, tmp_path: Path) -> None:
    source = make_raster(np.ones((100, 100), "uint8"), crs="EPSG:32601", transform=north_up(55_000, 111_000, 2220))
    for aoi in (box(-10, -0.5, 10, 0.5), box(-170, -0.5, -160, 0.5), box(2.5, -0.5, 3.5, 0.5)):
        with pytest.raises(NoOverlap):
            clip_to_cog(str(source), tmp_path / "c.tif", aoi=mapping(aoi))


@pytest.mark.parametrize("left", [-180, 0], ids=["-180 to 180", "0 to 360"])
@pytest.mark.parametrize("aoi", AOIS.values(), ids=AOIS.keys())
def test_an_aoi_across_the_antimeridian_is_cut_from_a_world_map(
    make_raster: MakeRaster, tmp_path: Path, left: float, aoi: dict[str, Any]
) -> None:
    source = make_raster(np.ones((180, 360), "uint8"), nodata=0, crs="EPSG:4326", transform=north_up(left, 90, 1))
    info = clip_to_cog(str(source), tmp_path / "c.tif", aoi=aoi)
    with rasterio.open(tmp_path / "c.tif") as clip:
        assert np.count_nonzero(clip.read(1)) == 4
    assert (info.width, info.height) == ((360, 2) if left == -180 else (2, 2))


@pytest.mark.parametrize("left", [-180, 0])
def test_a_world_map_has_the_world_as_footprint(left: float) -> None:
    world = grid("EPSG:4326", 360, 180, left, 90, 1)
    assert world.bbox_wgs84() == (-180, -90, 180, 90)
    assert shape(world.footprint_wgs84()).area == pytest.approx(360 * 180)


def test_the_whole_world_as_aoi_takes_the_whole_raster(bolzano: Path, tmp_path: Path) -> None:
    info = clip_to_cog(str(bolzano), tmp_path / "c.tif", aoi=mapping(box(-180, -90, 180, 90)))
    assert (info.width, info.height) == (935, 705)


def test_web_mercator_of_the_world_has_a_footprint() -> None:
    half = 20_037_508.342789244
    west, south, east, north = grid("EPSG:3857", 256, 256, -half, half, 2 * half / 256).bbox_wgs84()
    assert (west, south, east, north) == pytest.approx((-180, -85.0511, 180, 85.0511), abs=1e-3)


# --- the poles and the disk --------------------------------------------------------------------------------------------


def test_a_raster_over_the_pole_is_a_cap(make_raster: MakeRaster, tmp_path: Path) -> None:
    source = make_raster(np.ones((400, 400), "uint8"), nodata=0, crs="EPSG:3031", transform=north_up(-2e6, 2e6, 10_000))
    info = probe(str(source))
    assert info.bbox_wgs84[:3] == (-180, -90, 180)
    cap = shape(info.footprint_wgs84)
    assert cap.contains(shapely.Point(17, -85))
    assert cap.contains(shapely.Point(-179.9, -89.9))
    assert not cap.intersects(shapely.Point(45, -60))
    clip_to_cog(str(source), tmp_path / "c.tif", aoi=mapping(box(-180, -90, 180, -85)))
    with rasterio.open(tmp_path / "c.tif") as clip:
        disk_km2 = np.count_nonzero(clip.read(1)) * 100
    assert disk_km2 == pytest.approx(np.pi * 543**2, rel=0.03)


def test_an_aoi_beside_the_pole_lands_where_it_lies(make_raster: MakeRaster, tmp_path: Path) -> None:
    source = make_raster(np.ones((400, 400), "uint8"), nodata=0, crs="EPSG:3031", transform=north_up(-2e6, 2e6, 10_000))
    for west, column_range in ((80, (200, 400)), (-100, (0, 200))):
        clip_to_cog(str(source), tmp_path / "c.tif", aoi=mapping(box(west, -82, west + 20, -80)))
        column, _ = offset_in(source, tmp_path / "c.tif")
        assert column_range[0] <= column < column_range[1]


def test_a_full_disk_view_has_a_footprint_though_its_corners_miss_the_earth() -> None:
    disk = grid("+proj=geos +h=35785831 +lon_0=140.7 +sweep=y +ellps=WGS84", 550, 550, -5_500_000, 5_500_000, 20_000)
    west, south, east, north = disk.bbox_wgs84()
    assert west == pytest.approx(140.7 - 79, abs=3)
    assert east == pytest.approx(140.7 + 79 - 360, abs=3)
    assert (south, north) == pytest.approx((-79, 79), abs=4)
