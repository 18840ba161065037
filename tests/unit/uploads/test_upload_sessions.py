"""Sessions: what they reserve, who may drive them, how they end."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from geopera_server.domains.uploads import rules
from geopera_server.domains.uploads.closing import ERASE
from geopera_server.domains.uploads.upkeep import expire_idle_uploads
from geopera_server.kernel.errors import PaymentRequired
from geopera_server.kernel.principal import Principal
from geopera_server.values.ids import new_id
from support.house import Caller
from support.uploads import begun, reserved

KEYS = {
    "id", "organization_id", "project_id", "status", "transfer_method", "file_count", "total_bytes", "bytes_uploaded",
    "reserved_bytes", "is_categorical", "target_collection_id", "target_item_id", "asset_key", "item_id", "raw_prefix",
    "processed_prefix", "checksum_crc32c", "user_metadata", "detected_metadata", "error_message", "error_step", "created_by",
    "created_at", "updated_at", "expires_at", "completed_at",
}  # fmt: skip


@pytest.fixture
def owner(household):
    return household.owner


@pytest.fixture
def held(household):
    async def asked():
        return await reserved(household.sql, household.place.home.organization_id)

    return asked


def colleague(household, role: str) -> Caller:
    """Somebody of the organization who has no role in the project."""
    principal = Principal(
        kind="user", id=new_id(), organization_id=household.place.home.organization_id, organization_role=role,
        scopes=frozenset({"uploads:read", "uploads:write"}),
    )  # fmt: skip
    return Caller(household.house, principal)


async def test_a_session_begins(household, owner, held):
    made = await owner.op("uploads.initiate", {"project_id": household.project_id, "total_bytes": 5_000, "file_count": 3})
    assert made.keys() == KEYS
    assert (made["status"], made["reserved_bytes"], made["created_by"]) == ("initiating", 5_000, household.place.home.user_id)
    assert made["raw_prefix"] == f"projects/{household.project_id}/uploads/{made['id']}/raw/"
    assert await held() == (5_000, 5_000)
    got = await owner.op("uploads.get", {"upload_id": made["id"]})
    assert got == {"upload": made, "files": []}


@pytest.mark.parametrize("method", ["browser", "cli", "cloud_transfer", "signed_url"])
async def test_ways_of_sending(household, owner, method):
    made = await owner.op("uploads.initiate", {"project_id": household.project_id, "transfer_method": method})
    assert made["transfer_method"] == ("browser" if method == "signed_url" else method)


@pytest.mark.parametrize(
    "wrong",
    [
        {"file_count": 0}, {"total_bytes": -1}, {"total_bytes": 2**62}, {"transfer_method": "pigeon"}, {"asset_key": ""},
        {"asset_key": "a/b"}, {"project_id": None},
    ],
)  # fmt: skip
async def test_sessions_that_make_no_sense(household, owner, wrong):
    assert await owner.refused("uploads.initiate", {"project_id": household.project_id, **wrong}) == (422, "invalid_input")


async def test_the_quota_is_asked(household, owner, held):
    await household.sql("UPDATE plan SET included = included || '{\"storage_bytes\": 1000}', overage = '{}'")
    await owner.op("uploads.initiate", {"project_id": household.project_id, "total_bytes": 600})
    asked = {"project_id": household.project_id, "total_bytes": 401}
    assert await owner.refused("uploads.initiate", asked) == (402, "storage_quota_exceeded")
    assert await held() == (600, 600)
    await owner.op("uploads.initiate", {**asked, "total_bytes": 400})
    assert await held() == (1_000, 1_000)


async def test_many_at_once_never_pass_the_quota(household, owner, held):
    await household.sql("UPDATE plan SET included = included || '{\"storage_bytes\": 1000}', overage = '{}'")
    asked = {"project_id": household.project_id, "total_bytes": 300}

    async def one() -> bool:
        try:
            await owner.op("uploads.initiate", asked)
        except PaymentRequired as error:
            return error.code != "storage_quota_exceeded"
        return True

    assert sorted(await asyncio.gather(*(one() for _ in range(8)))) == [False] * 5 + [True] * 3
    assert await held() == (900, 900)


async def test_targets_are_in_the_project(household, owner):
    other = (await owner.op("projects.create", {"name": "Elsewhere"}))["id"]
    at = {"name": "x", "type": "external_reference", "datetime": "2024-01-01T00:00:00Z"}
    here = (await owner.op("items.create", {"project_id": household.project_id, **at}))["id"]
    there = (await owner.op("items.create", {"project_id": other, **at}))["id"]
    asked = {"project_id": household.project_id}
    for wrong in (
        {"target_item_id": there},
        {"target_item_id": new_id()},
        {"target_item_id": "mine"},
        {"target_collection_id": "no"},
    ):
        assert await owner.refused("uploads.initiate", {**asked, **wrong}) == (404, "not_found")
    assert (await owner.op("uploads.initiate", {**asked, "target_item_id": here}))["target_item_id"] == here
    await owner.op("items.delete", {"item_id": here})
    assert await owner.refused("uploads.initiate", {**asked, "target_item_id": here}) == (404, "not_found")


async def test_archived_projects_take_nothing(household, owner):
    upload_id = await begun(owner, household.project_id)
    await owner.op("projects.archive", {"project_id": household.project_id})
    refusal = (409, "illegal_state")
    assert await owner.refused("uploads.initiate", {"project_id": household.project_id}) == refusal
    assert await owner.refused("uploads.signed_url", {"upload_id": upload_id, "file_name": "a.tif"}) == refusal
    assert await owner.refused("uploads.complete", {"upload_id": upload_id}) == refusal
    assert (await owner.op("uploads.fail", {"upload_id": upload_id, "error_message": "archived"}))["status"] == "failed"


OPERATIONS = {
    "uploads.signed_url": {"file_name": "a.tif"},
    "uploads.progress": {"bytes_uploaded": 1},
    "uploads.fail": {"error_message": "no"},
    "uploads.complete": {},
    "uploads.get": {},
}


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_strangers_see_nothing(household, owner, held, operation):
    upload_id = await begun(owner, household.project_id, total_bytes=10)
    for upload in (upload_id, new_id(), "mine", ""):
        assert await household.stranger.refused(operation, {"upload_id": upload, **OPERATIONS[operation]}) == (404, "not_found")
    assert await held() == (10, 10)


async def test_lists_of_strangers_are_not_there(household, owner):
    await begun(owner, household.project_id)
    for project in (household.project_id, new_id(), "mine"):
        assert await household.stranger.refused("uploads.list", {"project_id": project}) == (404, "not_found")
        assert await household.stranger.refused("uploads.initiate", {"project_id": project}) == (404, "not_found")


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name != "uploads.get"])
async def test_readers_may_look_only(household, owner, operation):
    upload_id = await begun(owner, household.project_id)
    reader = colleague(household, "member")
    assert (await reader.op("uploads.get", {"upload_id": upload_id}))["upload"]["id"] == upload_id
    assert await reader.refused(operation, {"upload_id": upload_id, **OPERATIONS[operation]}) == (403, "role_required")
    assert (await colleague(household, "admin").op("uploads.progress", {"upload_id": upload_id}))["id"] == upload_id


async def test_progress_never_goes_back(household, owner):
    upload_id = await begun(owner, household.project_id)
    for given, kept in ((100, 100), (40, 100), (None, 100), (-5, 100), (250, 250)):
        told = await owner.op("uploads.progress", {"upload_id": upload_id, "bytes_uploaded": given, "status": "converting"})
        assert (told["bytes_uploaded"], told["status"]) == (kept, "converting")
    assert (await owner.op("uploads.progress", {"upload_id": upload_id}))["status"] == "converting"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("completed", "invalid_input"),
        ("failed", "invalid_input"),
        ("initiating", "invalid_input"),
        ("x", "unknown_field_value"),
    ],
)
async def test_words_that_are_no_progress(household, owner, status, code):
    upload_id = await begun(owner, household.project_id)
    assert await owner.refused("uploads.progress", {"upload_id": upload_id, "status": status}) == (422, code)


async def test_giving_up_frees_the_room_once(household, owner, held):
    upload_id = await begun(owner, household.project_id, total_bytes=700)
    await begun(owner, household.project_id, total_bytes=50)
    given = {"upload_id": upload_id, "error_message": "The disk is broken.", "error_step": "uploading"}
    told = await owner.op("uploads.fail", given)
    assert (told["status"], told["reserved_bytes"], told["error_message"], told["error_step"]) == (
        "failed", 0, "The disk is broken.", "uploading",
    )  # fmt: skip
    assert await held() == (50, 50)
    assert await owner.op("uploads.fail", {**given, "error_message": "again"}) == told
    assert await held() == (50, 50)
    [event] = await household.sql("SELECT entity_id, data, project_id FROM outbox_event WHERE type = 'upload.failed'")
    assert (event["entity_id"], event["project_id"]) == (upload_id, household.project_id)
    assert event["data"] == told
    [job] = await household.sql("SELECT kind, payload FROM job WHERE entity_id = %s", upload_id)
    assert (job["kind"], job["payload"]) == (ERASE, {"folder": f"projects/{household.project_id}/uploads/{upload_id}"})
    for operation in ("uploads.signed_url", "uploads.progress", "uploads.complete"):
        assert await owner.refused(operation, {"upload_id": upload_id, **OPERATIONS[operation]}) == (409, "illegal_state")


async def test_file_names_are_base_names(household, owner):
    upload_id = await begun(owner, household.project_id, file_count=5)
    for name in ("../a.tif", "a/b.tif", "C:\\a.tif", ".htaccess", "nul", "x" * 256):
        asked = {"upload_id": upload_id, "file_name": name}
        assert await owner.refused("uploads.signed_url", asked) == (422, "invalid_input")
    asked = {"upload_id": upload_id, "file_name": "a.tif", "content_type": "image/tiff\r\nX: y"}
    assert await owner.refused("uploads.signed_url", asked) == (422, "invalid_input")
    assert await household.sql("SELECT id FROM upload_file") == []


async def test_no_more_files_than_announced(household, owner):
    upload_id = await begun(owner, household.project_id, file_count=2)
    first = await owner.op("uploads.signed_url", {"upload_id": upload_id, "file_name": "a.tif"})
    again = await owner.op("uploads.signed_url", {"upload_id": upload_id, "file_name": "a.tif"})
    assert first["object_path"] == again["object_path"] == f"projects/{household.project_id}/uploads/{upload_id}/raw/a.tif"
    await owner.op("uploads.signed_url", {"upload_id": upload_id, "file_name": "b.tif"})
    assert await owner.refused("uploads.signed_url", {"upload_id": upload_id, "file_name": "c.tif"}) == (422, "invalid_input")
    files = (await owner.op("uploads.get", {"upload_id": upload_id}))["files"]
    assert [(file["file_name"], file["status"], file["bytes_received"]) for file in files] == [
        ("a.tif", "waiting", 0), ("b.tif", "waiting", 0),
    ]  # fmt: skip


async def test_lists_in_pages(household, owner):
    made = [await begun(owner, household.project_id) for _ in range(3)]
    await owner.op("uploads.fail", {"upload_id": made[1], "error_message": "x"})
    page = await owner.op("uploads.list", {"project_id": household.project_id, "limit": 2})
    assert ([upload["id"] for upload in page["uploads"]], page["total"], page["limit"]) == ([made[2], made[1]], 3, 2)
    rest = await owner.op("uploads.list", {"project_id": household.project_id, "offset": 2})
    assert [upload["id"] for upload in rest["uploads"]] == [made[0]]
    failed = await owner.op("uploads.list", {"project_id": household.project_id, "status": "failed"})
    assert ([upload["id"] for upload in failed["uploads"]], failed["total"]) == ([made[1]], 1)
    assert await owner.refused("uploads.list", {"project_id": household.project_id, "status": "lost"}) == (422, "invalid_input")
    elsewhere = await household.operator.op("uploads.list", {"project_id": household.project_id})
    assert elsewhere["total"] == 3


async def test_idle_sessions_end_by_themselves(household, owner, held):
    idle = await begun(owner, household.project_id, total_bytes=300)
    busy = await begun(owner, household.project_id, total_bytes=20)
    assert await expire_idle_uploads(household.house.kernel) == 0
    day = rules.IDLE_FOR - timedelta(seconds=1)
    await household.sql("UPDATE upload SET expires_at = expires_at - %s", day)
    assert await expire_idle_uploads(household.house.kernel) == 0
    await owner.op("uploads.progress", {"upload_id": busy, "bytes_uploaded": 1})
    await household.sql("UPDATE upload SET expires_at = now() WHERE id = %s", idle)
    assert await expire_idle_uploads(household.house.kernel) == 1
    ended = (await owner.op("uploads.get", {"upload_id": idle}))["upload"]
    assert (ended["status"], ended["error_step"], ended["reserved_bytes"]) == ("failed", "expired", 0)
    assert await held() == (20, 20)
    assert await expire_idle_uploads(household.house.kernel) == 0
    events = await household.sql("SELECT entity_id FROM outbox_event WHERE type = 'upload.failed'")
    assert [event["entity_id"] for event in events] == [idle]


async def test_a_session_that_went_on_is_not_ended(household, owner, monkeypatch):
    """Between finding it idle and ending it, somebody has gone on with it."""
    upload_id = await begun(owner, household.project_id)
    await household.sql("UPDATE upload SET expires_at = now()")
    real = household.house.kernel.run

    async def late(call):
        await household.sql("UPDATE upload SET expires_at = now() + interval '1 hour'")
        return await real(call)

    monkeypatch.setattr(household.house.kernel, "run", late)
    assert await expire_idle_uploads(household.house.kernel) == 1
    monkeypatch.undo()
    assert (await owner.op("uploads.get", {"upload_id": upload_id}))["upload"]["status"] == "initiating"


async def test_deleting_a_project_ends_its_uploads(household, owner, held):
    project_id = (await owner.op("projects.create", {"name": "Short-lived"}))["id"]
    upload_id = await begun(owner, project_id, total_bytes=800)
    await owner.op("uploads.signed_url", {"upload_id": upload_id, "file_name": "a.tif"})
    kept = await begun(owner, household.project_id, total_bytes=5)
    assert await held() == (805, 805)
    await owner.op("projects.delete", {"project_id": project_id})
    assert await held() == (5, 5)
    assert [row["id"] for row in await household.sql("SELECT id FROM upload")] == [kept]
    assert await household.sql("SELECT id FROM upload_file") == []
    assert await owner.refused("uploads.get", {"upload_id": upload_id}) == (404, "not_found")
    [event] = await household.sql("SELECT entity_id FROM outbox_event WHERE type = 'upload.failed'")
    assert event["entity_id"] == upload_id
    folders = await household.sql("SELECT payload ->> 'folder' AS folder FROM job WHERE kind = %s", ERASE)
    assert f"projects/{project_id}/uploads" in {row["folder"] for row in folders}
