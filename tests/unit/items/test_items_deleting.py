"""Deleting items and assets, and having items back."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from psycopg.types.json import Jsonb

from geopera_server.values.clock import iso, now
from geopera_server.values.ids import new_id
from support.colleagues import colleague
from support.deliveries import asset, deliver, item

BYTES = "SELECT bytes, ledger_bytes FROM storage_total WHERE organization_id = %s"


async def delivered(household, stac_id="SCENE_1", **more):
    files = [
        asset("data"),
        asset("thumbnail", file_size_bytes=24),
        asset("far", href="https://far.example/a.tif", external=True),
    ]
    made = await household.owner.run(deliver, {"item": item(household.project_id, stac_id, **more), "assets": files})
    return made["id"]


async def stored(household):
    [row] = await household.sql(BYTES, household.place.home.organization_id)
    assert row["bytes"] == row["ledger_bytes"]
    return row["bytes"]


async def assets_of(household, item_id):
    found = (await household.owner.op("items.list_assets", {"item_id": item_id}))["assets"]
    return {each["key"]: each for each in found}


async def matches(household, kind, entity_id):
    await household.seal()
    return (await household.owner.op("provenance.verify", {"entity_type": kind, "entity_id": entity_id}))["digest_matches"]


async def begin_work(household, entity_id, **payload):
    await household.sql(
        "INSERT INTO job (id, kind, organization_id, entity_id, payload, run_after, invocation_id, created_at)"
        " VALUES (%s, 'test.read', %s, %s, %s, now(), %s, now())",
        new_id(),
        household.place.home.organization_id,
        entity_id,
        Jsonb(payload),
        new_id(),
    )


async def end_work(household):
    await household.sql("UPDATE job SET state = 'done', leased_until = NULL WHERE kind = 'test.read'")


async def test_a_deleted_item_is_gone_and_takes_nothing(household):
    item_id = await delivered(household)
    files = await assets_of(household, item_id)
    assert await stored(household) == 1_024
    assert await household.owner.op("items.delete", {"item_id": item_id}) == {"id": item_id, "ok": True}
    assert await stored(household) == 0
    for operation in ("items.get", "items.list_assets", "items.get_stac", "items.lineage", "items.delete"):
        assert await household.owner.refused(operation, {"item_id": item_id}) == (404, "not_found")
    assert (await household.owner.op("items.list", {"project_id": household.project_id}))["total"] == 0
    [event] = await household.sql("SELECT data FROM outbox_event WHERE type = 'item.deleted'")
    assert (event["data"]["id"], event["data"]["lifecycle_state"]) == (item_id, "deleted")
    assert event["data"]["deleted_at"] is not None
    assert await matches(household, "item", item_id)
    assert await matches(household, "asset", files["data"]["id"])


async def test_an_item_comes_back_with_the_files_it_had(household):
    item_id = await delivered(household)
    files = await assets_of(household, item_id)
    await household.owner.op("assets.delete", {"item_id": item_id, "asset_id": files["thumbnail"]["id"]})
    before = (await household.owner.op("items.get", {"item_id": item_id}))["item"]
    await household.owner.op("items.delete", {"item_id": item_id})
    back = await household.owner.op("items.restore", {"item_id": item_id})
    after = (await household.owner.op("items.get", {"item_id": item_id}))["item"]
    assert back == {key: after[key] for key in back}
    assert {**after, "updated_at": None, "assets": None} == {**before, "updated_at": None, "assets": None}
    assert sorted(each["key"] for each in after["assets"]) == ["data", "far"]
    assert await stored(household) == 1_000
    assert await matches(household, "item", item_id)
    assert await matches(household, "asset", files["data"]["id"])
    events = await household.sql("SELECT type FROM outbox_event WHERE entity_id = %s AND type LIKE 'item.c%%'", item_id)
    assert len(events) == 2
    assert await household.owner.refused("items.restore", {"item_id": item_id}) == (404, "not_found")


async def test_a_name_taken_meanwhile_gets_a_number(household):
    item_id = await delivered(household)
    await household.owner.op("items.delete", {"item_id": item_id})
    await delivered(household)
    assert (await household.owner.op("items.restore", {"item_id": item_id}))["stac_id"] == "SCENE_1-2"
    assert await matches(household, "item", item_id)


async def test_time_goes_on_for_deleted_items(household):
    cases = {"'-1 day'": "expired", "'3 days'": "expiring", "'30 days'": "active"}
    for number, (interval, state) in enumerate(cases.items()):
        item_id = await delivered(household, f"S{number}")
        await household.sql(f"UPDATE item SET expires_at = now() + interval {interval} WHERE id = %s", item_id)
        await household.owner.op("items.delete", {"item_id": item_id})
        assert (await household.owner.op("items.restore", {"item_id": item_id}))["lifecycle_state"] == state
    item_id = await delivered(household, "S9")
    await household.owner.op("items.update", {"item_id": item_id, "lifecycle_state": "archived"})
    await household.owner.op("items.delete", {"item_id": item_id})
    assert (await household.owner.op("items.restore", {"item_id": item_id}))["lifecycle_state"] == "archived"


async def test_only_for_thirty_days_in_a_project_that_takes_it(household):
    item_id = await delivered(household)
    assert await household.owner.refused("items.restore", {"item_id": item_id}) == (404, "not_found")
    await household.owner.op("items.delete", {"item_id": item_id})
    await household.owner.op("projects.archive", {"project_id": household.project_id})
    assert await household.owner.refused("items.restore", {"item_id": item_id}) == (409, "illegal_state")
    await household.owner.op("projects.archive", {"project_id": household.project_id, "is_archived": False})
    await household.sql("UPDATE project SET deleted_at = now() WHERE id = %s", household.project_id)
    assert await household.owner.refused("items.restore", {"item_id": item_id}) == (409, "illegal_state")
    await household.sql("UPDATE project SET deleted_at = NULL WHERE id = %s", household.project_id)
    assert await household.stranger.refused("items.restore", {"item_id": item_id}) == (404, "not_found")
    await household.sql("UPDATE item SET deleted_at = now() - interval '30 days 1 minute' WHERE id = %s", item_id)
    for given in (item_id, new_id(), "x"):
        assert await household.owner.refused("items.restore", {"item_id": given}) == (404, "not_found")


async def test_what_comes_back_must_fit_the_plan(household):
    item_id = await delivered(household)
    await household.owner.op("items.delete", {"item_id": item_id})
    await household.sql("UPDATE plan SET included = included || '{\"storage_bytes\": 1023}'")
    assert await household.owner.refused("items.restore", {"item_id": item_id}) == (402, "storage_quota_exceeded")
    await household.sql("UPDATE plan SET included = included || '{\"storage_bytes\": 1024}'")
    await household.owner.op("items.restore", {"item_id": item_id})
    assert await stored(household) == 1_024


async def test_nothing_is_deleted_while_a_job_reads_it(household):
    item_id = await delivered(household)
    files = await assets_of(household, item_id)
    asset_id = files["data"]["id"]
    for entity_id, payload in ((new_id(), {"item_ids": [new_id(), item_id]}), (item_id, {}), (asset_id, {})):
        await begin_work(household, entity_id, **payload)
        assert await household.owner.refused("items.delete", {"item_id": item_id}) == (409, "resource_busy")
        given = {"item_id": item_id, "asset_id": asset_id}
        assert await household.owner.refused("assets.delete", given) == (409, "resource_busy")
        await end_work(household)
    await begin_work(household, new_id(), item_ids=[new_id()])
    await household.owner.op("assets.delete", {"item_id": item_id, "asset_id": asset_id})
    await household.owner.op("items.delete", {"item_id": item_id})


async def test_a_file_is_deleted_for_good(household):
    item_id = await delivered(household)
    files = await assets_of(household, item_id)
    freed = {key: await delete_asset(household, item_id, files[key]["id"]) for key in ("far", "data")}
    assert freed == {"far": 0, "data": 1_000}
    assert await stored(household) == 24
    assert list(await assets_of(household, item_id)) == ["thumbnail"]
    given = {"item_id": item_id, "asset_id": files["data"]["id"]}
    assert await household.owner.refused("assets.delete", given) == (404, "not_found")
    assert await matches(household, "item", item_id)
    assert await matches(household, "asset", files["data"]["id"])
    events = await household.sql("SELECT type FROM outbox_event WHERE type = 'item.updated'")
    assert len(events) == 2


async def delete_asset(household, item_id, asset_id):
    gone = await household.owner.op("assets.delete", {"item_id": item_id, "asset_id": asset_id})
    assert gone == {"id": asset_id, "item_id": item_id, "ok": True, "storage_freed_bytes": gone["storage_freed_bytes"]}
    return gone["storage_freed_bytes"]


async def test_a_file_of_another_item_is_none_of_this_one(household):
    one, other = await delivered(household), await delivered(household, "SCENE_2")
    asset_id = (await assets_of(household, other))["data"]["id"]
    for given in (asset_id, new_id(), "x"):
        assert await household.owner.refused("assets.delete", {"item_id": one, "asset_id": given}) == (404, "not_found")
    given = {"item_id": other, "asset_id": asset_id}
    assert await household.stranger.refused("assets.delete", given) == (404, "not_found")


async def test_roles_decide_who_deletes(household):
    item_id = await delivered(household)
    asset_id = (await assets_of(household, item_id))["data"]["id"]
    member = await colleague(household, "member")
    assert await member.refused("items.delete", {"item_id": item_id}) == (403, "role_required")
    assert await member.refused("assets.delete", {"item_id": item_id, "asset_id": asset_id}) == (403, "role_required")
    assert await household.stranger.refused("items.delete", {"item_id": item_id}) == (404, "not_found")
    assert await household.operator.refused("items.delete", {"item_id": item_id}) == (403, "role_required")
    await household.sql(
        "INSERT INTO project_member (project_id, user_id, role, created_at, updated_at) VALUES (%s, %s, 'editor', now(), now())",
        household.project_id,
        member.principal.id,
    )
    await member.op("items.delete", {"item_id": item_id})
    await member.op("items.restore", {"item_id": item_id})


async def test_many_at_once_delete_once(household):
    item_id = await delivered(household)
    answers = await asyncio.gather(
        *(household.owner.op("items.delete", {"item_id": item_id}) for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(answer, dict) for answer in answers) == 1
    assert await stored(household) == 0
    assert len(await household.sql("SELECT 1 AS one FROM outbox_event WHERE type = 'item.deleted'")) == 1


async def test_a_change_and_an_end_at_once_leave_true_lineage(household):
    item_id = await delivered(household)
    given = [("items.delete", {}), *(("items.update", {"name": f"n{number}"}) for number in range(4))]
    await asyncio.gather(
        *(household.owner.op(operation, {"item_id": item_id, **more}) for operation, more in given), return_exceptions=True
    )
    assert await household.owner.refused("items.get", {"item_id": item_id}) == (404, "not_found")
    assert await matches(household, "item", item_id)


async def test_shares_end_with_their_item(household):
    item_id, other = await delivered(household), await delivered(household, "SCENE_2")
    until = iso(now() + timedelta(days=30))
    for target in (item_id, other):
        given = {"target_type": "item", "target_id": target, "password": "a long password", "expires_at": until}
        await household.owner.op("share.link.create", given)
    await household.owner.op("items.delete", {"item_id": item_id})
    await household.owner.op("items.restore", {"item_id": item_id})
    rows = await household.sql("SELECT target_id, revoked_at FROM share_link")
    assert {row["target_id"]: row["revoked_at"] is not None for row in rows} == {item_id: True, other: False}


async def test_what_expired_while_it_was_deleted_comes_back_without_its_room(household):
    item_id = await delivered(household)
    await household.sql("UPDATE item SET expires_at = now() - interval '1 day' WHERE id = %s", item_id)
    await household.owner.op("items.delete", {"item_id": item_id})
    await household.sql("UPDATE plan SET included = included || '{\"storage_bytes\": 0}'")
    assert (await household.owner.op("items.restore", {"item_id": item_id}))["lifecycle_state"] == "expired"
    assert await stored(household) == 0
    told = await household.sql("SELECT type FROM outbox_event WHERE entity_id = %s ORDER BY position", item_id)
    assert [row["type"] for row in told] == ["item.created", "item.deleted", "item.created", "item.expired"]
    left = await household.sql("SELECT 1 FROM asset WHERE item_id = %s AND expired_at IS NULL AND NOT external", item_id)
    assert left == [], "what has expired is erased 30 days later"
    assert await matches(household, "item", item_id)
