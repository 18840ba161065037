from __future__ import annotations

import numpy as np
import pytest
import rasterio

from geopera_server.raster.errors import NoValidPixels, Unrenderable
from geopera_server.raster.formula import parse
from geopera_server.raster.render import info, statistics
from support.rasters import aoi_within, north_up
from support.tiles import target


def test_figures_of_a_band_are_exact(bolzano):
    found = statistics(target(bolzano), bands=[4], percentiles=(5, 50, 99.5))[0]
    with rasterio.open(bolzano) as dataset:
        values = dataset.read(4).astype(np.float64)
    valid = values[values != 0]
    stats = found.statistics
    assert (found.band, found.name, found.sampled) == (4, "B08", False)
    assert list(stats) == [
        *("min", "max", "mean", "median", "std", "sum", "p2", "p98", "percentiles"),
        *("valid_pixels", "nodata_pixels", "valid_percent", "histogram"),
    ]
    expected = [
        valid.min(),
        valid.max(),
        valid.mean(),
        np.median(valid),
        valid.std(),
        valid.sum(),
        *np.percentile(valid, (2, 98)),
    ]
    assert [stats[name] for name in list(stats)[:8]] == pytest.approx(expected)
    assert list(stats["percentiles"]) == ["5", "50", "99.5"]
    assert list(stats["percentiles"].values()) == pytest.approx(np.percentile(valid, (5, 50, 99.5)).tolist())
    assert (stats["valid_pixels"], stats["nodata_pixels"]) == (valid.size, values.size - valid.size)
    assert stats["valid_percent"] == pytest.approx(100 * valid.size / values.size)
    assert sum(stats["histogram"]["counts"]) == valid.size
    assert len(stats["histogram"]["edges"]) == len(stats["histogram"]["counts"]) + 1


def test_each_band_has_its_own_figures(bolzano):
    found = statistics(target(bolzano))
    assert [each.band for each in found] == [1, 2, 3, 4, 5]
    assert len({each.statistics["mean"] for each in found}) == 5


def test_only_the_area_asked_for_counts(make_raster):
    _, columns = np.mgrid[0:100, 0:100]
    path = make_raster((columns + 1).astype("uint8"), transform=north_up(500_000, 2_700_000, 10), nodata=12)
    aoi = aoi_within(path, [(0.1001, 0.1001), (0.1999, 0.1001), (0.1999, 0.2999), (0.1001, 0.2999)])
    stats = statistics(target(path), geometry=aoi)[0].statistics
    assert (stats["min"], stats["max"]) == (11, 20)
    assert (stats["valid_pixels"], stats["nodata_pixels"]) == (180, 20)
    assert stats["valid_percent"] == 90


def test_a_formula_has_figures_where_it_has_values(bolzano):
    found = statistics(target(bolzano), formula=parse("(b4 - b1) / (b4 + b1)"))
    assert len(found) == 1
    assert found[0].band is None
    assert found[0].name == "(b4 - b1) / (b4 + b1)"
    assert -1 <= found[0].statistics["min"] < found[0].statistics["median"] < found[0].statistics["max"] <= 1


def test_large_rasters_are_sampled_from_an_overview(dem):
    whole = statistics(target(dem), max_px=4000)[0]
    sampled = statistics(target(dem), max_px=1000)[0]
    assert (whole.sampled, sampled.sampled) == (False, True)
    assert sampled.statistics["valid_pixels"] == 900 * 900
    assert sampled.statistics["mean"] == pytest.approx(whole.statistics["mean"], rel=0.02)


def test_nothing_valid_is_said(make_raster, bolzano):
    empty = make_raster(np.zeros((20, 20), "uint8"), nodata=0)
    with pytest.raises(NoValidPixels, match="no valid pixel"):
        statistics(target(empty))
    far = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    with pytest.raises(NoValidPixels):
        statistics(target(bolzano), geometry=far)
    with pytest.raises(Unrenderable, match="bands 1 to 5"):
        statistics(target(bolzano), bands=[6])


def test_a_raster_says_what_its_tiles_need(sentinel2, dem, sar, make_raster):
    told = info(target(sentinel2 / "TCI.tif"))
    assert (told.minzoom, told.maxzoom) == (8, 11)
    assert (told.band_count, told.dtype, told.nodata) == (3, "uint8", 0)
    assert told.colorinterp == ("red", "green", "blue")
    assert told.bounds_wgs84 == pytest.approx((-11.979, 24.296, -10.875, 25.305), abs=1e-3)
    assert (info(target(dem)).maxzoom, info(target(sar)).maxzoom) == (13, 18)
    assert info(target(sentinel2 / "SCL.tif")).categorical
    crossing = make_raster(np.ones((50, 50), "uint8"), crs="EPSG:4326", transform=north_up(175, 5, 0.2))
    west, _, east, _ = info(target(crossing)).bounds_wgs84
    assert (west, east) == (175, -175)
    palette = make_raster(np.ones((50, 50), "uint8"), "palette.tif", colormap={1: (9, 8, 7, 255)})
    assert info(target(palette)).colormap[1] == (9, 8, 7, 255)


@pytest.mark.parametrize("gsd_m", [9.6, 10.0, 13.0, 19.0, 20.0])
def test_maps_reach_every_pixel(make_raster, gsd_m):
    """At the equator a tile's pixel of zoom 13 is 19.1 m wide, of zoom 14 9.6 m."""
    told = info(
        target(make_raster(np.ones((400, 400), "uint8"), f"{gsd_m}.tif", crs="EPSG:3857", transform=north_up(0, 0, gsd_m)))
    )
    assert 156543.034 / 2**told.maxzoom <= 1.08 * gsd_m < 2.2 * 156543.034 / 2**told.maxzoom
