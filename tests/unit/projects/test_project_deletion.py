"""Deleting a project: what goes, what stays, who may, and what hinders it."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta

import pytest

from geopera_server.domains.sharing.operations import links as share_links
from geopera_server.kernel.errors import OperationError
from geopera_server.kernel.operation import operation_of
from geopera_server.kernel.pipeline import Call
from geopera_server.values.clock import iso, now
from geopera_server.values.ids import new_id
from support.colleagues import colleague
from support.deliveries import asset, deliver, item
from support.orders import insert_order
from support.working import do_jobs, objects_in, stored

DELETE = "projects.delete"


@pytest.fixture
async def project(household) -> str:
    return (await household.owner.op("projects.create", {"name": "Doomed"}))["id"]


async def file(household, project_id, stac_id="SCENE_1", *, size=1_000, href=None, **more):
    path = href or await stored(household, f"projects/{project_id}/items/{new_id()}/data.tif", b"x" * size)
    given = {"item": item(project_id, stac_id, **more), "assets": [asset(href=path, file_size_bytes=size)]}
    return {**await household.owner.run(deliver, given), "path": path}


async def counts(household, project_id) -> dict[str, int]:
    tables = ("item", "asset", "collection", "project_member", "upload", "share_link")
    found = {}
    for table in tables:
        [row] = await household.sql(f"SELECT count(*) AS rows FROM {table} WHERE project_id = %s", project_id)
        found[table] = row["rows"]
    return found


async def used_bytes(household) -> int:
    organization_id = household.place.home.organization_id
    [row] = await household.sql("SELECT bytes, ledger_bytes FROM storage_total WHERE organization_id = %s", organization_id)
    assert row["bytes"] == row["ledger_bytes"]
    return row["bytes"]


async def verdict(household, entity_type, entity_id):
    await household.seal()
    found = await household.owner.op("provenance.verify", {"entity_type": entity_type, "entity_id": entity_id})
    return found["ok"], found["digest_matches"]


async def test_everything_of_a_project_goes(household, project):
    kept = await file(household, household.project_id, "KEPT", size=10)
    collection = await household.owner.op("collections.create", {"project_id": project, "name": "Berths"})
    gone = await household.owner.op("collections.create", {"project_id": project, "name": "Quays"})
    await household.owner.op("collections.delete", {"project_id": project, "collection_id": gone["id"]})
    live = await file(household, project, "A", size=300, collection_id=collection["id"])
    deleted = await file(household, project, "B", size=50)
    await household.owner.op("items.delete", {"item_id": deleted["id"]})
    outside = {"external": True, "href": "https://example.com/a.tif", "file_size_bytes": 7_000}
    await household.owner.run(deliver, {"item": item(project, "C"), "assets": [asset(**outside)]})
    await stored(household, f"projects/{project}/orders/left/behind.tif")
    assert await used_bytes(household) == 310
    reply = await household.owner.op(DELETE, {"project_id": project})
    assert reply == {"project_id": project, "deleted": True, "storage_freed_bytes": 300}
    assert await used_bytes(household) == 10
    assert set((await counts(household, project)).values()) == {0}
    for operation_id in ("projects.get", "projects.stats", "projects.members.list", "items.list", "collections.list", DELETE):
        assert await household.owner.refused(operation_id, {"project_id": project}) == (404, "not_found")
    assert await household.owner.refused("items.get", {"item_id": live["id"]}) == (404, "not_found")
    assert live["path"] in await objects_in(household, f"projects/{project}")
    assert await do_jobs(household, "objects.erase") == 2
    assert await objects_in(household, "projects") == [kept["path"]]
    assert await household.sql("SELECT * FROM erasure") == []
    assert await do_jobs(household, "objects.erase") == 0


async def test_the_lineage_says_that_all_was_deleted(household, project):
    collection = await household.owner.op("collections.create", {"project_id": project, "name": "Berths"})
    one = await file(household, project)
    [found] = (await household.owner.op("items.list_assets", {"item_id": one["id"]}))["assets"]
    deleted = await file(household, project, "B")
    await household.owner.op("items.delete", {"item_id": deleted["id"]})
    await household.owner.op(DELETE, {"project_id": project})
    assert await verdict(household, "project", project) == (True, True)
    gone = [("item", one["id"]), ("item", deleted["id"]), ("asset", found["id"]), ("collection", collection["id"])]
    for kind, entity_id in gone:
        assert await verdict(household, kind, entity_id) == (True, None), kind
        records = await household.sql("SELECT kind FROM lineage_record WHERE entity_id = %s ORDER BY id", entity_id)
        assert [row["kind"] for row in records] == ["edge", "event"]
    types = [row["type"] for row in await household.sql("SELECT type FROM outbox_event ORDER BY position")]
    assert types[-1] == "project.deleted"
    assert types.count("item.deleted") == 1, "of what goes with its project the project's event tells"
    assert (await household.owner.op("provenance.verify"))["ok"]


async def test_orders_and_money_stay(household):
    order_id = await insert_order(household)
    await household.sql("UPDATE orders SET status = 'fulfilled', fulfilled_at = now() WHERE id = %s", order_id)
    await file(household, household.project_id, order_id=order_id)
    ledger = await household.sql("SELECT * FROM ledger_entry ORDER BY id")
    await household.owner.op(DELETE, {"project_id": household.project_id})
    assert len(await household.sql("SELECT id FROM orders WHERE id = %s", order_id)) == 1
    assert await household.sql("SELECT * FROM ledger_entry ORDER BY id") == ledger
    audited = await household.sql("SELECT outcome FROM audit_event WHERE operation_id = %s", DELETE)
    assert [row["outcome"] for row in audited] == ["ok"]


async def test_the_name_is_free_again(household, project):
    await household.owner.op(DELETE, {"project_id": project})
    again = await household.owner.op("projects.create", {"name": "Doomed"})
    assert again["id"] != project


async def test_an_archived_project_can_be_deleted(household, project):
    await household.owner.op("projects.archive", {"project_id": project})
    assert (await household.owner.op(DELETE, {"project_id": project}))["deleted"]


@pytest.mark.parametrize("status", ["created", "processing", "fulfilling", "placement_failed"])
async def test_nobody_deletes_under_an_undelivered_order(household, status):
    order_id = await insert_order(household)
    reason = "broken" if status == "placement_failed" else None
    await household.tamper("UPDATE orders SET status = %s, failure_reason = %s WHERE id = %s", status, reason, order_id)
    await file(household, household.project_id)
    before = await counts(household, household.project_id)
    assert await household.owner.refused(DELETE, {"project_id": household.project_id}) == (409, "resource_busy")
    assert await counts(household, household.project_id) == before


async def working_on(household, entity_id, *, kind="test.work", **payload) -> str:
    from psycopg.types.json import Jsonb

    job_id = new_id()
    await household.sql(
        "INSERT INTO job (id, kind, organization_id, entity_id, payload, run_after, invocation_id, created_at)"
        " VALUES (%s, %s, %s, %s, %s, now(), %s, now())",
        job_id, kind, household.place.home.organization_id, entity_id, Jsonb(payload), new_id(),
    )  # fmt: skip
    return job_id


@pytest.mark.parametrize("about", ["project", "item", "asset", "what it reads"])
async def test_nobody_deletes_under_a_running_job(household, project, about):
    one = await file(household, project)
    [found] = await household.sql("SELECT id FROM asset WHERE item_id = %s", one["id"])
    entities = {"project": project, "item": one["id"], "asset": found["id"], "what it reads": new_id()}
    job_id = await working_on(household, entities[about], item_ids=[one["id"]] if about == "what it reads" else None)
    await working_on(household, new_id(), kind="test.elsewhere")
    assert (await household.owner.op("projects.get", {"project_id": project}))["running_jobs"] == 1
    assert await household.owner.refused(DELETE, {"project_id": project}) == (409, "resource_busy")
    await household.sql("UPDATE job SET state = 'done' WHERE id = %s", job_id)
    assert (await household.owner.op("projects.get", {"project_id": project}))["running_jobs"] == 0
    assert (await household.owner.op(DELETE, {"project_id": project}))["deleted"]


async def test_of_two_deletions_one_does_it(household, project):
    for number in range(20):
        await file(household, project, f"S{number}", size=10)
    ended = await asyncio.gather(
        *(household.owner.op(DELETE, {"project_id": project}) for _ in range(4)), return_exceptions=True
    )
    done = [each for each in ended if isinstance(each, dict)]
    assert [each["storage_freed_bytes"] for each in done] == [200]
    assert {(each.status, each.code) for each in ended if isinstance(each, OperationError)} == {(404, "not_found")}
    assert len(await household.sql("SELECT id FROM outbox_event WHERE type = 'project.deleted'")) == 1
    assert await used_bytes(household) == 0


async def test_nothing_gets_into_a_project_while_it_goes(household):
    """Whichever call comes first, nothing is left in a project that is gone."""
    for round_ in range(4):
        project = (await household.owner.op("projects.create", {"name": f"Round {round_}"}))["id"]
        given = {"project_id": project, "name": "Late", "type": "external_reference", "datetime": "2024-01-01T00:00:00Z"}
        late = [household.owner.op("items.create", {**given, "stac_id": new_id()}) for _ in range(3)]
        filed = [household.owner.op("collections.create", {"project_id": project, "name": new_id()}) for _ in range(3)]
        begun = [begun_upload(household, project) for _ in range(2)]
        ended = await asyncio.gather(
            *late, household.owner.op(DELETE, {"project_id": project}), *filed, *begun, return_exceptions=True
        )
        assert isinstance(ended[3], dict), ended[3]
        assert {each.status for each in ended if isinstance(each, OperationError)} <= {404}
        assert {key: n for key, n in (await counts(household, project)).items() if n} == {}
        assert await reserved_bytes(household) == 0


async def begun_upload(household, project) -> str:
    body = {"project_id": project, "transfer_method": "browser", "file_count": 1, "total_bytes": 5_000}
    begun = await household.owner.op("uploads.initiate", body)
    return begun["id"]


async def reserved_bytes(household) -> int:
    organization_id = household.place.home.organization_id
    rows = await household.sql("SELECT reserved_bytes FROM storage_total WHERE organization_id = %s", organization_id)
    return sum(row["reserved_bytes"] for row in rows)


async def test_open_uploads_end_with_their_project(household, project):
    upload_id = await begun_upload(household, project)
    assert await reserved_bytes(household) == 5_000
    await household.owner.op(DELETE, {"project_id": project})
    assert await reserved_bytes(household) == 0
    events = await household.sql("SELECT type FROM outbox_event WHERE entity_id = %s", upload_id)
    assert "upload.failed" in [row["type"] for row in events]


async def test_what_an_asset_elsewhere_names_is_kept(household, project):
    shared = await file(household, project)
    await file(household, household.project_id, "OTHER", href=shared["path"])
    await household.owner.op(DELETE, {"project_id": project})
    await do_jobs(household, "objects.erase")
    assert await objects_in(household, "projects") == [shared["path"]]


async def test_what_could_not_be_erased_is_tried_again(household, project, monkeypatch):
    one = await file(household, project)

    async def broken(_path):
        raise OSError("the store is away")

    await household.owner.op(DELETE, {"project_id": project})
    await household.sql("UPDATE job SET state = 'failed' WHERE entity_id = %s", project)
    with monkeypatch.context() as patch:
        patch.setattr(household.house.store, "delete", broken)
        with pytest.raises(OSError, match="away"):
            await do_jobs(household, "objects.erase")
    await household.sql("UPDATE job SET state = 'failed', leased_until = NULL WHERE state = 'running'")
    assert await objects_in(household, "projects") == [one["path"]]
    await household.operator.op("items.admin.purge")
    assert await do_jobs(household, "objects.erase") == 1
    assert await objects_in(household, "projects") == []


@pytest.mark.parametrize(
    ("role", "refusal"), [("viewer", (403, "role_required")), ("editor", (403, "role_required")), ("admin", None)]
)
async def test_who_may_delete_a_project(household, project, role, refusal):
    caller = await colleague(household, "member")
    assert await caller.refused(DELETE, {"project_id": project}) == (403, "role_required")
    await household.owner.op("projects.add_member", {"project_id": project, "user_id": caller.principal.id, "role": role})
    if refusal is None:
        assert (await caller.op(DELETE, {"project_id": project}))["deleted"]
    else:
        assert await caller.refused(DELETE, {"project_id": project}) == refusal


async def test_nobody_deletes_what_is_not_theirs(household, project):
    for project_id in (project, new_id(), "nothing"):
        assert await household.stranger.refused(DELETE, {"project_id": project_id}) == (404, "not_found")
    assert await household.operator.refused(DELETE, {"project_id": project}) == (403, "role_required")
    viewer = await colleague(household, "viewer")
    assert await viewer.refused(DELETE, {"project_id": project}) == (403, "missing_scope")


async def test_links_that_were_over_before_are_recorded_as_gone(household, project):
    one = await file(household, project)
    given = {"target_type": "item", "target_id": one["id"], "password": "for the whole crew"}
    links = [
        await household.owner.op("share.link.create", {**given, "expires_at": iso(now() + timedelta(days=1))}) for _ in range(3)
    ]
    await household.sql("UPDATE share_link SET expires_at = now() WHERE id = %s", links[0]["id"])
    await household.owner.op("share.link.revoke", {"link_id": links[1]["id"]})
    await household.owner.op(DELETE, {"project_id": project})
    for link in links[1:]:
        assert await verdict(household, "share_link", link["id"]) == (True, None)
    [record] = await household.sql(
        "SELECT operation_id FROM lineage_record WHERE entity_id = %s AND kind = 'event'", links[0]["id"]
    )
    assert record["operation_id"] == DELETE
    told = await household.sql("SELECT entity_id FROM outbox_event WHERE type = 'share_link.revoked' ORDER BY position")
    assert [row["entity_id"] for row in told] == [links[1]["id"], links[2]["id"]], "each end is told of once"


@pytest.mark.parametrize("target_type", ["item", "collection"])
async def test_no_link_is_left_that_was_made_while_its_project_went(household, project, target_type):
    collection = await household.owner.op("collections.create", {"project_id": project, "name": "Berths"})
    one = await file(household, project, collection_id=collection["id"])
    target_id = one["id"] if target_type == "item" else collection["id"]
    given = {"target_type": target_type, "target_id": target_id, "password": "for the whole crew"}
    maker = operation_of(share_links.create)
    principal = household.owner.principal
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(ctx, given, password_hash):
        made = await share_links.create(ctx, given, password_hash)
        started.set()
        await go_on.wait()
        return made

    slow = dataclasses.replace(maker, handler=slowly)
    body = {**given, "expires_at": iso(now() + timedelta(days=1))}
    making = asyncio.create_task(household.house.kernel.run(Call(operation=slow, given=body, principal=principal)))
    await started.wait()
    going = asyncio.create_task(household.owner.op(DELETE, {"project_id": project}))
    await blocked(household)
    go_on.set()
    await asyncio.gather(making, going)
    assert (await counts(household, project))["share_link"] == 0
    told = await household.sql("SELECT type FROM outbox_event WHERE entity_type = 'share_link' ORDER BY position")
    assert [row["type"] for row in told] == ["share_link.created", "share_link.revoked"]


async def blocked(household) -> None:
    """Waits until a statement waits for a lock."""
    async with asyncio.timeout(10):
        while not await household.sql("SELECT 1 FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0)
