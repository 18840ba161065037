"""What data offers to look at, and what a profile's config may hold: pure rules."""

from __future__ import annotations

import numpy as np
import pytest

from geopera_server.domains.visualization.bands import Bands, bands_of, role_of
from geopera_server.domains.visualization.configs import picture_of
from geopera_server.domains.visualization.indices import INDICES
from geopera_server.domains.visualization.offering import offer_of
from geopera_server.domains.visualization.pictures import pictures
from geopera_server.kernel.errors import InvalidInput
from geopera_server.raster.colormaps import colormap
from geopera_server.raster.formula import parse

OPTICAL = {"red": 1, "green": 2, "blue": 3, "nir": 4}
FOUR = Bands(count=4, names=("B04", "B03", "B02", "B08"), roles=OPTICAL)


def asset(names=(), count=None, **more):
    values = {"key": "data", "roles": ["data"], "band_names": list(names), "dtype": "uint16", "statistics": None}
    return {**values, "band_count": count or len(names), **more}


def ids(found):
    return [each.id for each in found]


def test_colour_comes_first_then_indices_then_single_bands():
    found = pictures("raster", OPTICAL)
    assert ids(found)[:3] == ["true_color", "false_color", "ndvi"]
    assert ids(found)[-4:] == ["band_1", "band_2", "band_3", "band_4"]
    assert [each.is_default for each in found] == [True] + [False] * (len(found) - 1)
    assert [each.kind for each in found] == sorted((each.kind for each in found), key=["rgb", "index", "raw"].index)


def test_an_index_is_offered_exactly_when_its_bands_are_there():
    every = {role: number for number, role in enumerate(sorted({r for i in INDICES.values() for r in i.roles}), start=1)}
    for index in INDICES.values():
        assert index.id in ids(pictures("raster", {role: every[role] for role in index.roles}))
        for missing in index.roles:
            assert index.id not in ids(pictures("raster", {role: every[role] for role in index.roles if role != missing}))


@pytest.mark.parametrize("index", INDICES.values(), ids=lambda index: index.id)
def test_every_index_parses_and_is_drawn_in_a_colormap_there_is(index):
    bands = {role: number for number, role in enumerate(index.roles, start=1)}
    assert parse(index.formula, names=bands).bands == tuple(bands.values())
    assert colormap(index.colormap).shape == (256, 4)
    assert index.value_range[0] < index.value_range[1]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"s2:processing_baseline": "05.11"}, 1 / 3),
        ({"s2:processing_baseline": "02.14"}, 1 / 5),
        ({"s2:processing_baseline": "2.14"}, 1 / 5),
        ({"s2:processing_baseline": "05.11", "earthsearch:boa_offset_applied": True}, 1 / 5),
        ({"s2:processing_baseline": "N0511"}, 1 / 5),
        ({}, 1 / 5),
    ],
)
def test_sentinel_2_of_a_baseline_that_shifts_its_numbers_is_shifted_back(told, expected):
    """Reflectance 0.1 and 0.2 since baseline 04.00 is stored as 2,000 and 3,000."""
    offer = offer_of(asset(["B04", "B08"]), {"platform": "sentinel-2b", **told})
    ndvi = parse(offer.picture("ndvi").expression, band_count=2)
    value, _ = ndvi.evaluate({1: np.array([[2_000.0]]), 2: np.array([[3_000.0]])}, np.array([[True]]))
    assert value[0, 0] == pytest.approx(expected)


def test_an_index_of_reflectance_takes_stored_numbers_to_reflectance():
    pixels = {1: np.array([[400.0]]), 2: np.array([[3_000.0]])}
    valid = np.array([[True]])
    stored = INDICES["evi2"].over({"red": 1, "nir": 2}, scale=0.0001)
    value, _ = parse(stored, band_count=2).evaluate(pixels, valid)
    assert value[0, 0] == pytest.approx(2.5 * (0.3 - 0.04) / (0.3 + 2.4 * 0.04 + 1))
    shifted = INDICES["ndvi"].over({"red": 1, "nir": 2}, scale=0.0000275, offset=-0.2)
    value, _ = parse(shifted, band_count=2).evaluate({1: np.array([[8_000.0]]), 2: np.array([[18_000.0]])}, valid)
    assert value[0, 0] == pytest.approx((0.295 - 0.02) / (0.295 + 0.02))


def test_other_spellings_of_roles_are_understood():
    assert [role_of(word) for word in ("SWIR-1", "Near Infrared", "rededge071", "R", "nir", "what")] == [
        "swir16", "nir", "rededge1", "red", "nir", None,
    ]  # fmt: skip
    assert "mndwi" in ids(pictures("raster", {"Green": 1, "SWIR1": 2}))


@pytest.mark.parametrize(("data_type", "expected"), [
    ("elevation", ["elevation", "elevation_grey", "bathymetry"]), ("categorical", ["classes"]), ("vector", ["raw"]), ("point", ["raw"]),
    ("raster", []), ("nonsense", []),
])  # fmt: skip
def test_kinds_of_data_without_roles(data_type, expected):
    assert ids(pictures(data_type, {})) == expected


def test_what_the_catalogue_says_of_rendering_holds_for_stored_values():
    found = {each.id: each for each in pictures("raster", OPTICAL, render_params={"rescale": [0, 3000], "colormap": "magma"})}
    assert found["true_color"].rescale == "0,3000"
    assert (found["band_4"].rescale, found["band_4"].colormap) == ("0,3000", "magma")
    assert found["ndvi"].rescale == "-1,1"


