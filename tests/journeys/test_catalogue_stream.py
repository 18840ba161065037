"""A search that tells of each source as it answers, and the pictures of scenes, over HTTP."""

from __future__ import annotations

import json

import pytest

from geopera_server.domains.catalog import streaming
from support.scenes import ARCHIVE
from support.serving import problem_of
from support.stac_api import StacApi, real_items

COLORADO = [-109.1, 36.9, -101.9, 41.1]


@pytest.fixture
def apis():
    with StacApi(real_items("100-s2.json")) as quick, StacApi(real_items("100-landsat.json")) as other:
        yield quick, other


@pytest.fixture
async def sources(server, apis):
    operator = await server.operator()
    for name, api, file in zip(("quick", "other"), apis, ("100-s2.json", "100-landsat.json"), strict=True):
        listed = [
            {**ARCHIVE["collections"][0], "id": each, "access_model": "open"}
            for each in sorted({i["collection"] for i in real_items(file)})
        ]
        row = {**ARCHIVE, "id": name, "title": name.title(), "access_model": "open", "vendor": name, "collections": listed}
        await operator.op("catalog.admin.source_save", {**row, "connector": {"kind": "stac", "url": api.url}})
    return ["quick", "other"]


def url(server):
    return f"{server.base_url}/v1/op/catalog.search_stream"


async def told_by(server, body, **headers):
    async with server.http.stream(
        "POST", url(server), json=body, headers={"X-API-Key": server.place.home.api_key, **headers}
    ) as response:
        assert response.status_code == 200
        yield response.headers["content-type"]
        async for line in response.aiter_lines():
            yield line


async def test_each_source_is_told_of_as_it_answers(server, sources, apis):
    apis[1].hold()
    lines = told_by(server, {"bbox": COLORADO, "sourceIds": sources, "limit": 30})
    assert (await anext(lines)).startswith("application/x-ndjson")
    seen = []
    async for line in lines:
        seen.append(json.loads(line))
        if seen[-1]["event"] == "source_completed" and seen[-1]["source_id"] == "quick":
            # The other one is still silent; now it may speak.
            assert [each["source_id"] for each in seen if each["event"] == "source_started"] == sources
            assert "other" not in {each["source_id"] for each in seen if each["event"] == "features"}
            apis[1].wake()
    done = seen[-1]
    assert done["event"] == "done"
    assert {each["source_id"]: each["error"] for each in done["sources"]} == {"quick": None, "other": None}
    features = [feature for each in seen if each["event"] == "features" for feature in each["features"]]
    assert done["numberReturned"] == len(features) == 60
    assert {each["source_id"]: each["count"] for each in done["sources"]} == {"quick": 30, "other": 30}
    assert len({feature["id"] for feature in features}) == 60


async def test_the_same_as_server_sent_events(server, sources):
    lines = told_by(server, {"bbox": COLORADO, "source_ids": ["quick"], "limit": 5}, Accept="text/event-stream")
    assert (await anext(lines)).startswith("text/event-stream")
    text = [line async for line in lines]
    events = [line.removeprefix("event: ") for line in text if line.startswith("event: ")]
    data = [json.loads(line.removeprefix("data: ")) for line in text if line.startswith("data: ")]
    assert events == [each["event"] for each in data] == ["source_started", "features", "source_completed", "done"]


async def test_a_failing_source_fills_its_error_only(server, sources, apis):
    apis[1].answer(b"<html>down</html>")
    seen = [
        json.loads(line)
        async for line in told_by(server, {"bbox": COLORADO, "source_ids": sources, "limit": 3})
        if line.startswith("{")
    ]
    assert {each["source_id"]: each["error"] is None for each in seen[-1]["sources"]} == {"quick": True, "other": False}
    assert seen[-1]["numberReturned"] == 3


async def test_it_ends_in_time_whatever_the_sources_do(server, sources, apis, monkeypatch):
    monkeypatch.setattr(streaming.progress, "__kwdefaults__", {"ends_after_s": 0.5})
    apis[1].hold()
    seen = [
        json.loads(line)
        async for line in told_by(server, {"bbox": COLORADO, "source_ids": sources, "limit": 3})
        if line.startswith("{")
    ]
    assert seen[-1]["event"] == "done"
    assert seen[-1]["sources"][1]["error"] == "did not answer in time"
    apis[1].wake()


async def test_what_is_wrong_with_the_question_is_said_before_anything_is_sent(server, sources):
    response = await server.http.post(
        url(server), json={"source_ids": ["nobody"]}, headers={"X-API-Key": server.place.home.api_key}
    )
    assert problem_of(response)["status"] == 404
    response = await server.http.post(url(server), json={"bbox": [1, 2]}, headers={"X-API-Key": server.place.home.api_key})
    assert problem_of(response)["status"] == 422
    assert (await server.http.post(url(server), json={})).status_code == 401


async def test_who_leaves_ends_the_asking(server, sources, apis):
    apis[1].hold()
    lines = told_by(server, {"bbox": COLORADO, "source_ids": sources, "limit": 3})
    async for line in lines:
        if "source_completed" in line:
            break
    await lines.aclose()
    rows = await server.sql("SELECT status FROM audit_event WHERE operation_id = 'catalog.search_stream'")
    while not rows:
        rows = await server.sql("SELECT status FROM audit_event WHERE operation_id = 'catalog.search_stream'")
    assert [row["status"] for row in rows] == [200]
    apis[1].wake()


async def test_a_get_is_redirected_to_the_picture_and_a_post_is_told(server, sources):
    item = real_items("100-s2.json")[0]
    given = {"host_name": "quick", "image_id": item["id"]}
    told = await server.home.op("catalog.image.thumbnail", given)
    assert told == {
        "url": item["assets"]["rendered_preview"]["href"],
        "redirect": 307,
        "media_type": "image/png",
        "expires_at": None,
    }
    headers = {"X-API-Key": server.place.home.api_key}
    response = await server.http.get(f"{server.base_url}/v1/op/catalog.image.thumbnail", params=given, headers=headers)
    assert (response.status_code, response.headers["location"]) == (307, told["url"])
    posted = await server.http.post(f"{server.base_url}/v1/op/catalog.image.thumbnail", json=given, headers=headers)
    assert (posted.status_code, posted.headers["location"]) == (200, told["url"])
    assert (await server.home.op("catalog.image.quicklook", given))["redirect"] == 307
    for wrong in ({"host_name": "quick", "image_id": "nothing"}, {"host_name": "nobody", "image_id": item["id"]}):
        assert await server.home.refused("catalog.image.quicklook", wrong) == (404, "not_found")
