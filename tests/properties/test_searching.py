"""Random searches over random items find what a plain reading of the search finds, in its order, on pages that end."""

from __future__ import annotations

import json
import random
import string
from datetime import UTC, datetime, timedelta

import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geopera_server.domains.stac import searching
from support.deliveries import deliver, item
from support.house import inhabited
from support.searching import in_order, matches

ITEMS = 160
START = datetime(2024, 1, 1, tzinfo=UTC)
TEXTS = ["ä", "Ä", "abc", "ABC", "a%c", "a_c", "a\\c", "été", "2024-03-01T00:00:00Z", "", "x' OR 1=1 --", "z"]
NUMBERS = [0, 1, -1.5, 20, 20.0, 0.1, 1e22, 99.99]


def footprint(dice: random.Random):
    kind = dice.randrange(12)
    if kind == 0:
        return None
    if kind == 1:  # across the antimeridian
        south = dice.randrange(-6, 6)
        return {
            "type": "MultiPolygon",
            "coordinates": [
                [[[178, south], [180, south], [180, south + 2], [178, south + 2], [178, south]]],
                [[[-180, south], [-178, south], [-178, south + 2], [-180, south + 2], [-180, south]]],
            ],
        }
    west, south = dice.randrange(-8, 8), dice.randrange(-8, 8)
    if kind < 6:  # a tilted rectangle
        t = dice.choice([0.1, 0.3, 0.5])
        ring = [[west + t, south], [west + 2, south + t], [west + 2 - t, south + 2], [west, south + 2 - t], [west + t, south]]
    elif kind < 9:  # a triangle
        ring = [[west, south], [west + 3, south], [west, south + 3], [west, south]]
    else:
        ring = [[west, south], [west + 1, south], [west + 1, south + 1], [west, south + 1], [west, south]]
    if kind == 11:  # with a hole
        hole = [
            [west + 0.25, south + 0.25],
            [west + 0.25, south + 0.75],
            [west + 0.75, south + 0.75],
            [west + 0.75, south + 0.25],
            [west + 0.25, south + 0.25],
        ]
        return {"type": "Polygon", "coordinates": [ring, hole]}
    return {"type": "Polygon", "coordinates": [ring]}


def random_item(project_id: str, number: int, dice: random.Random):
    at = START + timedelta(days=dice.randrange(60), hours=dice.choice([0, 0, 12]))
    times = {"datetime": at.isoformat()}
    if number % 7 == 0:
        end = at + timedelta(days=dice.randrange(30))
        times = {"datetime": None, "start_datetime": at.isoformat(), "end_datetime": end.isoformat()}
    properties = {}
    for name in ("a", "b", "weird \"name'; --"):
        if dice.random() < 0.7:
            properties[name] = dice.choice([*TEXTS, *NUMBERS, True, False, None, [1, 2], {"x": 1}])
    name = "".join(dice.choices(string.ascii_letters, k=3)) + str(number)
    more = {"gsd": dice.choice([None, 0.5, 10.0]), "cloud_cover": dice.choice([None, 0.0, 20.0, 55.5])}
    return item(project_id, name, geometry=footprint(dice), properties=properties, **times, **more)


class World:
    """Who searches, and all features that there are; hypothesis prints it."""

    def __init__(self, owner, features) -> None:
        self.owner, self.features = owner, features

    def __repr__(self) -> str:
        return "World()"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(cluster, template, tmp_path_factory):
    """A house with items at random, and all of them as features."""
    dsn = cluster.create_database(template[0])
    dice = random.Random(7)
    async with inhabited(dsn, template[1], tmp_path_factory.mktemp("world")) as household:
        second = (await household.owner.op("projects.create", {"name": "Second"}))["id"]
        for number in range(ITEMS):
            project = household.project_id if number % 3 else second
            await household.owner.run(deliver, {"item": random_item(project, number, dice)})
        await household.seal()
        features = (await household.owner.op("stac.search", {"limit": 10_000}))["features"]
        assert len(features) == ITEMS
        yield World(household.owner, features)
    cluster.drop_database(dsn)


def prop(*names):
    return st.sampled_from([{"property": name} for name in names])


coordinates = st.integers(-8, 9) | st.sampled_from([-7.9, 0.05, 0.5, 1.5, 3.95])
bboxes = st.tuples(coordinates, coordinates, st.sampled_from([0, 0.5, 1, 3, 8]), st.sampled_from([0, 0.5, 1, 3, 8])).map(
    lambda t: [t[0], t[1], t[0] + t[2], t[1] + t[3]]
) | st.sampled_from([[179, -3, -179, 3], [179.5, -10, 180, 10], [-180, -90, 180, 90], [170, -8, 5, 8]])
triangles = st.tuples(coordinates, coordinates, st.sampled_from([0.5, 2, 5])).map(
    lambda t: {
        "type": "Polygon",
        "coordinates": [[[t[0], t[1]], [t[0] + t[2], t[1] + t[2] / 3], [t[0] + t[2] / 4, t[1] + t[2]], [t[0], t[1]]]],
    }
)
points = st.tuples(coordinates, coordinates).map(lambda t: {"type": "Point", "coordinates": list(t)})
times = st.integers(0, 90).map(lambda day: (START + timedelta(days=day)).isoformat().replace("+00:00", "Z"))
intervals = st.tuples(times, times).map(sorted).map(list) | times.map(lambda t: [t, ".."]) | times.map(lambda t: ["..", t])
values = st.sampled_from([*TEXTS, *NUMBERS, True, False])
anything = prop("a", "b", "weird \"name'; --", "nosuch", "properties.a")
comparisons = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])


