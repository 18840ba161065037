"""What organizations use is counted while they use it: calls, downloads, what is stored, what orders cost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from support.market import opened_market
from support.serving import served


@pytest.fixture
async def market(cluster, template, tmp_path, shared_data):
    async with opened_market(cluster, template, tmp_path, shared_data) as opened:
        yield opened


async def usage_of(market) -> dict:
    return await market.home.op("usage.current", {"organization_id": market.place.home.organization_id})


async def test_an_order_is_stored_paid_and_downloaded(market):
    before = await usage_of(market)
    assert before["storage"]["bytes_used"] == before["credits"]["spent"] == before["egress"]["bytes"] == 0
    order = await market.delivered()
    [item_id] = order["itemIds"]
    [asset] = (await market.home.op("items.list_assets", {"item_id": item_id}))["assets"]
    size, credits_spent = asset["file_size_bytes"], order["totalCredits"]
    wanted = {"item_id": item_id, "asset_id": asset["id"]}
    download = await market.home.op("items.asset.download", wanted)
    await market.home.op("items.asset.download", wanted)

    assert len((await market.http.get(download["url"])).content) == size
    part = await market.http.get(download["url"], headers={"Range": "bytes=100-1099"})
    assert len(part.content) == 1000
    assert (await market.http.head(download["url"])).status_code == 200
    assert await market.house.meter.flush()

    usage = await usage_of(market)
    assert usage["storage"]["bytes_used"] == usage["storage"]["bytes_peak"] == size
    assert (usage["orders"]["placed"], usage["orders"]["fulfilled"], usage["orders"]["credits"]) == (1, 1, credits_spent)
    assert usage["credits"]["spent"] == credits_spent > 0
    assert usage["egress"] == {"bytes": size, "sent_bytes": size + 1000, "limit_bytes": 5_000_000_000}
    assert download["egress"]["period_used_bytes"] == size
    [project] = usage["projects"]
    assert (project["storage_bytes"], project["credits"]) == (size, credits_spent)
    balance = (await market.home.op("billing.credits.balance"))["balance"]
    assert sum(usage["credits"]["by_reason"].values()) == balance
    [month] = (await market.home.op("usage.history", {"organization_id": usage["organization_id"], "months": 1}))["months"]
    assert month["peak_storage_bytes"] == size
    drift = {"organization_id": usage["organization_id"]}
    assert (await (await market.operator()).op("billing.reconciliation.detect_drift", drift))["drift_bytes"] == 0
    found = await (await market.operator()).op("usage.admin.reconcile_storage")
    assert (found["checked"], found["missing_objects"], found["orphan_objects"]) == (1, [], [])


async def test_a_download_that_is_broken_off_counts_what_was_sent(market):
    path = f"projects/{market.place.home.project_id}/big.tif"
    file = market.house.settings.data_dir / "objects" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    size = 200_000_000
    with file.open("wb") as big:
        big.truncate(size)
    url = market.house.links.download(
        path, file_name="big.tif", media_type="image/tiff", expires_at=datetime.now(UTC) + timedelta(minutes=5)
    )
    read = 0
    async with httpx.AsyncClient() as http, http.stream("GET", url) as response:
        async for chunk in response.aiter_bytes():
            read += len(chunk)
            if read > 3_000_000:
                break
    sent = 0
    for _ in range(100):
        await market.house.meter.flush()
        rows = await market.sql("SELECT amount FROM usage_day WHERE kind = 'sent_bytes'")
        if rows and rows[0]["amount"] == sent:
            break
        sent = rows[0]["amount"] if rows else 0
        await asyncio.sleep(0.1)
    # What the reader took off the wire was sent; the rest is what the sockets' buffers had taken.
    assert 3_000_000 - 1_048_576 <= sent < 30_000_000


async def test_calls_are_counted_exactly_at_a_clean_stop(cluster, template, tmp_path, shared_data):
    dsn = cluster.create_database(template[0])
    place = template[1]
    try:
        async with served(dsn, place, data_dir=tmp_path, source_roots=[shared_data], rate_default=40) as server:
            human = await server.signed_in(place.home.email)
            for actor in (server.home, human, server.stranger):
                await asyncio.gather(*(actor.post("billing.credits.balance") for _ in range(12)))
            await server.home.post("projects.create", {"name": "Counted"})
            assert (await server.home.post("projects.get", {"project_id": "nonsense"})).status_code == 404
            assert (await server.home.post("usage.history", {})).status_code == 422
            limited = [(await server.home.post("billing.credits.balance")).status_code for _ in range(20)]
            assert 429 in limited
            assert (await server.http.post("/v1/op/billing.credits.balance")).status_code == 401
        with psycopg.connect(dsn, row_factory=dict_row) as conn:
            counted = conn.execute("SELECT organization_id, sum(amount)::int AS calls FROM usage_day GROUP BY 1").fetchall()
            audited = conn.execute(
                "SELECT organization_id, count(*)::int AS calls FROM audit_event"
                " WHERE organization_id IS NOT NULL AND principal_type IN ('user', 'api_key')"
                " AND operation_id <> 'oauth.token' GROUP BY 1"
            ).fetchall()
        calls = {row["organization_id"]: row["calls"] for row in counted}
        assert calls == {row["organization_id"]: row["calls"] for row in audited}
        assert calls[place.home.organization_id] == 24 + 3 + 20
        assert calls[place.stranger.organization_id] == 12
    finally:
        cluster.drop_database(dsn)


async def test_what_is_used_while_the_database_is_away_is_counted_when_it_is_back(cluster, template, tmp_path, shared_data):
    async with opened_market(cluster, template, tmp_path, shared_data) as market:
        order = await market.delivered()
        [asset] = (await market.home.op("items.list_assets", {"item_id": order["itemIds"][0]}))["assets"]
        wanted = {"item_id": order["itemIds"][0], "asset_id": asset["id"]}
        url = (await market.home.op("items.asset.download", wanted))["url"]
        name = psycopg.conninfo.conninfo_to_dict(market.house.dsn)["dbname"]
        with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as conn:
            conn.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            for _ in range(5):
                assert (await market.http.get(url)).status_code == 200
            assert not await market.house.meter.flush()
            assert market.house.meter.waiting()["sent_bytes"] == 5 * asset["file_size_bytes"]
            conn.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        while not await market.house.meter.flush():
            pass
        [row] = await market.sql("SELECT amount FROM usage_day WHERE kind = 'sent_bytes'")
        assert row["amount"] == 5 * asset["file_size_bytes"]
