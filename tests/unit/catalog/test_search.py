"""Searching through the kernel: real hosts over loopback, the index, the cache, and what is left when hosts are gone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from shapely.geometry import box, mapping

from geopera_server.adapters.hosts.fake import FakeHost
from geopera_server.domains.catalog import merging
from geopera_server.domains.catalog.sources import Source
from geopera_server.kernel.errors import InvalidInput, NotFound, Unavailable
from geopera_server.kernel.principal import PLATFORM_ORGANIZATION_ID
from geopera_server.ports.host import HostFailed
from geopera_server.values.clock import now
from support.catalogue import BASE_URL, collection, item, opened_catalogue, put_scenes, source
from support.stac_api import StacApi, real_items

S2 = real_items()
OPEN_S2 = collection("sentinel-2-l2a", access_model="open", gsd=10.0)


def stac_source(api: StacApi, source_id: str = "open-api", **more) -> Source:
    values = {"access_model": "open", "license": "CC0", "collections": [OPEN_S2]}
    return source(source_id, **{**values, **more, "connector": {"kind": "stac", "url": api.url}})


@pytest.fixture
def catalogue(empty_catalogue):
    return empty_catalogue


@pytest.fixture
def api():
    with StacApi(S2) as running:
        yield running


async def price(catalogue, vendor: str, resolution: str = "0.5m", aud: str = "10.00", minimum: int = 25) -> None:
    await catalogue.sql(
        "INSERT INTO price_rule VALUES (gen_random_uuid(), %s, %s, %s, 'archive', %s, %s, NULL, 'test', now(), now())",
        PLATFORM_ORGANIZATION_ID, vendor, resolution, aud, minimum,
    )  # fmt: skip


async def walk(catalogue, body: dict, *, pages: int = 100) -> list[dict]:
    """Follows the `next` links as they are written and returns all features."""
    found, reply = [], await catalogue.op("catalog.search", body)
    for _ in range(pages):
        found += reply["features"]
        if reply["next"] is None:
            assert reply["links"] == []
            return found
        (link,) = reply["links"]
        assert link["href"] == f"{BASE_URL}/v1/op/catalog.search?next={reply['next']}"
        reply = await catalogue.op("catalog.search", link["body"])
    pytest.fail("the pages never end")


def ids(features) -> list[str]:
    return [feature["id"] for feature in features]


async def test_open_data_over_a_real_api(catalogue, api):
    await catalogue.put(stac_source(api))
    west, south, east, north = S2[0]["bbox"]
    asked = {
        "host_name": "open-api", "collections": ["sentinel-2-l2a"], "bbox": [west, south, east, north],
        "datetime": "2024-11-01T00:00:00Z/..", "query": {"cloudCoverage": {"LTE": 20}}, "limit": 3,
    }  # fmt: skip
    reply = await catalogue.op("catalog.search", asked)
    assert set(reply) == {"type", "features", "numberReturned", "numberMatched", "next", "links"}
    assert reply["numberReturned"] == len(reply["features"]) == 3
    assert reply["numberMatched"] > 3
    feature = reply["features"][0]
    assert {"id", "geometry", "bbox", "properties", "assets", "collection", "host"} <= feature.keys()
    properties = feature["properties"]
    assert properties["cloudCoverage"] == properties["eo:cloud_cover"] <= 20
    assert {
        "id",
        "constellation",
        "collection",
        "producer",
        "datetime",
        "resolution",
        "deliveryTime",
        "providerProperties",
    } <= (properties.keys())
    assert (feature["host"], properties["resolution"]) == ("open-api", 10.0)
    assert properties["geopera:orderable"] is True
    pricing = properties["geopera:pricing"]
    assert (pricing["price_per_sqkm"], pricing["license"], pricing["license_types"]) == (0, "CC0", ["open"])
    assert pricing["estimated_total_credits"] == 0
    assert set(feature["assets"]) >= set(S2[0]["assets"])
    everything = await walk(catalogue, asked)
    times = [feature["properties"]["datetime"] for feature in everything]
    assert times == sorted(times, reverse=True)
    assert len(set(ids(everything))) == len(everything) == reply["numberMatched"]


async def test_cloud_filter_in_every_spelling(catalogue, api):
    await catalogue.put(stac_source(api))
    clear = sorted(each["id"] for each in S2 if each["properties"]["eo:cloud_cover"] <= 20)
    for spelling, operator in [
        ("eo:cloud_cover", "lte"),
        ("cloudCoverage", "LTE"),
        ("cloud_cover", "Lte"),
        ("EO:Cloud_Cover", "lte"),
    ]:
        body = {"host_name": "open-api", "query": {spelling: {operator: 20}}, "limit": 500}
        assert sorted(ids((await catalogue.op("catalog.search", body))["features"])) == clear


async def test_prices_of_a_commercial_host(catalogue):
    await catalogue.put(
        source("seller", collections=[collection("vhr", gsd=0.5)]),
        [
            item("big", "2024-05-01T00:00:00Z", 0, 0, collection="vhr"),
            item("far", "2024-05-02T00:00:00Z", 50, 0, collection="vhr"),
        ],
    )
    await price(catalogue, "seller")
    area = [0.5, 0.5, 0.6, 0.6]
    (feature,) = (await catalogue.op("catalog.search", {"host_name": "seller", "bbox": area}))["features"]
    pricing = feature["properties"]["geopera:pricing"]
    covered = pricing["estimated_total_credits"] / 1000
    assert covered == pytest.approx(123.1, abs=0.3)
    assert pricing == {
        "vendor": "seller", "resolution": "0.5m", "currency": "AUD", "price_per_sqkm": 10.0, "credits_per_sqkm": 1000.0,
        "minimum_area_sqkm": 25.0, "license_types": ["standard", "extended", "public_display"],
        "estimated_total_aud": pricing["estimated_total_credits"] / 100,
        "estimated_total_credits": pricing["estimated_total_credits"],
    }  # fmt: skip
    tiny = await catalogue.op("catalog.search", {"host_name": "seller", "bbox": [0.5, 0.5, 0.501, 0.501]})
    assert tiny["features"][0]["properties"]["geopera:pricing"]["estimated_total_credits"] == 25_000
    whole = await catalogue.op("catalog.search", {"host_name": "seller"})
    assert whole["features"][1]["properties"]["geopera:pricing"]["estimated_total_credits"] is None


async def test_what_cannot_be_ordered_is_shown_only_in_the_full_catalogue(catalogue):
    scenes = [item(f"S{n}", f"2024-05-{n:02}T00:00:00Z", gsd=0.5 if n % 3 else 0.7) for n in range(1, 13)]
    await catalogue.put(source("seller"), scenes)
    await price(catalogue, "seller", "0.7m")
    assert ids(await walk(catalogue, {"host_name": "seller", "limit": 2})) == ["S12", "S9", "S6", "S3"]
    full = await walk(catalogue, {"host_name": "seller", "limit": 5, "full_catalog": True})
    assert len(full) == 12
    unpriced = full[1]["properties"]
    assert (unpriced["geopera:pricing"], unpriced["geopera:orderable"]) == (None, False)
    assert unpriced["geopera:not_orderable_reason"] == "no_price"


async def test_customers_never_see_what_is_sold_or_where_it_lies(catalogue):
    assets = {
        "data": {"href": "/srv/secret/a.tif", "type": "image/tiff"},
        "cog": {"href": "https://cdn.example/a.tif", "type": "image/tiff; application=geotiff", "roles": ["data"]},
        "rendered_preview": {"href": "https://cdn.example/a.png", "type": "image/png", "roles": ["overview"]},
    }
    sold, given = item("A", "2024-05-01T00:00:00Z", assets=assets), item("B", "2024-05-01T00:00:00Z", assets=assets)
    await catalogue.put(source("seller"), [sold])
    await catalogue.put(source("giver", access_model="open"), [given])
    reply = await catalogue.op("catalog.search", {"full_catalog": True})
    shown = {feature["host"]: feature["assets"] for feature in reply["features"]}
    assert set(shown["seller"]) == {"rendered_preview", "thumbnail", "quicklook"}
    assert set(shown["giver"]) == {"cog", "rendered_preview", "thumbnail", "quicklook"}
    assert shown["giver"]["thumbnail"]["href"] == "https://cdn.example/a.png"


async def test_all_sources_as_one_list(catalogue, api):
    await catalogue.put(stac_source(api))
    mine = [item(f"M{n:02}", f"2024-{n:02}-15T00:00:00Z", -105.3, 39.9) for n in range(1, 13)]
    await catalogue.put(source("archive", access_model="open"), mine)
    by_id = sorted([*S2, *mine], key=lambda each: each["id"])
    expected = sorted(by_id, key=lambda each: each["properties"]["datetime"], reverse=True)
    assert ids(await walk(catalogue, {"limit": 17})) == ids(expected)
    for host in ("geopera", "API.geopera.com", "geo.example"):
        reply = await catalogue.op("catalog.search", {"host_name": host, "limit": 17})
        assert ids(reply["features"]) == ids(expected[:17])
    assert [(each["source_id"], each["error"]) for each in reply["sources"]] == [("archive", None), ("open-api", None)]


async def test_a_full_page_costs_one_call_of_the_host(catalogue, api):
    await catalogue.put(stac_source(api))
    await catalogue.op("catalog.search", {"host_name": "open-api", "limit": 10})
    assert len(api.searches) == 1


async def test_the_same_scene_of_two_sources_comes_once(catalogue, api):
    await catalogue.put(stac_source(api, "first"))
    await catalogue.put(stac_source(api, "second", title="Zweite"))
    found = await walk(catalogue, {"limit": 9})
    assert sorted(ids(found)) == sorted(ids(S2))
    reply = await catalogue.op("catalog.federated_search", {"limit": 500})
    assert sorted(ids(reply["features"])) == sorted(ids(S2))
    assert sum(each["count"] for each in reply["sources"]) == 100


@pytest.mark.parametrize("trouble", ["tampered", "foreign", "old", "other-filters", "other-host"])
async def test_a_cursor_works_only_for_its_own_search(catalogue, api, trouble, monkeypatch):
    await catalogue.put(stac_source(api))
    await catalogue.put(stac_source(api, "other"))
    asked = {"host_name": "open-api", "limit": 5, "query": {"cloudCoverage": {"lte": 50}}}
    token = (await catalogue.op("catalog.search", asked))["next"]
    again = {**asked, "next": token}
    if trouble == "tampered":
        again["next"] = token[:-2] + ("AA" if token[-2:] != "AA" else "BB")
    elif trouble == "foreign":
        again["next"] = catalogue.kernel.links.seal('{"of": "something else"}')
    elif trouble == "old":
        monkeypatch.setattr("geopera_server.kernel.pipeline.now", lambda: now() + timedelta(hours=25))
    elif trouble == "other-filters":
        again["query"] = {"cloudCoverage": {"lte": 60}}
    else:
        again["host_name"] = "other"
    with pytest.raises(InvalidInput) as refused:
        await catalogue.op("catalog.search", again)
    assert refused.value.issues[0]["loc"] == ["body", "next"]


async def test_a_cursor_goes_with_any_limit_and_spelling(catalogue, api):
    await catalogue.put(stac_source(api))
    first = await catalogue.op("catalog.search", {"host_name": "open-api", "limit": 10, "ids": []})
    rest = await catalogue.op("catalog.search", {"host_name": "open-api", "limit": 95, "next": first["next"]})
    assert len({*ids(first["features"]), *ids(rest["features"])}) == 10 + len(rest["features"])
    assert len(rest["features"]) >= 50


@pytest.mark.parametrize(
    ("wrong", "loc"),
    [
        ({"bbox": [0, 0, 1, 1], "intersects": {"type": "Point", "coordinates": [0, 0]}}, "intersects"),
        ({"bbox": [0, 0, 1]}, "bbox"),
        ({"datetime": "yesterday"}, "datetime"),
        ({"query": {"cloudCoverage": {"about": 20}}}, "query"),
        ({"query": {"platform": {"eq": {"no": 1}}}}, "query"),
        ({"collections": ["sentinel-2-l2a", "made-up"]}, "collections"),
        ({"limit": 501}, "limit"),
        ({"ids": [str(n) for n in range(501)]}, "ids"),
        ({"next": "abc"}, "next"),
    ],
)
async def test_bad_input_is_told_where(catalogue, api, wrong, loc):
    await catalogue.put(stac_source(api))
    with pytest.raises(InvalidInput) as refused:
        await catalogue.op("catalog.search", {"host_name": "open-api", **wrong})
    assert refused.value.issues[0]["loc"][:2] == ["body", loc]


async def test_unknown_hosts_and_sources(catalogue, api):
    await catalogue.put(stac_source(api, active=False))
    for host in ("nobody", "open-api"):
        with pytest.raises(NotFound):
            await catalogue.op("catalog.search", {"host_name": host})
        with pytest.raises(NotFound):
            await catalogue.op("catalog.federated_search", {"source_ids": [host]})


async def test_an_identical_search_is_not_asked_twice_within_ten_minutes(catalogue, api, monkeypatch):
    await catalogue.put(stac_source(api))
    asked = {"host_name": "open-api", "collections": ["sentinel-2-l2a"], "limit": 4}
    first = await catalogue.op("catalog.search", asked)
    again = await catalogue.op("catalog.search", asked)
    # The cursor says until when it is good, which moves on.
    assert {**again, "next": None, "links": None} == {**first, "next": None, "links": None}
    assert len(api.searches) == 1
    await catalogue.op("catalog.search", {**asked, "limit": 5})
    assert len(api.searches) == 2
    monkeypatch.setattr("geopera_server.kernel.pipeline.now", lambda: now() + timedelta(minutes=11))
    await catalogue.op("catalog.search", asked)
    assert len(api.searches) == 3


async def test_a_host_that_went_down_is_stood_in_for_by_its_last_answer(catalogue, api, monkeypatch):
    await catalogue.put(stac_source(api))
    asked = {"host_name": "open-api", "limit": 4}
    first = await catalogue.op("catalog.search", asked)
    assert "stale" not in first
    api.fail(500)
    monkeypatch.setattr("geopera_server.kernel.pipeline.now", lambda: now() + timedelta(minutes=11))
    later = await catalogue.op("catalog.search", asked)
    assert later["stale"] is True
    assert later["features"] == first["features"]
    with pytest.raises(Unavailable) as failed:
        await catalogue.op("catalog.search", {**asked, "limit": 3})
    assert failed.value.code == "upstream_error"
    assert "open-api" in failed.value.detail


async def test_a_host_that_is_too_slow_is_another_error(database, api):
    async with opened_catalogue(database, host_timeout_s=0.2) as catalogue:
        await catalogue.put(stac_source(api))
        api.slow(30)
        for _ in range(2):
            with pytest.raises(Unavailable) as failed:
                await catalogue.op("catalog.search", {"host_name": "open-api"})
            assert (failed.value.code, failed.value.status) == ("upstream_timeout", 503)
        assert len(api.searches) == 1


async def test_a_host_never_reached_is_stood_in_for_by_its_mirror(catalogue, api):
    await catalogue.put(stac_source(api), S2[:30])
    api.close()
    found = await walk(catalogue, {"host_name": "open-api", "limit": 7})
    assert ids(found) == ids(sorted(S2[:30], key=lambda each: each["properties"]["datetime"], reverse=True))
    reply = await catalogue.op("catalog.search", {"host_name": "open-api", "ids": [S2[3]["id"]]})
    assert reply["stale"] is True
    assert set(reply["features"][0]["assets"]) >= set(S2[3]["assets"])
    empty = await catalogue.op("catalog.search", {"host_name": "open-api", "ids": ["not mirrored"]})
    assert (empty["features"], empty["stale"]) == ([], True)


async def test_one_failing_source_harms_no_other(catalogue, api):
    await catalogue.put(stac_source(api))
    await catalogue.put(source("archive", access_model="open"), [item("A", "2024-05-01T00:00:00Z")])
    api.answer(b"<html>down for maintenance</html>")
    reply = await catalogue.op("catalog.federated_search", {"limit": 10})
    assert ids(reply["features"]) == ["A"]
    assert [each["error"] for each in reply["sources"]] == [None, "It answered with a web page in place of STAC."]
    merged = await catalogue.op("catalog.search", {})
    assert ids(merged["features"]) == ["A"]
    assert merged["sources"][1]["error"]
    assert merged["next"] is None
    alone = await catalogue.op("catalog.federated_search", {"source_ids": ["open-api"]})
    assert alone["features"] == []
    assert alone["sources"][0]["count"] == 0


async def test_only_sources_that_may_have_it_are_asked(catalogue, api):
    far = mapping(box(0, 0, 10, 10))
    sar = collection("sar", data_type="sar", access_model="open")
    await catalogue.put(stac_source(api, "far", coverage=far))
    await catalogue.put(
        source("radar", collections=[sar], access_model="open"), [item("R", "2024-05-01T00:00:00Z", -105, 40, collection="sar")]
    )
    near = {"bbox": [-105.5, 39.5, -104.5, 40.5]}
    reply = await catalogue.op("catalog.federated_search", near)
    assert [each["source_id"] for each in reply["sources"]] == ["radar"]
    assert api.searches == []
    (feature,) = reply["features"]
    assert feature["properties"]["geopera:source_id"] == "radar"
    assert feature["properties"]["geopera:data_type"] == "sar"
    by_type = await catalogue.op("catalog.federated_search", {"data_types": ["optical"]})
    assert [each["source_id"] for each in by_type["sources"]] == ["far"]
    by_collection = await catalogue.op("catalog.federated_search", {"collections": ["sar"]})
    assert [each["source_id"] for each in by_collection["sources"]] == ["radar"]
    nobody = await catalogue.op("catalog.federated_search", {"collections": ["made-up"]})
    assert (nobody["features"], nobody["sources"]) == ([], [])


async def test_a_page_that_fails_later_can_be_asked_for_again(database):
    host = FakeHost([item(f"S{n}", f"2024-05-{n:02}T00:00:00Z", gsd=1.0) for n in range(1, 10)])
    async with opened_catalogue(database, host_for=lambda _: host) as catalogue:
        await catalogue.put(source("seller", connector={"kind": "stac", "url": "http://fake"}, access_model="open"))
        first = await catalogue.op("catalog.search", {"host_name": "seller", "limit": 4})
        host.failures = [HostFailed("It answers 500.")]
        with pytest.raises(Unavailable):
            await catalogue.op("catalog.search", {"host_name": "seller", "limit": 4, "next": first["next"]})
        second = await catalogue.op("catalog.search", {"host_name": "seller", "limit": 4, "next": first["next"]})
        assert ids(second["features"]) == ["S5", "S4", "S3", "S2"]


async def test_pages_that_show_nothing_do_not_go_on_for_ever(database, monkeypatch):
    monkeypatch.setattr(merging, "PAGES_PER_CALL", 3)
    host = FakeHost([item(f"S{n:03}", "2024-05-01T00:00:00Z", gsd=1.0) for n in range(100)])
    async with opened_catalogue(database, host_for=lambda _: host) as catalogue:
        await catalogue.put(source("unpriced", connector={"kind": "stac", "url": "http://fake"}))
        await price(catalogue, "unpriced", "0.5m")
        reply = await catalogue.op("catalog.search", {"host_name": "unpriced", "limit": 10})
        assert reply["features"] == []
        assert len(host.queries) == 3
        assert await walk(catalogue, {"host_name": "unpriced", "limit": 10}) == []


async def test_what_nobody_can_order_is_not_leafed_through(database):
    host = FakeHost([item("A", "2024-05-01T00:00:00Z", gsd=1.0)])
    async with opened_catalogue(database, host_for=lambda _: host) as catalogue:
        await catalogue.put(source("unpriced", connector={"kind": "stac", "url": "http://fake"}))
        scenes = [item(f"S{n}", "2024-05-01T00:00:00Z", collection=f"c{n}", gsd=float(n)) for n in (1, 2, 3)]
        await catalogue.put(source("archive"), scenes)
        await price(catalogue, "archive", "2m")
        for asked, collections in [({}, ("c2",)), ({"collections": ["c1", "c2"]}, ("c2",)), ({"full_catalog": True}, ())]:
            host.queries.clear()
            await catalogue.op("catalog.search", {"host_name": "archive", **asked})
            assert [query.collections for query in host.queries] == [collections]
        host.queries.clear()
        none = await catalogue.op("catalog.search", {"host_name": "unpriced"})
        assert (none["features"], none["next"], host.queries) == ([], None, [])
        full = await catalogue.op("catalog.search", {"host_name": "unpriced", "full_catalog": True})
        assert ids(full["features"]) == ["A"]


async def test_searching_leaves_no_trace_but_the_cache(catalogue, api):
    await catalogue.put(stac_source(api))
    await catalogue.op("catalog.search", {"host_name": "open-api"})
    for table in ("ledger_entry", "lineage_record", "outbox_event", "idempotency_record"):
        (row,) = await catalogue.sql(f"SELECT count(*) AS rows FROM {table} WHERE invocation_id IS NOT NULL")
        assert row["rows"] <= 2  # the opening balances of the prepared database
    assert len(await catalogue.sql("SELECT 1 FROM host_reply")) == 1


async def test_mirror_and_host_describe_a_capture_alike(catalogue, api):
    await catalogue.put(stac_source(api), S2[:1])
    asked = {"host_name": "open-api", "ids": [S2[0]["id"]]}
    live = (await catalogue.op("catalog.search", asked))["features"][0]
    await catalogue.sql("DELETE FROM host_reply")
    api.close()
    mirrored = (await catalogue.op("catalog.search", asked))["features"][0]
    assert mirrored["properties"].pop("gsd") == 10
    live["properties"].pop("gsd")
    assert mirrored["properties"] == live["properties"]
    assert mirrored["assets"] == live["assets"]


async def test_scenes_put_by_hand_are_found_at_once(catalogue):
    await catalogue.put(source("archive", access_model="open"), [item("A", "2024-05-01T00:00:00Z")])
    assert ids((await catalogue.op("catalog.search", {"host_name": "archive"}))["features"]) == ["A"]
    async with catalogue.pool.connection() as conn:
        await put_scenes(conn, source("archive", access_model="open"), [item("B", "2024-05-02T00:00:00Z")])
    assert ids((await catalogue.op("catalog.search", {"host_name": "archive"}))["features"]) == ["B", "A"]