@pytest.mark.parametrize(("names", "key", "properties", "expected"), [
    (["B02", "B8A", "B11"], "data", {}, {"blue": 1, "nir08": 2, "swir16": 3}),
    (["SR_B4", "SR_B5"], "data", {}, {"red": 1, "nir": 2}),
    (["B3", "B4"], "data", {"platform": "landsat-5"}, {"red": 1, "nir": 2}),
    (["B3", "B4"], "data", {"platform": "landsat-9"}, {"green": 1, "red": 2}),
    (["B3", "B4"], "data", {}, {}),
    (["b1", "b2", "b3", "b4"], "data", {"constellation": "planetscope"}, {"blue": 1, "green": 2, "red": 3, "nir": 4}),
    (["b1", "b2", "b3", "b4"], "data", {"instruments": ["NAIP"]}, {"red": 1, "green": 2, "blue": 3, "nir": 4}),
    (["b1", "b2"], "data", {"constellation": "planetscope"}, {}),
    (["b1"], "B08", {}, {"nir": 1}),
    (["b1"], "nir", {}, {"nir": 1}),
    (["VV", "VH"], "data", {}, {"vv": 1, "vh": 2}),
])  # fmt: skip
def test_roles_of_bands(names, key, properties, expected):
    assert bands_of(asset(names, key=key), properties).roles == expected


def test_numbers_win_over_names_that_look_like_numbers():
    bands = bands_of(asset(["b3", "B2", "nir"]), {})
    assert (bands.numbers["b3"], bands.numbers["b2"], bands.numbers["B2"], bands.numbers["NIR".lower()]) == (3, 2, 2, 3)


def test_what_files_offer_by_their_names_and_numbers():
    assert offer_of(asset(["b1"], key="dem", dtype="float32")).pictures[0].id == "elevation"
    scl = offer_of(asset(["b1"], key="SCL", dtype="uint8")).pictures[0]
    assert (scl.id, scl.colormap) == ("classes", "scl")
    assert offer_of(asset(["b1", "b2", "b3"], dtype="uint8")).pictures[0].id == "first_three"
    assert offer_of(asset(["b1", "b2"], dtype="uint8")).pictures[0].id == "band_1"
    of_unknown_numbers = ids(offer_of(asset(["red", "nir"])).pictures)
    assert "ndvi" in of_unknown_numbers
    assert "evi2" not in of_unknown_numbers
    fractions = asset(["red", "nir"], dtype="float32", statistics=[{"max": 0.9}, {"max": 1.1}])
    assert "evi2" in ids(offer_of(fractions).pictures)


@pytest.mark.parametrize(("kind", "config", "bands", "rescale"), [
    ("rgb", {"band_mapping": {"r": "B08", "g": 1, "b": "green"}}, (4, 1, 2), None),
    ("rgb", {"band_mapping": {"r": 1, "g": 2, "b": 3}, "rescale": [0, 9]}, (1, 2, 3), ((0, 9),) * 3),
    ("rgb", {"band_mapping": {"r": 1, "g": 2, "b": 3}, "rescale": {"r": "0,1", "g": [0, 2], "b": [0, 3]}}, (1, 2, 3), ((0, 1), (0, 2), (0, 3))),
    ("singleband", {"band": "nir", "colormap": "magma_r", "rescale": "0,1"}, (4,), ((0, 1),)),
    ("multiband", {"bands": [4, 3, 2, 1], "rescale": [0, 5]}, (4, 3, 2), ((0, 5),) * 3),
    ("multiband", {"bands": [4, 3], "rescale": [[0, 5], [0, 6]]}, (4,), ((0, 5),)),
])  # fmt: skip
def test_configs_that_fit(kind, config, bands, rescale):
    picture = picture_of(kind, config, FOUR)
    assert (picture.bands, picture.rescale) == (bands, rescale)


@pytest.mark.parametrize(("kind", "config", "where"), [
    ("rgb", {}, ["band_mapping"]), ("rgb", {"band_mapping": {"r": 1, "g": 2}}, ["band_mapping"]),
    ("rgb", {"band_mapping": {"r": 1, "g": 2, "b": 9}}, ["band_mapping", "b"]),
    ("rgb", {"band_mapping": {"r": 1, "g": 2, "b": True}}, ["band_mapping", "b"]),
    ("rgb", {"band_mapping": {"r": 1, "g": 2, "b": 3}, "rescale": {"r": [0, 1]}}, ["rescale"]),
    ("rgb", {"band_mapping": {"r": 1, "g": 2, "b": 3}, "colormap": "viridis"}, ["colormap"]),
    ("singleband", {"band": "swir16"}, ["band"]), ("singleband", {"band": 1, "colormap": "none"}, ["colormap"]),
    ("singleband", {"band": 1, "rescale": [2, 1]}, ["rescale"]), ("singleband", {"band": 1, "rescale": [0, float("inf")]}, ["rescale"]),
    ("multiband", {"bands": []}, ["bands"]), ("multiband", {"bands": [1, 0]}, ["bands", 1]),
    ("multiband", {"bands": [1, 2, 3], "rescale": [[0, 1], [0, 1]]}, ["rescale"]),
    ("expression", {"expression": "b7 + 1"}, ["expression"]), ("expression", {"expression": "eval(b1)"}, ["expression"]),
    ("expression", {"expression": " "}, ["expression"]), ("expression", {"expression": "b1", "bands": [1]}, ["bands"]),
])  # fmt: skip
def test_configs_that_do_not_fit_say_where(kind, config, where):
    with pytest.raises(InvalidInput) as refused:
        picture_of(kind, config, FOUR)
    assert refused.value.issues[0]["loc"] == ["body", "config", *where]
