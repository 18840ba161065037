"""Addresses to download from, and how they are counted."""

from __future__ import annotations

import asyncio
from datetime import datetime

from geopera_server.values.ids import new_id
from support.deliveries import asset, deliver, item

FREE_EGRESS = 5_000_000_000


async def stored(household, *assets, **more):
    """Registers an item with one asset for each entry and returns inputs that ask for their downloads."""
    made = await household.owner.run(deliver, {"item": item(household.project_id, **more), "assets": list(assets)})
    listed = (await household.owner.op("items.list_assets", {"item_id": made["id"]}))["assets"]
    return {one["key"]: {"item_id": made["id"], "asset_id": one["id"]} for one in listed}


async def download(household, given):
    return await household.owner.op("items.asset.download", given)


async def test_reply_names_file_and_life(household):
    wanted = (await stored(household, asset()))["data"]
    reply = await download(household, wanted)
    assert (reply["method"], reply["expires_in"], reply["file_name"]) == ("GET", 900, "data.tif")
    assert (reply["file_size_bytes"], reply["checksum"]) == (1_000, "sha256:" + "0" * 64)
    assert reply["url"].startswith("http://house.test/files/projects/p/data.tif?")
    expires = datetime.fromisoformat(reply["expires_at"]).timestamp()
    assert f"expires={int(expires)}&" in reply["url"]
    assert reply["egress"] == {"counted_bytes": 1_000, "period_used_bytes": 1_000, "period_limit_bytes": FREE_EGRESS}
    [audit] = await household.sql("SELECT entities FROM audit_event WHERE operation_id = 'items.asset.download'")
    assert {entry["id"] for entry in audit["entities"]} == set(wanted.values())


async def test_counts_once_while_the_address_lives(household):
    wanted = (await stored(household, asset()))["data"]
    replies = await asyncio.gather(*(download(household, wanted) for _ in range(6)))
    assert sorted(reply["egress"]["counted_bytes"] for reply in replies) == [0, 0, 0, 0, 0, 1_000]
    await household.sql("UPDATE egress_grant SET expires_at = now() - interval '1 second'")
    again = await download(household, wanted)
    assert (again["egress"]["counted_bytes"], again["egress"]["period_used_bytes"]) == (1_000, 2_000)


async def test_last_month_does_not_count(household):
    wanted = (await stored(household, asset()))["data"]
    await download(household, wanted)
    await household.sql(
        "UPDATE egress_grant SET issued_at = issued_at - interval '32 days', expires_at = expires_at - interval '32 days'"
    )
    assert (await download(household, wanted))["egress"]["period_used_bytes"] == 1_000


async def test_plan_limit_is_kept_where_nothing_beyond_is_sold(household):
    wanted = await stored(household, asset(file_size_bytes=FREE_EGRESS - 10), asset("more", file_size_bytes=11))
    await download(household, wanted["data"])
    assert await household.owner.refused("items.asset.download", wanted["more"]) == (429, "egress_limited")
    assert len(await household.sql("SELECT * FROM egress_grant")) == 1
    await household.sql("UPDATE organization SET plan_id = 'starter'")
    assert (await download(household, wanted["more"]))["egress"]["counted_bytes"] == 11
    await household.sql("UPDATE plan SET included = jsonb_set(included, '{egress_bytes}', '5') WHERE id = 'starter'")
    await household.sql("UPDATE egress_grant SET expires_at = now()")
    assert (await download(household, wanted["more"]))["egress"]["period_used_bytes"] > 5


async def test_what_lies_elsewhere_counts_nothing(household):
    wanted = await stored(household, asset(href="https://data.example.com/scene.tif", external=True))
    reply = await download(household, wanted["data"])
    assert reply["url"] == "https://data.example.com/scene.tif"
    assert reply["egress"]["counted_bytes"] == 0
    assert await household.sql("SELECT * FROM egress_grant") == []


async def test_only_assets_of_the_item_and_only_for_those_who_may(household):
    wanted = (await stored(household, asset()))["data"]
    other = (await stored(household, asset()))["data"]
    mixed = {"item_id": wanted["item_id"], "asset_id": other["asset_id"]}
    for given in (mixed, {**wanted, "asset_id": new_id()}, {**wanted, "asset_id": "x"}, {**wanted, "item_id": new_id()}):
        assert await household.owner.refused("items.asset.download", given) == (404, "not_found")
    assert await household.stranger.refused("items.asset.download", wanted) == (404, "not_found")
    await household.sql("UPDATE asset SET deleted_at = now() WHERE id = %s", wanted["asset_id"])
    assert await household.owner.refused("items.asset.download", wanted) == (404, "not_found")


async def test_expired_items_keep_their_metadata_only(household):
    wanted = (await stored(household, asset()))["data"]
    await household.sql("UPDATE item SET lifecycle_state = 'expired'")
    assert await household.owner.refused("items.asset.download", wanted) == (410, "retention_expired")
    assert (await household.owner.op("items.get", {"item_id": wanted["item_id"]}))["item"]["lifecycle_state"] == "expired"
    assert (await household.owner.op("items.get_stac", {"item_id": wanted["item_id"]}))["assets"] == {}
