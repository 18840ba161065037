"""A STAC API at its worst: slow, dripping, down, lying, endless, elsewhere."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from geopera_server.adapters.hosts import fetch, make_host_for
from geopera_server.adapters.hosts.breaker import Breaker
from geopera_server.adapters.hosts.fake import FakeHost
from geopera_server.adapters.hosts.stac import StacHost
from geopera_server.ports.host import HostFailed, HostPage, HostQuery, PropertyFilter
from geopera_server.settings import Settings
from support.catalogue import item
from support.stac_api import StacApi

ITEMS = [
    item(f"S{number:02}", f"2024-01-{number:02}T00:00:00Z", **{"eo:cloud_cover": float(number)}) for number in range(1, 13)
]
EMPTY = HostQuery(limit=5)


@pytest_asyncio.fixture(scope="module")
async def client():
    async with fetch.make_client() as shared:
        yield shared


@pytest.fixture
def api():
    with StacApi(ITEMS) as running:
        yield running


async def failure(host, query=EMPTY) -> HostFailed:
    with pytest.raises(HostFailed) as failed:
        await host.search(query)
    return failed.value


@pytest.mark.parametrize("trouble", ["slow", "drip"])
async def test_time_out_covers_the_whole_answer(api, client, trouble):
    getattr(api, trouble)(0.05 if trouble == "drip" else 30)
    started = time.perf_counter()
    failed = await failure(StacHost(client, api.url, timeout_s=0.3))
    assert failed.timed_out
    assert time.perf_counter() - started < 2


async def test_a_slow_host_keeps_nobody_else_waiting(api, client):
    with StacApi(ITEMS[:3]) as other:
        api.slow(30)
        waiting = asyncio.gather(
            *(failure(StacHost(client, api.url, timeout_s=0.5)) for _ in range(20)), return_exceptions=True
        )
        page = await StacHost(client, other.url, timeout_s=5).search(EMPTY)
        assert len(page.features) == 3
        assert not waiting.done()
        assert all(isinstance(each, HostFailed) and each.timed_out for each in await waiting)


@pytest.mark.parametrize("status", [429, 502, 503])
async def test_a_busy_host_is_asked_again(api, client, status):
    api.fail(status, times=2)
    page = await StacHost(client, api.url, timeout_s=5).search(EMPTY)
    assert len(page.features) == 5
    assert len(api.searches) == 3


async def test_a_busy_host_is_not_asked_for_ever(api, client):
    api.fail(503)
    failed = await failure(StacHost(client, api.url, timeout_s=5))
    assert "503" in failed.reason
    assert not failed.timed_out
    assert len(api.searches) == fetch.TRIES


async def test_retry_after_is_honoured_within_the_budget(api, client, monkeypatch):
    monkeypatch.setattr(fetch, "FIRST_PAUSE_S", 60)
    api.fail(429, times=1, retry_after="0")
    assert (await StacHost(client, api.url, timeout_s=5).search(EMPTY)).features
    api.fail(429, times=1, retry_after="3600")
    started = time.perf_counter()
    await failure(StacHost(client, api.url, timeout_s=5))
    assert time.perf_counter() - started < 2


def test_retry_after_may_be_a_date():
    assert fetch._asked_pause_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert fetch._asked_pause_s("7") == 7
    assert fetch._asked_pause_s("soon") is None


@pytest.mark.parametrize("status", [401, 403, 500, 504])
async def test_other_failures_are_not_tried_again(api, client, status):
    api.fail(status)
    failed = await failure(StacHost(client, api.url, timeout_s=5))
    assert str(status) in failed.reason
    assert not failed.refused
    assert len(api.searches) == 1


async def test_a_broken_line_is_tried_again(api, client):
    api.hang_up(times=1)
    assert (await StacHost(client, api.url, timeout_s=5).search(EMPTY)).features


async def test_a_closed_port_fails_at_once(client):
    with StacApi(ITEMS) as gone:
        url = gone.url
    started = time.perf_counter()
    failed = await failure(StacHost(client, url, timeout_s=20))
    assert "cannot be reached" in failed.reason
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<!doctype html><html>Sign in</html>", "web page"),
        (b'{"type": "FeatureCollection", "features": [', "not JSON"),
        (b"[1, 2]", "not a JSON object"),
        (b'{"type": "Catalog"}', "no FeatureCollection"),
        (b"", "not JSON"),
    ],
    ids=["html", "cut", "array", "catalogue", "nothing"],
)
async def test_what_is_no_stac_is_told_plainly(api, client, body, told):
    api.answer(body)
    assert told in (await failure(StacHost(client, api.url, timeout_s=5))).reason


async def test_an_answer_without_end_is_cut(api, client, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_REPLY_BYTES", 1000)
    assert "larger than" in (await failure(StacHost(client, api.url, timeout_s=5))).reason


async def test_odd_items_are_passed_over(api, client):
    odd = [None, 7, {"type": "Feature"}, {"type": "Feature", "id": 5}, {"type": "Catalog", "id": "c"}, ITEMS[0]]
    twice = [*odd, ITEMS[0], ITEMS[1]]
    api.answer(json.dumps({"type": "FeatureCollection", "features": twice}).encode())
    page = await StacHost(client, api.url, timeout_s=5).search(EMPTY)
    assert [each["id"] for each in page.features] == ["S02", "S01"]


async def test_what_a_lying_host_adds_is_left_out(api, client):
    api.answer(json.dumps({"type": "FeatureCollection", "features": ITEMS, "numberMatched": 12}).encode())
    cloudy = PropertyFilter(name="eo:cloud_cover", comparison="gt", value=10)
    page = await StacHost(client, api.url, timeout_s=5).search(HostQuery(filters=(cloudy,)))
    assert [each["id"] for each in page.features] == ["S12", "S11"]
    assert page.matched is None


async def test_redirects_within_the_host_are_followed_and_others_not(api, client):
    api.redirect("/api/search", times=1)
    assert (await StacHost(client, api.url, timeout_s=5).search(EMPTY)).features
    with StacApi(ITEMS) as elsewhere:
        api.redirect(f"{elsewhere.url}/search")
        failed = await failure(StacHost(client, api.url, timeout_s=5, headers={"Authorization": "Bearer secret"}))
        assert "sends us on" in failed.reason
        assert elsewhere.requests == []


async def test_a_redirect_to_itself_ends(api, client):
    api.redirect("/api/search")
    assert "circles" in (await failure(StacHost(client, api.url, timeout_s=5))).reason


async def test_next_links_never_lead_to_another_host(client):
    with StacApi([]) as elsewhere, StacApi(ITEMS, next_by="query", next_host=elsewhere.url) as api:
        host = StacHost(client, api.url, timeout_s=5)
        first = await host.search(EMPTY)
        second = await host.search(HostQuery(limit=5, cursor=first.cursor))
        assert [each["id"] for each in second.features] == ["S07", "S06", "S05", "S04", "S03"]
        assert elsewhere.requests == []


@pytest.mark.parametrize("next_by", ["merge", "body", "query"])
async def test_a_next_that_never_ends_ends(client, next_by):
    with StacApi(ITEMS, endless=True, next_by=next_by) as api:
        host = StacHost(client, api.url, timeout_s=5)
        found, cursor, pages = [], None, 0
        while pages == 0 or cursor:
            page = await host.search(HostQuery(limit=5, cursor=cursor))
            found, cursor, pages = found + list(page.features), page.cursor, pages + 1
            assert pages < 5
        assert len(found) == 5


async def test_a_host_learns_which_dialect_is_understood(client):
    with StacApi(ITEMS, sorts=False, strict=True, declares=False) as api:
        host = StacHost(client, api.url, timeout_s=5)
        await host.search(EMPTY)
        assert len(api.searches) == 2
        page = await host.search(EMPTY)
        assert len(api.searches) == 3
        assert "sortby" not in api.searches[-1].fields
        assert page.features


async def test_a_declined_query_is_told_and_not_held_against_the_host(api, client):
    api.fail(400)
    failed = await failure(StacHost(client, api.url, timeout_s=5))
    assert failed.refused
    assert "no luck" in failed.reason


async def test_query_as_sent(api, client):
    query = HostQuery(
        ids=("a",), start=datetime(2024, 1, 1, tzinfo=UTC), geometry=ITEMS[0]["geometry"], limit=3,
        filters=(PropertyFilter(name="eo:cloud_cover", comparison="lte", value=20),),
    )  # fmt: skip
    await StacHost(client, api.url, timeout_s=5, headers={"Authorization": "Bearer secret"}).search(query)
    (sent,) = api.searches
    assert (sent.method, sent.authorization) == ("POST", "Bearer secret")
    assert sent.fields == {
        "ids": ["a"], "limit": 3, "bbox": [10.0, 45.0, 11.0, 46.0], "datetime": "2024-01-01T00:00:00Z/..",
        "query": {"eo:cloud_cover": {"lte": 20}},
        "sortby": [{"field": "properties.datetime", "direction": "desc"}, {"field": "id", "direction": "asc"}],
    }  # fmt: skip


async def test_texts_in_a_cql2_filter_stay_texts(client):
    named = [item("A", "2024-01-01T00:00:00Z", platform="O'Brien")]
    with StacApi(named, filters="cql2", posts=False) as api:
        wanted = PropertyFilter(name='plat"form', comparison="eq", value="' OR 1=1 --")
        await StacHost(client, api.url, timeout_s=5).search(HostQuery(filters=(wanted,)))
        assert api.searches[-1].fields["filter"] == "\"platform\" = ''' OR 1=1 --'"


async def test_compressed_answers(api, client):
    body = gzip.compress(json.dumps({"type": "FeatureCollection", "features": ITEMS[:2]}).encode())
    api.answer(body, headers={"Content-Encoding": "gzip"})
    assert len((await StacHost(client, api.url, timeout_s=5).search(EMPTY)).features) == 2


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def slow() -> HostFailed:
    return HostFailed("It did not answer within 20 s.", timed_out=True)


async def test_after_a_time_out_the_host_is_left_alone_for_a_while():
    clock = Clock()
    host = FakeHost(ITEMS, failures=[slow(), slow()])
    guarded = Breaker(host, rest_s=30, clock=clock)
    await failure(guarded)
    clock.now += 29
    at_once = await failure(guarded)
    assert at_once.timed_out
    assert "tried again in 1 s" in at_once.reason
    assert len(host.queries) == 1
    clock.now += 2
    await failure(guarded)
    assert len(host.queries) == 2
    await failure(guarded)
    assert len(host.queries) == 2
    clock.now += 31
    assert (await guarded.search(EMPTY)).features
    assert (await guarded.search(EMPTY)).features


async def test_one_call_tries_for_all_after_the_rest():
    clock, held = Clock(), asyncio.Event()
    host = FakeHost(ITEMS, failures=[slow()])
    guarded = Breaker(host, rest_s=30, clock=clock)
    await failure(guarded)
    clock.now += 31
    host.held = held
    trying = asyncio.create_task(guarded.search(EMPTY))
    while len(host.queries) < 2:
        await asyncio.sleep(0)
    await failure(guarded)
    held.set()
    assert isinstance(await trying, HostPage)
    assert (await guarded.search(EMPTY)).features


async def test_quick_failures_are_allowed_a_few_times_and_refusals_always():
    host = FakeHost(ITEMS, failures=[HostFailed("no", refused=True)] * 5 + [HostFailed("It answers 500.")] * 3)
    guarded = Breaker(host, clock=Clock())
    for _ in range(8):
        await failure(guarded)
    await failure(guarded)
    assert len(host.queries) == 8


async def test_one_host_is_kept_per_connector_and_bad_ones_say_why(indexed_nowhere, api):
    async with make_host_for(indexed_nowhere, Settings(host_timeout_s=5)) as host_for:
        connector = {"kind": "stac", "url": api.url, "host": "a"}
        assert host_for(connector) is host_for({**connector, "host": "b"})
        assert (await host_for(connector).search(EMPTY)).features
        assert "GEOPERA_HOST_AUTH" in (await failure(host_for({**connector, "auth_ref": "missing"}))).reason
        assert "no connector" in (await failure(host_for({"kind": "ftp", "host": "c"}))).reason


async def test_a_credential_is_sent_as_authorization(indexed_nowhere, api, monkeypatch):
    monkeypatch.setenv("GEOPERA_HOST_AUTH", '{"mine": "Bearer abc"}')
    async with make_host_for(indexed_nowhere, Settings()) as host_for:
        await host_for({"kind": "stac", "url": api.url, "auth_ref": "mine"}).search(EMPTY)
    assert {request.authorization for request in api.requests} == {"Bearer abc"}


@pytest.fixture
def indexed_nowhere():
    def connect():
        raise AssertionError("no database is needed for a STAC host")

    return connect
