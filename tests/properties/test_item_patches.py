"""A merge patch changes what it names and nothing else, whatever it names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from geopera_server.domains.items import rules
from geopera_server.domains.items.patching import patched
from geopera_server.domains.items.places import place_of
from geopera_server.domains.items.registration import place_columns

AT = datetime(2024, 6, 12, 10, 10, tzinfo=UTC)
times = st.integers(0, 10**9).map(lambda seconds: AT - timedelta(seconds=seconds))
texts = st.text(min_size=1, max_size=20)
maybe = st.none()
longitudes, latitudes = st.floats(-179, 178), st.floats(-89, 88)
boxes = st.tuples(longitudes, latitudes, st.floats(0.01, 1), st.floats(0.01, 1)).map(
    lambda found: [found[0], found[1], found[0] + found[2], found[1] + found[3]]
)
geometries = boxes.map(lambda bbox: place_of(None, bbox)[0])
properties = st.dictionaries(texts, st.integers() | texts, max_size=3)

PLAIN = {
    "name": texts | maybe,
    "description": texts | maybe,
    "gsd": st.floats(0.01, 100) | maybe,
    "cloud_cover": st.floats(0, 100) | maybe,
    "properties": properties | maybe,
    "collection_id": st.uuids().map(str) | maybe,
}
TIMED = {"datetime": times.map(datetime.isoformat) | maybe}
PLACED = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"geometry": geometries | maybe}),
    st.fixed_dictionaries({"geometry": st.none(), "bbox": boxes}),
)
patches = st.tuples(
    st.fixed_dictionaries({}, optional={**PLAIN, **TIMED, "lifecycle_state": st.sampled_from(["active", "archived", None])}),
    PLACED,
).map(lambda found: {**found[0], **found[1]})


@st.composite
def rows(draw):
    """Draws an item as the database has it: with a time span, and perhaps a moment, a place and a collection."""
    start = draw(times)
    geometry = draw(geometries | maybe)
    archived_at = draw(st.sampled_from([None, AT]))
    return {
        "id": "i",
        "organization_id": "o",
        **{name: draw(strategy) for name, strategy in PLAIN.items()},
        "name": draw(texts),
        "properties": draw(properties),
        "datetime": draw(times | maybe),
        "start_datetime": start,
        "end_datetime": start + timedelta(days=draw(st.integers(0, 1_000))),
        "geometry": geometry,
        "bbox": None if geometry is None else place_of(geometry, None)[1],
        "lifecycle_state": "active" if archived_at is None else "archived",
        "archived_at": archived_at,
    }


def plain(columns):
    return {name: value.obj if isinstance(value, Jsonb) else value for name, value in columns.items()}


@settings(max_examples=300, deadline=None)
@given(rows(), patches)
def test_what_is_absent_stays_and_what_is_named_is_set(row, patch):
    after = plain(patched(row, patch, at=AT))
    for name in PLAIN:
        wanted = patch.get(name, row[name])
        never_empty = name in {"name", "properties"}
        assert after[name] == (row[name] if never_empty and wanted is None else wanted)
    if "geometry" not in patch and "bbox" not in patch:
        assert (after["geometry"], after["bbox"]) == (row["geometry"], row["bbox"])
    if "lifecycle_state" not in patch:
        assert (after["lifecycle_state"], after["archived_at"]) == (row["lifecycle_state"], row["archived_at"])
    if "datetime" not in patch:
        assert after["datetime"] == row["datetime"]
    assert {"id": after["id"], "organization_id": after["organization_id"]} == {"id": "i", "organization_id": "o"}


@settings(max_examples=300, deadline=None)
@given(rows(), patches)
def test_what_searches_go_by_follows(row, patch):
    after = plain(patched(row, patch, at=AT))
    start, end = rules.period_of(after["datetime"], row["start_datetime"], row["end_datetime"])
    assert (after["period_start"], after["period_end"]) == (start, end)
    fresh = plain(place_columns(after["geometry"]))
    assert (after["extent"], after["extent_across"]) == (fresh["extent"], fresh["extent_across"])
    assert (after["bbox"] is None) == (after["geometry"] is None)


@settings(max_examples=100, deadline=None)
@given(rows())
def test_an_empty_patch_changes_nothing(row):
    after = plain(patched(row, {}, at=AT))
    assert {name: after[name] for name in after.keys() & row.keys()} == {name: row[name] for name in after.keys() & row.keys()}


@settings(max_examples=200, deadline=None)
@given(rows(), patches, patches)
def test_two_patches_are_as_one(row, first, second):
    """What the later one names wins; what only the earlier one names stays."""
    once = plain(patched(row, first, at=AT))
    twice = plain(patched({**row, **once}, second, at=AT))
    for name in PLAIN:
        named = [patch[name] for patch in (first, second) if name in patch]
        never_empty = name in {"name", "properties"}
        kept = [value for value in named if value is not None] if never_empty else named
        assert twice[name] == (kept[-1] if kept else row[name])