def call(op, *args):
    return st.tuples(*args).map(lambda found: {"op": op, "args": list(found)})


leaves = (
    st.tuples(comparisons, anything, values | anything).map(lambda t: {"op": t[0], "args": [t[1], t[2]]})
    | st.tuples(comparisons, prop("gsd", "eo:cloud_cover"), st.sampled_from([*NUMBERS, "20", 0.5])).map(
        lambda t: {"op": t[0], "args": [t[1], t[2]]}
    )
    | st.tuples(comparisons, prop("datetime", "start_datetime", "end_datetime"), times | times.map(lambda t: {"timestamp": t})).map(
        lambda t: {"op": t[0], "args": [t[1], t[2]]}
    )
    | call("isNull", anything | prop("gsd", "datetime", "eo:cloud_cover"))
    | call("between", anything | prop("gsd", "eo:cloud_cover"), st.sampled_from(NUMBERS), st.sampled_from(NUMBERS))
    | call("in", anything, st.lists(values, min_size=1, max_size=4))
    | call("like", anything | prop("id"), st.sampled_from(["a%", "%c", "_bc", "a\\%c", "a\\_c", "a\\\\c", "%", "%'%"]))
    | call("like", anything.map(lambda p: {"op": "casei", "args": [p]}), st.sampled_from(["A%", "ä"]).map(lambda t: {"op": "casei", "args": [t]}))
    | call("=", anything.map(lambda p: {"op": "accenti", "args": [p]}), st.sampled_from(["été", "ete"]).map(lambda t: {"op": "accenti", "args": [t]}))
    | st.tuples(
        st.sampled_from(["s_intersects", "s_disjoint", "s_within", "s_contains", "s_touches", "s_overlaps", "s_equals"]),
        triangles | points | bboxes.map(lambda b: {"bbox": b}),
    ).map(lambda t: {"op": t[0], "args": [{"property": "geometry"}, t[1]]})
    | st.tuples(
        st.sampled_from(["t_after", "t_before", "t_contains", "t_during", "t_equals", "t_intersects", "t_disjoint", "t_starts",
                         "t_finishes", "t_overlaps", "t_meets"]),
        prop("datetime", "created"),
        intervals.map(lambda i: {"interval": i}) | times.map(lambda t: {"timestamp": t}),
    ).map(lambda t: {"op": t[0], "args": [t[1], t[2]]})
)  # fmt: skip
filters = st.recursive(
    leaves,
    lambda inner: (
        st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)).map(
            lambda t: {"op": t[0], "args": t[1]}
        )
        | inner.map(lambda each: {"op": "not", "args": [each]})
    ),
    max_leaves=6,
)
searches = st.fixed_dictionaries(
    {},
    optional={
        "filter": filters,
        "datetime": intervals.map("/".join),
        "place": bboxes.map(lambda b: ("bbox", b))
        | triangles.map(lambda t: ("intersects", t))
        | points.map(lambda p: ("intersects", p)),
        "sortby": st.lists(
            st.tuples(
                st.sampled_from(["datetime", "gsd", "eo:cloud_cover", "created", "id"]), st.sampled_from(["asc", "desc"])
            ).map(lambda t: {"field": t[0], "direction": t[1]}),
            min_size=1,
            max_size=2,
            unique_by=lambda clause: clause["field"],
        ),
    },
)


def body_of(search):
    body = {name: value for name, value in search.items() if name != "place"}
    return {**body, search["place"][0]: search["place"][1]} if "place" in search else body


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(search=searches)
async def test_search_finds_what_a_plain_reading_finds(world, search):
    owner, features = world.owner, world.features
    body = body_of(search)
    expected = [each["id"] for each in in_order([each for each in features if matches(each, body)], body.get("sortby"))]
    found = await owner.op("stac.search", {**body, "limit": 10_000})
    assert [each["id"] for each in found["features"]] == expected, json.dumps(body)
    assert (found["numberMatched"], found["numberReturned"], found["links"]) == (len(expected), len(expected), [])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(search=searches, limit=st.integers(1, 40), few=st.sampled_from([3, 40]))
async def test_pages_are_complete_whichever_way_they_are_found(world, search, limit, few):
    owner, features = world.owner, world.features
    body = {**body_of(search), "limit": limit}
    expected = [each["id"] for each in in_order([each for each in features if matches(each, body)], body.get("sortby"))]
    kept = {name: getattr(searching, name) for name in BOUNDS}
    try:
        for name in BOUNDS:
            setattr(searching, name, few)
        by_number, number = [], 0
        while page := (await owner.op("stac.search", {**body, "page": number}))["features"]:
            by_number += [each["id"] for each in page]
            number += 1
        by_token, link = [], {"body": body}
        while link is not None:
            reply = await owner.op("stac.search", link["body"])
            by_token += [each["id"] for each in reply["features"]]
            link = next((each for each in reply["links"] if each["method"] == "POST"), None)
            if "geopera:matched" not in reply:
                assert reply["numberMatched"] == len(expected)
            else:
                assert reply["numberMatched"] <= len(expected)
    finally:
        for name, value in kept.items():
            setattr(searching, name, value)
    assert by_number == expected, json.dumps(body)
    assert by_token == expected, json.dumps(body)


BOUNDS = ("MOST_NEAR", "MOST_READ", "MOST_IN_ORDER", "MOST_ALIKE", "FIRST_STRIDE", "LAST_STRIDE")
