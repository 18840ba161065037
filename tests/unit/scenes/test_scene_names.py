"""What the names of open scenes say, told from real ones."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geopera_server.domains.scenes.names import landsat_name, naip_name, sentinel_name
from geopera_server.domains.scenes.presenting import tile_around, tile_showing


@pytest.mark.parametrize(
    ("text", "level", "at", "orbit", "baseline", "tile"),
    [
        ("S2A_29RKH_20200219_0_L2A", "L2A", datetime(2020, 2, 19, tzinfo=UTC), None, None, "29RKH"),
        ("S2B_T56HLH_20240115T001111_L2A", "L2A", datetime(2024, 1, 15, 0, 11, 11, tzinfo=UTC), None, None, "56HLH"),
        ("S2B_7VEG_20240115_1_L1C", "L1C", datetime(2024, 1, 15, tzinfo=UTC), None, None, "07VEG"),
        (
            "S2B_MSIL2A_20241203T174629_R098_T13TDE_20241203T211406", "L2A",
            datetime(2024, 12, 3, 17, 46, 29, tzinfo=UTC), 98, None, "13TDE",
        ),
        (
            "S2B_MSIL1C_20241203T174629_N0511_R098_T13TDE_20241203T211406.SAFE", "L1C",
            datetime(2024, 12, 3, 17, 46, 29, tzinfo=UTC), 98, "05.11", "13TDE",
        ),
    ],
)  # fmt: skip
def test_sentinel(text, level, at, orbit, baseline, tile):
    name = sentinel_name(text)
    assert (name.product_level, name.datetime, name.orbit, name.baseline, name.tile) == (level, at, orbit, baseline, tile)
    assert name.mission in {"Sentinel-2A", "Sentinel-2B"}


def test_landsat():
    name = landsat_name("LC08_L2SP_001062_20201031_20201106_02_T2")
    assert (name.sensor, name.satellite, name.level, name.path, name.row) == ("OLI/TIRS", "Landsat 8", "L2SP", 1, 62)
    assert (name.acquired, name.processed, name.collection, name.tier) == (date(2020, 10, 31), date(2020, 11, 6), "02", "T2")
    assert landsat_name("LE07_L1TP_192028_20230615_02_RT").processed is None
    assert landsat_name("LT05_L2SP_192028_19990615_02_T1_SR").sensor == "TM"


def test_naip():
    name = naip_name("mt_m_4911664_se_11_060_20231117_20240103")
    assert (name.state, name.year, name.gsd, name.flown) == ("mt", 2023, 0.6, date(2023, 11, 17))
    assert (naip_name("m_3008501_ne_16_1_20110815").gsd, naip_name("al_m_3008501_ne_16_h_20110815").gsd) == (1.0, 0.5)


def test_every_real_name_is_read(shared_data):
    items = []
    for file in ("pystac_client_items.json", "100-s2.json", "100-landsat.json"):
        found = json.loads((shared_data / "stac" / file).read_bytes())
        items += found["features"] if isinstance(found, dict) else found
    read = {
        "sentinel-2-l2a": sentinel_name, "sentinel-2-c1-l2a": sentinel_name, "sentinel-2-l1c": sentinel_name,
        "landsat-c2-l2": landsat_name, "naip": naip_name,
    }  # fmt: skip
    seen = 0
    for item in items:
        if item.get("collection") in read:
            assert read[item["collection"]](item["id"]) is not None, item["id"]
            seen += 1
    assert seen > 600


@pytest.mark.parametrize("read", [sentinel_name, landsat_name, naip_name])
@given(text=st.text())
def test_nothing_else_is_read(read, text):
    assert read(text) is None


@pytest.mark.parametrize(
    "text",
    ["S2A_29RKH_20201319_0_L2A", "S2A_29IKH_20200219_0_L2A", "LC08_L2SP_001062_20200230_02_T1", "m_3008501_ne_16_1_20111515"],
)
def test_days_and_squares_that_do_not_exist(text):
    assert (sentinel_name(text), landsat_name(text), naip_name(text)) == (None, None, None)


@given(st.floats(-179, 179), st.floats(-84, 84), st.floats(1e-4, 0.5), st.floats(1e-4, 0.5))
def test_the_tile_around_holds_the_bounds(west, south, width, height):
    import morecantile

    bounds = [west, south, min(west + width, 180), min(south + height, 85)]
    z, x, y = tile_around(bounds)
    tile = morecantile.tms.get("WebMercatorQuad").bounds(morecantile.Tile(x, y, z))
    assert tile.left - 1e-9 <= bounds[0]
    assert tile.bottom - 1e-9 <= bounds[1]
    assert bounds[2] <= tile.right + 1e-9
    assert bounds[3] <= tile.top + 1e-9


@given(st.floats(-179, 179), st.floats(-84, 84), st.floats(1e-4, 0.5), st.floats(1e-4, 0.5))
def test_a_thumbnail_shows_a_good_part_of_the_scene(west, south, width, height):
    import morecantile

    bounds = [west, south, min(west + width, 180), min(south + height, 85)]
    z, x, y = tile_showing(bounds)
    tile = morecantile.tms.get("WebMercatorQuad").bounds(morecantile.Tile(x, y, z))
    seen = min(tile.right, bounds[2]) - max(tile.left, bounds[0]), min(tile.top, bounds[3]) - max(tile.bottom, bounds[1])
    assert seen[0] > 0.45 * (bounds[2] - bounds[0])
    assert seen[1] > 0.45 * (bounds[3] - bounds[1])
    assert max(seen[0] / (tile.right - tile.left), seen[1] / (tile.top - tile.bottom)) > 0.09


def test_a_scene_across_the_edge_of_large_tiles_has_a_thumbnail_all_the_same():
    forest = [22.1449392, 45.1996179, 22.1594858, 45.2099579]
    assert tile_around(forest)[0] == 9
    assert tile_showing(forest) == (14, 9200, 5880)
