"""What every host promises, whoever answers behind it: a STAC API in each of its dialects, our scene index, the fake."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from shapely.geometry import box, mapping, shape

from geopera_server.adapters.hosts import archive
from geopera_server.adapters.hosts.archive import SceneIndex
from geopera_server.adapters.hosts.breaker import Breaker
from geopera_server.adapters.hosts.fake import FakeHost
from geopera_server.adapters.hosts.fetch import make_client
from geopera_server.adapters.hosts.stac import StacHost
from geopera_server.db.pool import make_pool
from geopera_server.ports.host import HostFailed, HostQuery, PropertyFilter
from support.catalogue import item, put_scenes, source
from support.stac_api import StacApi, real_items, stac_matches

DIALECTS = {
    "post": {},
    "whole-body": {"next_by": "body"},
    "get": {"posts": False},
    "post-then-get": {"next_by": "query"},
    "undeclared-get": {"posts": False, "declares": False},
    "cql2": {"filters": "cql2"},
    "cql2-get": {"filters": "cql2", "posts": False},
    "plain": {"sorts": False, "filters": "none"},
    "strict": {"sorts": False, "filters": "none", "strict": True, "declares": False},
    "behind-gateway": {"next_host": "http://10.255.255.1/internal"},
}
ADAPTERS = ["fake", "index", "index-by-time", "breaker", *(f"stac-{name}" for name in DIALECTS)]
UNSORTED = {"stac-plain", "stac-strict"}


def _items():
    """Real scenes of several sensors, one that lies across the antimeridian, one that lasts a month."""
    wanted = {"naip", "landsat-c2-l2", "cop-dem-glo-30", "sentinel-2-l1c"}
    others = [each for each in real_items("pystac_client_items.json") if each["collection"] in wanted]
    unique = {each["id"]: each for each in [*real_items()[::3], *others[::20]] if each["properties"]["datetime"]}
    across = item("ACROSS", "2023-05-05T00:00:00Z", 170, -20)
    across["geometry"] = {
        "type": "MultiPolygon",
        "coordinates": [[_ring(178, -20, 180, -18)], [_ring(-180, -20, -179, -18)]],
    }
    month = item("MONTH", "2023-06-15T00:00:00Z", 20, 20)
    month["properties"] |= {"start_datetime": "2023-06-01T00:00:00Z", "end_datetime": "2023-06-30T00:00:00Z"}
    return [*unique.values(), across, month]


def _ring(west, south, east, north):
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


ITEMS = _items()
AREA = mapping(box(-105.4, 39.8, -105.0, 40.2))


@pytest_asyncio.fixture(scope="module")
async def indexed(cluster, template):
    dsn = cluster.create_database(template[0])
    pool = make_pool(dsn, max_size=4)
    await pool.open()
    async with pool.connection() as conn:
        await put_scenes(conn, source("archive"), ITEMS)
        await put_scenes(conn, source("elsewhere"), ITEMS[:20])
        yield pool.connection
    await pool.close()
    cluster.drop_database(dsn)


@pytest_asyncio.fixture(scope="module")
async def client():
    async with make_client() as shared:
        yield shared


@pytest.fixture(scope="module")
def apis():
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(StacApi(ITEMS, **dialect)) for name, dialect in DIALECTS.items()}


@pytest.fixture(params=ADAPTERS)
def host(request, indexed, client, apis, monkeypatch):
    name = request.param
    if name == "fake":
        return FakeHost(ITEMS)
    if name == "breaker":
        return Breaker(FakeHost(ITEMS))
    if name == "index-by-time":
        monkeypatch.setattr(archive, "FEW", 0)
    if name.startswith("index"):
        return SceneIndex(indexed, "archive")
    return StacHost(client, apis[name.removeprefix("stac-")].url, timeout_s=10)


def is_sorted(request) -> bool:
    return request.node.callspec.params["host"] not in UNSORTED


async def everything(host, **query):
    """Walks all pages and returns their features; fails when the walk does not end."""
    found, cursor = [], None
    for _ in range(200):
        page = await host.search(HostQuery(**query, cursor=cursor))
        found += page.features
        cursor = page.cursor
        if cursor is None:
            return found
    pytest.fail("the pages never end")


def ids(features):
    return sorted(feature["id"] for feature in features)


def expected(**fields):
    return sorted(each["id"] for each in ITEMS if stac_matches(each, fields))


async def test_pages_are_complete_and_free_of_repeats(host):
    found = await everything(host, limit=7)
    assert ids(found) == ids(ITEMS)


async def test_newest_come_first(host, request):
    found = await everything(host, limit=500 if not is_sorted(request) else 9)
    times = [feature["properties"]["datetime"] for feature in found]
    moments = [datetime.fromisoformat(each) for each in times]
    assert moments == sorted(moments, reverse=True)


async def test_items_arrive_whole(host):
    wanted = ITEMS[0]
    page = await host.search(HostQuery(ids=(wanted["id"],)))
    (found,) = page.features
    assert page.cursor is None
    assert found["collection"] == wanted["collection"]
    assert found["assets"] == wanted["assets"]
    assert shape(found["geometry"]).equals(shape(wanted["geometry"]))
    assert wanted["properties"].items() <= found["properties"].items()


async def test_ids(host):
    wanted = (ITEMS[3]["id"], ITEMS[-1]["id"], "no such scene")
    assert ids(await everything(host, ids=wanted)) == sorted(wanted[:2])


async def test_collections(host):
    found = await everything(host, collections=("naip", "c1"), limit=10)
    assert ids(found) == expected(collections=["naip", "c1"])
    assert len(found) > 10


@pytest.mark.parametrize(
    "area",
    [
        AREA,
        {"type": "Polygon", "coordinates": [[[-105.5, 39.5], [-104.8, 40.3], [-105.5, 40.3], [-105.5, 39.5]]]},
        {"type": "Polygon", "coordinates": [[[20.5, 22.5], [22.5, 20.5], [22.5, 22.5], [20.5, 22.5]]]},
        {"type": "Point", "coordinates": [-105.2, 40.0]},
        mapping(box(-180, -90, 180, 90)),
    ],
    ids=["box", "triangle", "only boxes meet", "point", "earth"],
)
async def test_area_is_met_exactly(host, area):
    assert ids(await everything(host, geometry=area, limit=11)) == expected(intersects=area)


@pytest.mark.parametrize(("west", "east"), [(179.5, 179.9), (-179.9, -179.5), (179.5, -179.5)])
async def test_both_sides_of_the_antimeridian(host, west, east):
    parts = [_ring(west, -19, east, -18.5)] if west < east else [_ring(west, -19, 180, -18), _ring(-180, -19, east, -18)]
    area = {"type": "MultiPolygon", "coordinates": [[part] for part in parts]}
    assert ids(await everything(host, geometry=area)) == ["ACROSS"]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2024-01-01T00:00:00+00:00", "2024-06-30T00:00:00+00:00"),
        ("2024-06-01T00:00:00+00:00", None),
        (None, "2022-01-01T00:00:00+00:00"),
        ("2023-06-25T00:00:00+00:00", "2023-06-26T00:00:00+00:00"),
    ],
    ids=["between", "since", "until", "within a long capture"],
)
async def test_time(host, start, end):
    interval = f"{start or '..'}/{end or '..'}"
    found = await everything(
        host, start=start and datetime.fromisoformat(start), end=end and datetime.fromisoformat(end), limit=10
    )
    assert ids(found) == expected(datetime=interval)
    assert found


@pytest.mark.parametrize(
    ("filters", "query"),
    [
        ([("eo:cloud_cover", "lte", 10)], {"eo:cloud_cover": {"lte": 10}}),
        ([("eo:cloud_cover", "gt", 20), ("eo:cloud_cover", "lt", 60)], {"eo:cloud_cover": {"gt": 20, "lt": 60}}),
        ([("platform", "eq", "Sentinel-2A")], {"platform": {"eq": "Sentinel-2A"}}),
        ([("platform", "neq", "Sentinel-2A")], {"platform": {"neq": "Sentinel-2A"}}),
        ([("gsd", "gte", 30), ("eo:cloud_cover", "lt", 90)], {"gsd": {"gte": 30}, "eo:cloud_cover": {"lt": 90}}),
    ],
)
async def test_properties(host, filters, query):
    conditions = tuple(PropertyFilter(name=name, comparison=how, value=value) for name, how, value in filters)
    assert ids(await everything(host, filters=conditions, limit=13)) == expected(query=query)


async def test_everything_at_once(host):
    found = await everything(
        host,
        geometry=AREA,
        collections=("sentinel-2-l2a",),
        start=datetime(2024, 1, 1, tzinfo=UTC),
        filters=(PropertyFilter(name="eo:cloud_cover", comparison="lte", value=50),),
        limit=4,
    )
    wanted = expected(
        intersects=AREA,
        collections=["sentinel-2-l2a"],
        datetime="2024-01-01T00:00:00+00:00/..",
        query={"eo:cloud_cover": {"lte": 50}},
    )
    assert ids(found) == wanted
    assert len(found) > 4


async def test_nothing_is_an_empty_page(host):
    page = await host.search(HostQuery(collections=("nobody has this",)))
    assert (list(page.features), page.cursor) == ([], None)


async def test_a_foreign_cursor_is_refused(host):
    with pytest.raises(HostFailed) as refused:
        await host.search(HostQuery(cursor="not one of ours"))
    assert refused.value.refused
