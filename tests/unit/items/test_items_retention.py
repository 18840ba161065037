"""How long items are kept: they near their end, expire, come back, and are purged."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from geopera_server.domains.billing.crons import run_due
from geopera_server.domains.items import retention
from geopera_server.values.clock import iso, now
from geopera_server.values.ids import new_id
from support.deliveries import asset, deliver, item
from support.working import do_jobs, objects_in, stored

EXPIRE, PURGE, RETAIN, EXPIRING = "items.expire_batch", "items.admin.purge", "items.admin.set_retention", "items.list_expiring"


async def file(household, stac_id="SCENE_1", *, days=None, caller=None, size=1_000, **more):
    """Registers an item with one stored file that expires so many days from now."""
    caller = caller or household.owner
    project_id = more.pop("project_id", household.project_id)
    path = await stored(household, f"projects/{project_id}/items/{new_id()}/data.tif", b"x" * size)
    given = {"item": item(project_id, stac_id, **more), "assets": [asset(href=path, file_size_bytes=size)]}
    made = await caller.run(deliver, given)
    if days is not None:
        await expires(household, made["id"], days)
    return {**made, "path": path}


async def expires(household, item_id, days) -> None:
    await household.sql("UPDATE item SET expires_at = %s WHERE id = %s", now() + timedelta(days=days), item_id)


async def state(household, item_id) -> str:
    [row] = await household.sql("SELECT lifecycle_state FROM item WHERE id = %s", item_id)
    return row["lifecycle_state"]


async def used_bytes(household) -> int:
    organization_id = household.place.home.organization_id
    [row] = await household.sql("SELECT bytes, ledger_bytes FROM storage_total WHERE organization_id = %s", organization_id)
    assert row["bytes"] == row["ledger_bytes"]
    return row["bytes"]


async def events(household, item_id) -> list[str]:
    rows = await household.sql("SELECT type FROM outbox_event WHERE entity_id = %s ORDER BY position", item_id)
    return [row["type"] for row in rows]


async def verified(household, item_id):
    await household.seal()
    found = await household.owner.op("provenance.verify", {"entity_type": "item", "entity_id": item_id})
    return found["ok"], found["digest_matches"]


def of_round(reply) -> tuple[int, int, int]:
    return reply["expired"], reply["expiring"], reply["failed"]


async def test_items_near_their_end_and_expire(household):
    over, near = await file(household, "A", days=-1), await file(household, "B", days=6)
    far, ever = await file(household, "C", days=8), await file(household, "D")
    assert of_round(await household.operator.op(EXPIRE)) == (1, 1, 0)
    ends = [await state(household, each["id"]) for each in (over, near, far, ever)]
    assert ends == ["expired", "expiring", "active", "active"]
    assert await events(household, over["id"]) == ["item.created", "item.expired"]
    assert await events(household, near["id"]) == ["item.created", "item.expiring"]
    for each in (over, near):
        assert await verified(household, each["id"]) == (True, True)
    assert of_round(await household.operator.op(EXPIRE)) == (0, 0, 0)
    await expires(household, near["id"], -1)
    assert of_round(await household.operator.op(EXPIRE)) == (1, 0, 0)
    assert await events(household, near["id"]) == ["item.created", "item.expiring", "item.expired"]


async def test_an_expired_item_is_still_known(household):
    one = await file(household, days=-1)
    await household.operator.op(EXPIRE)
    [found] = (await household.owner.op("items.list_assets", {"item_id": one["id"]}))["assets"]
    full = (await household.owner.op("items.get", {"item_id": one["id"]}))["item"]
    assert (full["lifecycle_state"], full["asset_count"], full["storage_bytes"]) == ("expired", 1, 0)
    assert (await household.owner.op("items.list", {"project_id": household.project_id}))["total"] == 1
    assert (await household.owner.op("items.get_stac", {"item_id": one["id"]}))["id"]
    ask = {"item_id": one["id"], "asset_id": found["id"]}
    assert await household.owner.refused("items.asset.download", ask) == (410, "retention_expired")
    assert one["path"] in await objects_in(household, "projects"), "the files stay for a while"


async def test_expiry_frees_what_the_files_took(household):
    await file(household, "A", days=-1, size=300)
    await file(household, "B", size=20)
    assert await used_bytes(household) == 320
    await household.operator.op(EXPIRE)
    assert await used_bytes(household) == 20
    ids = {"organization_id": household.place.home.organization_id}
    drift = await household.operator.op("billing.reconciliation.detect_drift", ids)
    assert (drift["ledger_bytes"], drift["actual_bytes"]) == (20, 20)
    project = {"project_id": household.project_id}
    assert (await household.owner.op("projects.get", project))["storage_bytes"] == 20
    assert (await household.owner.op("projects.stats", project))["storage_bytes"] == 20
    await household.owner.op("usage.recalculate_storage", ids)
    assert await used_bytes(household) == 20


async def test_archived_items_expire_too(household):
    one, near = await file(household, "A", days=-1), await file(household, "B", days=1)
    for each in (one, near):
        await household.owner.op("items.update", {"item_id": each["id"], "lifecycle_state": "archived"})
    assert of_round(await household.operator.op(EXPIRE)) == (1, 0, 0)
    assert (await state(household, one["id"]), await state(household, near["id"])) == ("expired", "archived")


async def test_deleted_items_do_not_expire(household):
    one = await file(household, days=-1)
    await household.owner.op("items.delete", {"item_id": one["id"]})
    assert of_round(await household.operator.op(EXPIRE)) == (0, 0, 0)
    assert (await household.operator.op(EXPIRING))["total"] == 0


async def test_many_are_moved_on_in_steps(household, monkeypatch):
    monkeypatch.setattr(retention, "AT_ONCE", 2)
    for number in range(5):
        await file(household, f"S{number}", days=-1)
    await file(household, project_id=household.place.stranger.project_id, caller=household.stranger, days=1)
    assert of_round(await household.operator.op(EXPIRE)) == (5, 1, 0)


async def test_two_rounds_at_once_move_each_item_once(household):
    made = [await file(household, f"S{number}", days=-1) for number in range(8)]
    rounds = await asyncio.gather(*(household.operator.op(EXPIRE) for _ in range(3)))
    assert sum(each["expired"] for each in rounds) == 8
    for each in made:
        assert await events(household, each["id"]) == ["item.created", "item.expired"]


async def test_one_organization_that_fails_does_not_stop_the_rest(household, monkeypatch):
    await file(household, "A", days=-1)
    theirs = await file(household, project_id=household.place.stranger.project_id, caller=household.stranger, days=-1)
    real = retention.expire_some

    async def broken(ctx):
        if ctx.organization_id == household.place.home.organization_id:
            raise RuntimeError("something is wrong here")
        return await real(ctx)

    monkeypatch.setattr(retention, "expire_some", broken)
    assert of_round(await household.operator.op(EXPIRE)) == (1, 0, 1)
    assert await state(household, theirs["id"]) == "expired"


async def test_the_clock_expires_and_purges(household):
    one = await file(household, days=-1)
    await run_due(household.house.kernel, household.house.registry)
    assert await state(household, one["id"]) == "expired"
    rows = await household.sql("SELECT name FROM cron_run WHERE outcome = 'ok' AND name LIKE 'items.%%'")
    assert {row["name"] for row in rows} == {EXPIRE, PURGE}


async def test_what_expires_soon_is_listed_soonest_first(household):
    second, first = await file(household, "A", days=3, size=30), await file(household, "B", days=-2, size=20)
    await file(household, "C", days=9)
    found = await household.operator.op(EXPIRING)
    assert [(each["id"], each["storage_bytes"]) for each in found["items"]] == [(first["id"], 20), (second["id"], 30)]
    assert found["items"][0] == {
        "id": first["id"], "name": "B", "project_id": household.project_id, "storage_bytes": 20,
        "organization_id": household.place.home.organization_id, "expires_at": found["items"][0]["expires_at"],
    }  # fmt: skip
    assert (found["total"], found["days"]) == (2, 7)
    assert (await household.operator.op(EXPIRING, {"days": 10}))["total"] == 3
    assert (await household.operator.op(EXPIRING, {"days": 0}))["total"] == 1


@pytest.mark.parametrize("operation_id", [EXPIRE, EXPIRING, PURGE, RETAIN])
async def test_customers_have_no_say(household, operation_id):
    given = {"project_id": household.project_id, "days": 1}
    assert await household.owner.refused(operation_id, given) == (403, "missing_scope")


async def test_operators_say_how_long_items_are_kept(household):
    ours = [await file(household, f"S{number}") for number in range(2)]
    theirs = await file(household, project_id=household.place.stranger.project_id, caller=household.stranger)
    until = iso(now() + timedelta(days=3))
    named = [ours[0]["id"], theirs["id"]]
    assert await household.operator.op(RETAIN, {"item_ids": named, "expires_at": until}) == {"updated": 2}
    listed = await household.operator.op(EXPIRING)
    assert {each["id"]: each["expires_at"] for each in listed["items"]} == dict.fromkeys(named, until)
    assert await household.operator.op(RETAIN, {"project_id": household.project_id, "days": 30}) == {"updated": 2}
    assert [each["id"] for each in (await household.operator.op(EXPIRING))["items"]] == [theirs["id"]]
    assert await household.operator.op(RETAIN, {"item_ids": [theirs["id"]], "expires_at": None}) == {"updated": 1}
    assert (await household.operator.op(EXPIRING, {"days": 36_500}))["total"] == 2
    records = await household.sql("SELECT organization_id, entity_id FROM lineage_record WHERE operation_id = %s", RETAIN)
    assert sum(row["organization_id"] == household.place.stranger.organization_id for row in records) == 2
    assert len(records) == 5
    assert await events(household, theirs["id"]) == ["item.created", "item.updated", "item.updated"]
    assert await verified(household, ours[0]["id"]) == (True, True)


async def test_keeping_longer_takes_the_warning_back(household):
    one = await file(household, days=2)
    await household.operator.op(EXPIRE)
    await household.operator.op(RETAIN, {"item_ids": [one["id"]], "days": 5})
    assert await state(household, one["id"]) == "expiring"
    await household.operator.op(RETAIN, {"item_ids": [one["id"]], "days": 50})
    assert await state(household, one["id"]) == "active"
    assert await verified(household, one["id"]) == (True, True)


async def test_an_expired_item_comes_back_while_its_files_are_there(household):
    one = await file(household, days=-1, size=300)
    await household.operator.op(EXPIRE)
    await household.operator.op(RETAIN, {"item_ids": [one["id"]], "days": 0})
    assert await state(household, one["id"]) == "expired"
    await household.operator.op(RETAIN, {"item_ids": [one["id"]], "expires_at": None})
    assert (await state(household, one["id"]), await used_bytes(household)) == ("active", 300)
    [found] = (await household.owner.op("items.list_assets", {"item_id": one["id"]}))["assets"]
    await household.owner.op("items.asset.download", {"item_id": one["id"], "asset_id": found["id"]})
    assert await verified(household, one["id"]) == (True, True)


async def test_files_of_expired_items_go_after_30_days(household):
    one = await file(household, days=-1)
    await household.operator.op(EXPIRE)
    await household.sql("UPDATE asset SET expired_at = now() - interval '29 days'")
    assert (await household.operator.op(PURGE))["files"] == 0
    await household.sql("UPDATE asset SET expired_at = now() - interval '31 days'")
    found = await household.operator.op(PURGE)
    assert (found["items"], found["files"], found["failed"]) == (0, 1, 0)
    assert await do_jobs(household, "objects.erase") == 1
    assert await objects_in(household, "projects") == []
    assert (await household.owner.op("items.get", {"item_id": one["id"]}))["item"]["asset_count"] == 1
    given = {"item_ids": [one["id"]], "days": 10}
    assert await household.operator.refused(RETAIN, given) == (409, "illegal_state")
    assert await state(household, one["id"]) == "expired"
    assert (await household.operator.op(PURGE))["files"] == 0
    assert await household.owner.op("usage.current", {"organization_id": household.place.home.organization_id})


async def test_deleted_items_go_after_30_days(household):
    kept, old = await file(household, "A"), await file(household, "B")
    recent = await file(household, "C")
    for each in (old, recent):
        await household.owner.op("items.delete", {"item_id": each["id"]})
    await household.sql("UPDATE item SET deleted_at = now() - interval '31 days' WHERE id = %s", old["id"])
    await household.sql("UPDATE item SET deleted_at = now() - interval '29 days' WHERE id = %s", recent["id"])
    found = await household.operator.op(PURGE)
    assert (found["items"], found["files"], found["failed"]) == (1, 0, 0)
    assert {row["id"] for row in await household.sql("SELECT id FROM item")} == {kept["id"], recent["id"]}
    assert {row["item_id"] for row in await household.sql("SELECT item_id FROM asset")} == {kept["id"], recent["id"]}
    await do_jobs(household, "objects.erase")
    assert await objects_in(household, "projects") == sorted([kept["path"], recent["path"]])
    assert await used_bytes(household) == 1_000
    assert await household.owner.refused("items.restore", {"item_id": old["id"]}) == (404, "not_found")
    assert await verified(household, old["id"]) == (True, None)
    assert (await household.owner.op("items.restore", {"item_id": recent["id"]}))["id"] == recent["id"]


async def test_deleted_files_of_live_items_go_after_30_days(household):
    one = await file(household)
    [found] = (await household.owner.op("items.list_assets", {"item_id": one["id"]}))["assets"]
    await household.owner.op("assets.delete", {"item_id": one["id"], "asset_id": found["id"]})
    assert (await household.operator.op(PURGE))["files"] == 0
    await household.sql("UPDATE asset SET deleted_at = now() - interval '31 days'")
    assert (await household.operator.op(PURGE))["files"] == 1
    await do_jobs(household, "objects.erase")
    assert await objects_in(household, "projects") == []
    assert await household.sql("SELECT id FROM asset") == []
    assert (await household.owner.op("items.get", {"item_id": one["id"]}))["item"]["asset_count"] == 0


async def test_what_a_live_asset_names_is_not_erased(household):
    one, other = await file(household, "A"), await file(household, "B")
    await household.sql("UPDATE asset SET href = %s", one["path"])
    await household.owner.op("items.delete", {"item_id": other["id"]})
    await household.sql("UPDATE item SET deleted_at = now() - interval '31 days' WHERE id = %s", other["id"])
    await household.operator.op(PURGE)
    assert await do_jobs(household, "objects.erase") == 1
    assert one["path"] in await objects_in(household, "projects")
    assert await household.sql("SELECT path FROM erasure") == []


async def test_having_an_item_back_and_purging_it_wait_for_each_other(household):
    for _ in range(4):
        one = await file(household, new_id())
        await household.owner.op("items.delete", {"item_id": one["id"]})
        # As its last day ends: restore still takes it for recent, the purge for old.
        at = now() - retention.KEPT_FOR + timedelta(seconds=0.02)
        await household.sql("UPDATE item SET deleted_at = %s WHERE id = %s", at, one["id"])
        back, _ = await asyncio.gather(
            household.owner.op("items.restore", {"item_id": one["id"]}), household.operator.op(PURGE), return_exceptions=True
        )
        rows = await household.sql("SELECT deleted_at FROM item WHERE id = %s", one["id"])
        assets = await household.sql("SELECT id FROM asset WHERE item_id = %s AND deleted_at IS NULL", one["id"])
        if isinstance(back, dict):
            assert ([row["deleted_at"] for row in rows], len(assets)) == ([None], 1)
        else:
            assert back.status == 404
            assert assets == []


@pytest.mark.parametrize(
    ("wrong", "refusal"),
    [
        ({}, (422, "invalid_input")),
        ({"days": 3}, (422, "invalid_input")),
        ({"item_ids": [], "days": 3}, (422, "invalid_input")),
        ({"item_ids": ["x"], "days": 3}, (404, "not_found")),
        ({"item_ids": ["0192d3c4-0000-7000-8000-000000000000"], "days": 3}, (404, "not_found")),
        ({"project_id": "nothing", "days": 3}, (404, "not_found")),
        ({"project_id": "0192d3c4-0000-7000-8000-000000000000", "days": 3}, (404, "not_found")),
        ({"project_id": "home", "item_ids": ["x"], "days": 3}, (422, "invalid_input")),
        ({"project_id": "home"}, (422, "invalid_input")),
        ({"project_id": "home", "days": 3, "expires_at": None}, (422, "invalid_input")),
        ({"project_id": "home", "days": -1}, (422, "invalid_input")),
        ({"project_id": "home", "expires_at": "9999-12-31T23:59:59-14:00"}, (422, "invalid_input")),
        ({"project_id": "home", "expires_at": "0001-01-01T00:00:00+14:00"}, (422, "invalid_input")),
        ({"project_id": "home", "days": 3}, (404, "not_found")),
    ],
)
async def test_what_is_no_retention(household, wrong, refusal):
    given = {**wrong, "project_id": household.project_id} if wrong.get("project_id") == "home" else wrong
    assert await household.operator.refused(RETAIN, given) == refusal
