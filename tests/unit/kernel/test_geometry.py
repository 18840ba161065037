"""Geometry as people send it, good and bad."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import box

from geopera_server.kernel.errors import InvalidInput, Malformed
from geopera_server.kernel.geometry import area_sqkm, extents, read_bbox, read_geometry, read_interval, to_geojson

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]]]}
BAD = {
    "self-crossing": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]},
    "empty": {"type": "Polygon", "coordinates": []},
    "out of range": {"type": "Polygon", "coordinates": [[[0, 0], [0, 91], [1, 91], [1, 0], [0, 0]]]},
    "a line": {"type": "LineString", "coordinates": [[0, 0], [1, 1]]},
    "no area": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0], [0, 0]]]},
    "no type": {"coordinates": []},
    "no list": {"type": "Polygon", "coordinates": "here"},
    "a number": 5,
    "two features": {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": SQUARE}] * 2},
    "no feature": {"type": "FeatureCollection", "features": []},
    "null geometry": {"type": "Feature", "geometry": None},
    "too many vertices": {"type": "Polygon", "coordinates": [[[n / 10_001, (n % 2) / 100] for n in range(10_001)] + [[0, 0]]]},
}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
def test_bad_geometry_is_refused_with_its_place(value):
    with pytest.raises(InvalidInput) as refusal:
        read_geometry(value, loc=("captures", 0, "geometry"))
    assert refusal.value.code == "invalid_geometry"
    assert refusal.value.issues[0]["loc"] == ["body", "captures", 0, "geometry"]


def test_text_that_is_not_json_is_400():
    with pytest.raises(Malformed) as refusal:
        read_geometry("{", loc=())
    assert refusal.value.code == "malformed_geometry_json"


@pytest.mark.parametrize(
    "wrapped",
    [
        SQUARE,
        {"type": "Feature", "geometry": SQUARE},
        BAD["two features"] | {"features": [{"type": "Feature", "geometry": SQUARE}]},
    ],
)
def test_wrapped_geometry_is_read_and_oriented(wrapped):
    ring = to_geojson(read_geometry(wrapped, loc=()))["coordinates"][0]
    assert ring[0] == ring[-1]
    assert sum((b[0] - a[0]) * (b[1] + a[1]) for a, b in pairwise(ring)) < 0


def test_area_is_geodesic():
    # One degree square at the equator on WGS84: 12,308.778 km² (Karney's geodesic polygon area).
    assert area_sqkm(read_geometry(SQUARE, loc=())) == Decimal("12308.7784")


def test_bbox_over_the_antimeridian_has_two_parts():
    area = read_bbox([170, -10, -170, 10], loc=())
    assert area.geom_type == "MultiPolygon"
    assert extents(area) == ("(180.0,10.0),(170.0,-10.0)", "(-170.0,10.0),(-180.0,-10.0)")


@pytest.mark.parametrize("values", [[1, 2, 3], [0, 0, 0, 91], [0, 5, 1, 4], [float("nan"), 0, 1, 1], [-181, 0, 0, 1]])
def test_bad_bbox_is_refused(values):
    with pytest.raises(InvalidInput):
        read_bbox(values, loc=("bbox",))


@pytest.mark.parametrize("text", ["2024-02-01/2024-01-01", "yesterday", "../..", "a/b/c", "/"])
def test_bad_interval_is_refused(text):
    with pytest.raises(InvalidInput):
        read_interval(text, loc=("datetime",))


def test_intervals():
    start, end = read_interval("2024-01-01T00:00:00Z/..", loc=())
    assert (start.isoformat(), end) == ("2024-01-01T00:00:00+00:00", None)
    both = read_interval("2024-01-01t00:00:00z", loc=())
    assert both[0] == both[1] == start


@given(st.floats(-180, 179), st.floats(-90, 89), st.floats(0.01, 1), st.floats(0.01, 1))
def test_any_box_survives_the_round_trip(west, south, width, height):
    shape = box(west, south, west + width, south + height)
    again = read_geometry(to_geojson(shape), loc=())
    assert again.equals(shape)
    assert area_sqkm(again) >= 0
