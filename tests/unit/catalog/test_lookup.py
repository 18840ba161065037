"""Captures by id: where they are, what they are, and why they cannot be had."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from shapely.geometry import shape

from geopera_server.adapters.hosts.archive import SceneIndex
from geopera_server.adapters.hosts.fake import FakeHost
from geopera_server.domains.catalog import lookup
from geopera_server.domains.catalog.captures import CaptureProblem, FoundCapture, WantedCapture
from geopera_server.domains.catalog.lookup import find_captures
from geopera_server.ports.host import HostFailed
from geopera_server.values.clock import now
from support.catalogue import collection, item, opened_catalogue, source
from support.stac_api import StacApi, real_items

S2 = real_items()


@pytest.fixture
def api():
    with StacApi(S2) as running:
        yield running


@pytest_asyncio.fixture
async def catalogue(empty_catalogue, api):
    open_s2 = collection("sentinel-2-l2a", access_model="open", gsd=10.0)
    connector = {"kind": "stac", "url": api.url}
    await empty_catalogue.put(
        source("open-api", access_model="open", license="CC0", collections=[open_s2], connector=connector)
    )
    scenes = [item("A", "2024-05-01T12:00:00Z", gsd=0.5, **{"eo:cloud_cover": 7.5}), item("B", "2024-05-02T00:00:00Z")]
    await empty_catalogue.put(source("archive", vendor="acme"), scenes)
    return empty_catalogue


async def find(catalogue, *wanted, **how):
    return await find_captures(catalogue.outside(), wanted, **how)


def codes(found):
    return [each.code if isinstance(each, CaptureProblem) else each.id for each in found]


async def test_captures_of_several_hosts_in_the_order_asked_for(catalogue, api):
    wanted = [("open-api", S2[5]["id"]), ("archive", "A"), ("open-api", S2[7]["id"]), ("archive", "A")]
    found = await find(catalogue, *wanted)
    assert [(each.host, each.id) for each in found] == wanted
    assert len(api.searches) == 1
    assert sorted(api.searches[0].fields["ids"]) == sorted([S2[5]["id"], S2[7]["id"]])


async def test_what_a_capture_tells(catalogue):
    opened, sold = await find(catalogue, ("open-api", S2[5]["id"]), ("archive", "A"))
    assert (opened.vendor, opened.open_data, opened.license, opened.resolution) == ("open-api", True, "CC0", "10m")
    assert opened.assets == S2[5]["assets"]
    assert opened.properties == S2[5]["properties"]
    assert shape(opened.footprint).equals(shape(S2[5]["geometry"]))
    assert shape(opened.footprint).exterior.is_ccw
    assert (sold.vendor, sold.open_data, sold.resolution, sold.gsd, sold.cloud_cover) == ("acme", False, "0.5m", 0.5, 7.5)
    assert sold.captured_at == datetime(2024, 5, 1, 12, tzinfo=UTC)
    assert sold.thumbnail == "https://img.example/A.jpg"
    assert (sold.orderable, sold.stale) == (True, False)


async def test_a_capture_survives_as_json(catalogue):
    for capture in await find(catalogue, ("open-api", S2[5]["id"]), ("archive", "A")):
        assert FoundCapture.from_json(capture.as_json()) == capture


async def test_problems_are_answers(catalogue):
    found = await find(catalogue, ("nobody", "A"), ("archive", "none"), ("open-api", "none"), (None, "none"), ("archive", "B"))
    assert codes(found) == ["capture_not_found"] * 4 + ["B"]
    assert "'nobody'" in found[0].message
    assert "at archive" in found[1].message


@pytest.mark.parametrize("host", [None, "", "geopera", "api.geopera.com", "geo.example:8000"])
async def test_without_a_host_it_must_be_at_one_only(catalogue, host):
    await catalogue.put(source("twin"), [item("B", "2024-05-02T00:00:00Z"), item("C", "2024-05-02T00:00:00Z")])
    found = await find(catalogue, (host, "A"), (host, "B"), (host, S2[0]["id"]), (host, "C"))
    assert codes(found) == ["A", "host_required", S2[0]["id"], "C"]
    assert "archive, twin" in found[1].message


async def test_what_is_not_for_sale(catalogue):
    kept = item("KEPT", "2024-05-01T00:00:00Z", **{"geopera:orderable": False})
    await catalogue.put(source("archive"), [kept])
    (problem,) = await find(catalogue, ("archive", "KEPT"))
    assert problem.code == "not_orderable"
    (capture,) = await find(catalogue, ("archive", "KEPT"), for_order=False)
    assert capture.orderable is False


async def test_a_second_look_costs_no_call(catalogue, api, monkeypatch):
    first = await find(catalogue, *(("open-api", each["id"]) for each in S2[:3]))
    again = await find(catalogue, *(("open-api", each["id"]) for each in S2[1:4]))
    assert [request.fields["ids"] for request in api.searches[1:]] == [[S2[3]["id"]]]
    assert again[:2] == first[1:]


async def test_many_are_asked_for_in_batches(catalogue, api, monkeypatch):
    monkeypatch.setattr(lookup, "IDS_PER_SEARCH", 30)
    found = await find(catalogue, *(("open-api", each["id"]) for each in S2))
    assert [each.id for each in found] == [each["id"] for each in S2]
    assert [len(request.fields["ids"]) for request in api.searches] == [30, 30, 30, 10]


async def test_a_host_that_fails_harms_only_its_captures(catalogue, api):
    api.fail(500)
    found = await find(catalogue, ("archive", "A"), ("open-api", S2[0]["id"]), (None, "A"), (None, S2[0]["id"]))
    assert codes(found) == ["A", "host_failed", "A", "host_failed"]
    assert (found[1].host, found[1].timed_out) == ("open-api", False)
    assert "500" in found[1].message


async def test_a_known_capture_outlives_its_host(catalogue, api, monkeypatch):
    await find(catalogue, *(("open-api", each["id"]) for each in S2[:3]))
    api.close()
    monkeypatch.setattr("support.catalogue.now", lambda: now() + timedelta(hours=1))
    known, unknown = await find(catalogue, ("open-api", S2[1]["id"])), await find(catalogue, ("open-api", S2[9]["id"]))
    assert (codes(known), known[0].stale) == ([S2[1]["id"]], True)
    assert codes(unknown) == ["host_failed"]


async def test_a_mirrored_capture_outlives_its_host(catalogue, api):
    (live,) = await find(catalogue, ("open-api", S2[8]["id"]))
    await catalogue.sql("DELETE FROM host_reply")
    (mirrored_source,) = await catalogue.sql("SELECT * FROM catalog_source WHERE id = 'open-api'")
    del mirrored_source["updated_at"]
    await catalogue.put(type(source("x"))(**mirrored_source), S2[:10])
    api.close()
    found, unknown = await find(catalogue, ("open-api", S2[8]["id"]), ("open-api", S2[20]["id"]))
    assert found.stale
    assert (found.vendor, found.resolution, found.open_data) == (live.vendor, live.resolution, live.open_data)
    assert shape(found.footprint).equals(shape(live.footprint))
    assert (unknown.code, "mirror" in unknown.message) == ("host_failed", True)


async def test_slow_hosts_are_told_apart(database):
    host = FakeHost([], failures=[HostFailed("It did not answer within 20 s.", timed_out=True)])
    async with opened_catalogue(database, host_for=lambda _: host) as catalogue:
        await catalogue.put(source("slow", connector={"kind": "stac", "url": "http://fake"}))
        (problem,) = await find(catalogue, ("slow", "A"))
        assert (problem.code, problem.timed_out) == ("host_failed", True)


async def test_one_id_in_two_collections_is_the_one_asked_for(database):
    twins = [item("A", "2024-05-01T00:00:00Z", collection=each) for each in ("late", "early")]
    host = FakeHost(twins)
    async with opened_catalogue(database, host_for=lambda _: host) as catalogue:
        listed = [collection("early"), collection("late")]
        await catalogue.put(source("two", collections=listed, connector={"kind": "stac", "url": "http://fake"}))
        found = await find(
            catalogue, WantedCapture("two", "A"), WantedCapture("two", "A", "late"), WantedCapture("two", "A", "x")
        )
        assert [each.collection for each in found[:2]] == ["early", "late"]
        assert found[2].code == "capture_not_found"


async def test_only_our_own_index_may_name_another_vendor(database):
    claimed = item("A", "2024-05-01T00:00:00Z", **{"geopera:vendor": "cheap"})
    async with opened_catalogue(database) as catalogue:
        with StacApi([claimed]) as api:
            await catalogue.put(source("outside", connector={"kind": "stac", "url": api.url}))
            await catalogue.put(source("ours"), [claimed])
            found = await find(catalogue, ("outside", "A"), ("ours", "A"))
        assert [each.vendor for each in found] == ["outside", "cheap"]


async def test_hosts_are_asked_side_by_side(database, api):
    asked = []

    class Gate:
        """Answers only once both hosts have been asked."""

        def __init__(self, host):
            self.host = host

        async def search(self, query):
            asked.append(self.host)
            while len(asked) < 2:
                await catalogue.sql("SELECT 1")
            return await FakeHost([item(f"of-{self.host}", "2024-05-01T00:00:00Z")]).search(query)

    async with opened_catalogue(database, host_for=lambda connector: Gate(connector["host"])) as catalogue:
        for name in ("one", "two"):
            await catalogue.put(source(name, connector={"kind": "stac", "url": f"http://{name}"}))
        found = await find(catalogue, ("one", "of-one"), ("two", "of-two"))
        assert codes(found) == ["of-one", "of-two"]


async def test_deleted_scenes_are_gone(catalogue):
    await catalogue.op("catalog.admin.scenes_delete", {"host": "archive", "ids": ["A"]})
    assert codes(await find(catalogue, ("archive", "A"), (None, "A"))) == ["capture_not_found"] * 2
    page = await SceneIndex(catalogue.pool.connection, "archive").search(lookup.HostQuery())
    assert [each["id"] for each in page.features] == ["B"]
