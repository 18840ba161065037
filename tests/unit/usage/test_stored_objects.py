"""Objects and assets are compared, and only what is surely nobody's is removed."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta

import pytest

from geopera_server.values.ids import new_id
from support.stored import stored_asset

RECONCILE = "usage.admin.reconcile_storage"


@pytest.fixture
def put(household, tmp_path):
    """Stores an object of so many bytes, as old as told."""

    async def made(path: str, size: int, *, days: float = 0) -> str:
        source = tmp_path / "source"
        source.write_bytes(b"x" * size)
        await household.house.store.put_file(path, source)
        file = household.house.settings.data_dir / "objects" / path
        then = time.time() - days * 86_400
        os.utime(file, (then, then))
        return path

    return made


@pytest.fixture
def asset(household, put):
    async def made(size: int, *, object_size: int | None, **more) -> tuple[str, str]:
        path = f"projects/{household.project_id}/items/{new_id()}/data.tif"
        asset_id = await stored_asset(
            household.sql, household.place.home.organization_id, household.project_id, size, href=path, **more
        )
        if object_size is not None:
            await put(path, object_size, days=30)
        return asset_id, path

    return made


async def test_what_fits_is_only_counted(household, asset):
    await asset(10, object_size=10)
    await asset(20, object_size=None, external=True)
    deleted, _ = await asset(5, object_size=5)
    await household.sql("UPDATE asset SET deleted_at = now() WHERE id = %s", deleted)
    found = await household.operator.op(RECONCILE, {"delete_orphans": True})
    assert found == {"checked": 1, "missing_objects": [], "orphan_objects": [], "corrected_bytes": 0, "damaged_objects": []}


async def test_missing_and_damaged_objects_are_told(household, asset):
    missing, path = await asset(10, object_size=None)
    damaged, _ = await asset(20, object_size=7)
    found = await household.operator.op(RECONCILE, {"project_id": household.project_id})
    assert [(each["asset_id"], each["path"], each["bytes"]) for each in found["missing_objects"]] == [(missing, path, 10)]
    [told] = found["damaged_objects"]
    assert (told["asset_id"], told["bytes"], told["stored_bytes"]) == (damaged, 20, 7)
    assert found["checked"] == 2
    [row] = await household.sql("SELECT entities FROM audit_event WHERE operation_id = %s", RECONCILE)
    assert {each["id"] for each in row["entities"]} == {missing, damaged}


async def test_orphans_go_only_when_told_and_old(household, put):
    folder = f"projects/{household.project_id}/orders/{new_id()}/0/1"
    old, young = await put(f"{folder}/old.tif", 11, days=7.1), await put(f"{folder}/young.tif", 13, days=6.9)
    purged = await put(f"projects/{new_id()}/orders/{new_id()}/0/1/left.tif", 17, days=400)
    listed = await household.operator.op(RECONCILE)
    assert {(each["path"], each["bytes"], each["deleted"]) for each in listed["orphan_objects"]} == {
        (old, 11, False), (young, 13, False), (purged, 17, False),
    }  # fmt: skip
    assert (listed["corrected_bytes"], await household.house.store.size(old)) == (0, 11)
    removed = await household.operator.op(RECONCILE, {"delete_orphans": True})
    assert {each["path"]: each["deleted"] for each in removed["orphan_objects"]} == {old: True, young: False, purged: True}
    assert removed["corrected_bytes"] == 28
    again = await household.operator.op(RECONCILE, {"delete_orphans": True})
    assert [(each["path"], each["deleted"]) for each in again["orphan_objects"]] == [(young, False)]


async def test_what_is_being_made_is_nobodys_orphan(household, put):
    home, at = household.place.home.organization_id, datetime.now(UTC) - timedelta(days=30)
    order_id, upload_id, done_id = new_id(), new_id(), new_id()
    await household.sql(
        "INSERT INTO orders (id, organization_id, project_id, type, status, display_name, billing_mode, total_credits,"
        " license_type, created_by_type, created_at, updated_at)"
        " VALUES (%s, %s, %s, 'archive', 'processing', 'o', 'credit', 1, 'standard', 'user', %s, %s)",
        order_id, home, household.project_id, at, at,
    )  # fmt: skip
    for entity_id, state in ((upload_id, "queued"), (done_id, "done")):
        await household.sql(
            "INSERT INTO job (id, kind, organization_id, entity_id, state, run_after, invocation_id, created_at)"
            " VALUES (%s, 'test', %s, %s, %s, %s, %s, %s)",
            new_id(), home, entity_id, state, at, new_id(), at,
        )  # fmt: skip
    root = f"projects/{household.project_id}"
    ordered = await put(f"{root}/orders/{order_id}/0/1/00-visual.tif", 5, days=20)
    uploaded = await put(f"{root}/uploads/{upload_id}/raw.tif", 5, days=20)
    left = await put(f"{root}/uploads/{done_id}/raw.tif", 6, days=20)
    found = await household.operator.op(RECONCILE, {"delete_orphans": True})
    assert [(each["path"], each["deleted"]) for each in found["orphan_objects"]] == [(left, True)]
    assert await household.house.store.size(ordered) == await household.house.store.size(uploaded) == 5
    await household.sql("UPDATE orders SET status = 'cancelled', cancelled_at = now() WHERE id = %s", order_id)
    found = await household.operator.op(RECONCILE, {"delete_orphans": True})
    assert [each["path"] for each in found["orphan_objects"]] == [ordered]


async def test_no_more_than_asked_for(household, put, asset):
    for number in range(4):
        await put(f"projects/{household.project_id}/orphan-{number}.tif", 1, days=20)
        await asset(10, object_size=None)
    found = await household.operator.op(RECONCILE, {"limit": 3, "delete_orphans": True})
    assert (len(found["orphan_objects"]), len(found["missing_objects"]), found["corrected_bytes"]) == (3, 3, 3)
    assert len((await household.operator.op(RECONCILE))["orphan_objects"]) == 1


async def test_an_id_in_capitals_is_the_same_id(household, asset):
    await asset(10, object_size=10)
    found = await household.operator.op(RECONCILE, {"project_id": household.project_id.upper()})
    assert (found["checked"], found["orphan_objects"]) == (1, [])


async def test_unknown_projects_and_people(household):
    for unknown in ("nonsense", "0192d3c4-0000-7000-8000-000000000000"):
        assert await household.operator.refused(RECONCILE, {"project_id": unknown}) == (404, "not_found")
    assert (await household.owner.refused(RECONCILE))[0] == 403
