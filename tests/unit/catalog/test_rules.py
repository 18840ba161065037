"""Queries, labels and time, without any host."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geopera_server.domains.catalog.rules import (
    host_query,
    metres_of,
    property_filters,
    query_key,
    resolution_label,
    search_area,
)
from geopera_server.domains.catalog.sources import means_all
from geopera_server.kernel.stac import captured_at, holds, period_of
from geopera_server.ports.host import PropertyFilter
from support.catalogue import collection, item, source


@pytest.mark.parametrize(
    ("told", "gsd", "label"),
    [
        (0.5, None, "0.5m"), ("0.5m", None, "0.5m"), ("0.50 m", None, "0.5m"), ("50cm", None, "0.5m"), ("30 CM", None, "0.3m"),
        (None, 0.75, "0.75m"), ("high", 10.0, "10m"), (None, None, ""), ("", 0.3, "0.3m"), ({"value": 0.5}, None, "0.5m"),
        (True, 2, "2m"), (0, 5, "5m"), (None, 0.30000001, "0.3m"),
    ],
)  # fmt: skip
def test_resolution_labels(told, gsd, label):
    assert resolution_label(told, gsd) == label


@given(st.floats(0.01, 9999).map(lambda metres: round(metres, 3)))
def test_a_label_reads_back(metres):
    assert metres_of(resolution_label(metres, None)) == pytest.approx(metres, rel=1e-5)


def test_both_spellings_are_one_filter():
    one = property_filters({"cloudCoverage": {"LTE": 20}})
    assert one == property_filters({"eo:cloud_cover": {"lte": 20, "gte": None}})
    assert one == (PropertyFilter(name="eo:cloud_cover", comparison="lte", value=20),)


def test_equal_searches_have_one_key():
    area = search_area([0, 0, 1, 1], None)
    one = host_query(
        area=area, limit=10, collections=["b", "a", "b"], datetime="2024-01-01T00:00:00Z/..", query={"x": {"LT": 1}}
    )
    other = host_query(
        area=area, limit=10, collections=["a", "b"], datetime="2024-01-01T01:00:00+01:00/", query={"x": {"lt": 1}}
    )
    assert query_key(one) == query_key(other)
    assert query_key(one) != query_key(host_query(area=area, limit=11))


@pytest.mark.parametrize(
    ("host", "all_of_them"),
    [
        (None, True), ("", True), (" geopera ", True), ("API.Geopera.com", True), ("geo.example", True),
        ("geo.example:8000", True), ("earthsearch-aws", False), ("geo.example.org", False),
    ],
)  # fmt: skip
def test_names_that_mean_all(host, all_of_them):
    assert means_all(host, "http://geo.example:8000") is all_of_them


@pytest.mark.parametrize(
    ("collections", "data_types", "asked"),
    [
        ((), (), ()), (("a",), (), ("a",)), (("x",), (), None), (("a", "x"), (), ("a",)), ((), ("sar",), ("b",)),
        (("a",), ("sar",), None), ((), ("lidar",), None), ((), ("optical", "sar"), ()),
    ],
)  # fmt: skip
def test_what_a_source_is_asked_for(collections, data_types, asked):
    known = source("s", collections=[collection("a"), collection("b", data_type="sar")])
    assert known.offers(collections, data_types) == asked


def test_a_source_without_collections_is_asked_for_any_but_kinds():
    unknown = source("s")
    assert unknown.offers(("whatever",), ()) == ("whatever",)
    assert unknown.offers((), ("sar",)) is None
    assert unknown.unknown_among(["whatever"]) == []


@pytest.mark.parametrize(
    ("properties", "at"),
    [
        ({"datetime": "2024-05-01T12:00:00Z"}, "2024-05-01T12:00:00+00:00"),
        ({"datetime": "2024-05-01T14:00:00+02:00"}, "2024-05-01T12:00:00+00:00"),
        ({"datetime": None, "start_datetime": "2024-05-01T00:00:00Z", "end_datetime": "2024-06-01T00:00:00Z"}, "2024-05-01T00:00:00+00:00"),
        ({"datetime": "2024-05-01"}, "2024-05-01T00:00:00+00:00"),
    ],
)  # fmt: skip
def test_times_of_items(properties, at):
    found = captured_at({"properties": properties})
    assert found is not None
    assert found.isoformat() == at


@pytest.mark.parametrize("properties", [{}, {"datetime": None}, {"datetime": 5}, {"datetime": "soon"}, None])
def test_items_without_time(properties):
    assert captured_at({"properties": properties}) is None
    assert period_of({"properties": properties}) is None


@pytest.mark.parametrize(
    ("present", "comparison", "value", "true"),
    [
        (5, "lte", 5.0, True), (5, "lt", 5, False), ("a", "neq", "b", True), (None, "neq", "b", False), ("5", "eq", 5, False),
        (True, "eq", 1, False), (True, "eq", True, True), ([1], "eq", 1, False), ("b", "gt", "a", True),
    ],
)  # fmt: skip
def test_conditions(present, comparison, value, true):
    held = item("A", "2024-05-01T00:00:00Z", mark=present)
    assert holds(held, PropertyFilter(name="mark", comparison=comparison, value=value)) is true
