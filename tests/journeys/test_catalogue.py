"""Searching a STAC API over HTTP, as one source among others, in good times and bad."""

from __future__ import annotations

import pytest

from support.scenes import ARCHIVE, open_archive
from support.serving import problem_of
from support.stac_api import StacApi, real_items

COLORADO = [-109.1, 36.9, -101.9, 41.1]


@pytest.fixture
def api():
    with StacApi(real_items("100-s2.json")) as running:
        yield running


@pytest.fixture
async def source(server, api):
    """A registered STAC host over a hundred real Sentinel-2 items."""
    collections = sorted({item["collection"] for item in real_items("100-s2.json")})
    row = {
        **ARCHIVE,
        "id": "colorado",
        "title": "Colorado",
        "access_model": "open",
        "vendor": "colorado",
        "collections": [{**ARCHIVE["collections"][0], "id": each, "access_model": "open"} for each in collections],
        "connector": {"kind": "stac", "url": api.url},
    }
    operator = await server.operator()
    await operator.op("catalog.admin.source_save", row)
    return row


async def test_paging_through_a_host_finds_each_item_once(server, source):
    query = {"host_name": "colorado", "bbox": COLORADO, "limit": 30}
    found, cursor = [], None
    while True:
        page = await server.home.op("catalog.search", {**query, **({"next": cursor} if cursor else {})})
        assert len(page["features"]) <= 30
        found += page["features"]
        cursor = page["next"]
        if cursor is None:
            break
        if len(found) == 30:
            assert await server.home.refused(
                "catalog.search", {**query, "datetime": "2024-01-01T00:00:00Z/..", "next": cursor}
            ) == (422, "invalid_input")
    assert sorted(feature["id"] for feature in found) == sorted(item["id"] for item in real_items("100-s2.json"))
    times = [feature["properties"]["datetime"] for feature in found]
    assert times == sorted(times, reverse=True)
    for feature in found:
        assert feature["host"] == "colorado"
        assert feature["properties"]["cloudCoverage"] == feature["properties"]["eo:cloud_cover"]
        assert feature["properties"]["geopera:pricing"]["price_per_sqkm"] == 0


async def test_the_address_of_the_next_page_carries_the_cursor(server, source):
    """Clients that repost the same body to the address of the next link get the next page."""
    query = {"host_name": "colorado", "bbox": COLORADO, "limit": 40}
    first = await server.home.op("catalog.search", query)
    [link] = [each for each in first["links"] if each["rel"] == "next"]
    headers = {"Authorization": f"Bearer {server.place.home.api_key}"}
    second = (await server.http.post(link["href"], json=query, headers=headers)).json()
    expected = await server.home.op("catalog.search", link["body"])
    assert [each["id"] for each in second["features"]] == [each["id"] for each in expected["features"]]
    assert {each["id"] for each in second["features"]}.isdisjoint(each["id"] for each in first["features"])


async def test_both_cloud_spellings_mean_the_same(server, source):
    spellings = [{"cloudCoverage": {"LTE": 20}}, {"eo:cloud_cover": {"lte": 20}}, {"EO:cloud_cover": {"Lte": 20}}]
    replies = [
        await server.home.op("catalog.search", {"host_name": "colorado", "query": query, "limit": 500})
        for query in spellings[:2]
    ]
    ids = [[feature["id"] for feature in reply["features"]] for reply in replies]
    expected = {item["id"] for item in real_items("100-s2.json") if item["properties"]["eo:cloud_cover"] <= 20}
    assert set(ids[0]) == set(ids[1]) == expected
    assert 0 < len(expected) < 100


async def test_a_federated_search_survives_a_failing_source(server, source, api, shared_data):
    await open_archive(server, shared_data)
    api.fail(500)
    reply = await server.home.op("catalog.federated_search", {"source_ids": ["colorado", "test-archive"], "limit": 50})
    sources = {each["source_id"]: each for each in reply["sources"]}
    assert sources["colorado"]["error"]
    assert sources["test-archive"].get("error") is None
    assert {feature["properties"]["geopera:source_id"] for feature in reply["features"]} == {"test-archive"}


async def test_a_host_that_fails_is_told_and_one_that_answered_is_remembered(server, source, api):
    query = {"host_name": "colorado", "limit": 5}
    first = await server.home.op("catalog.search", query)
    await server.sql("UPDATE host_reply SET fetched_at = fetched_at - interval '1 hour'")
    api.answer(b"<html>maintenance</html>")
    stale = await server.home.op("catalog.search", query)
    assert stale["stale"] is True
    assert [feature["id"] for feature in stale["features"]] == [feature["id"] for feature in first["features"]]
    refused = await server.home.post("catalog.search", {**query, "limit": 6})
    assert (refused.status_code, problem_of(refused)["code"]) == (502, "upstream_error")


async def test_open_scenes_of_a_host_are_priced_by_what_the_host_says(server, source):
    [item] = real_items("100-s2.json")[:1]
    estimate = await server.home.op("orders.archive.estimate", {"captures": [{"id": item["id"], "host": "colorado"}]})
    assert (estimate["errors"], estimate["total_credits"]) == ([], 0)
    [group] = estimate["groups"]
    assert (group["licenseType"], group["captureIds"]) == ("open", [item["id"]])
    assert group["areaSqkm"] > 1000
    wrong = await server.home.op("orders.archive.estimate", {"captures": [{"id": "NOT_THERE", "host": "colorado"}]})
    assert [error["code"] for error in wrong["errors"]] == ["capture_not_found"]
