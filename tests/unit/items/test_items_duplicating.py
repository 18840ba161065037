"""Copies of items: rows, files, profiles, and what is left when making one is broken off."""

from __future__ import annotations

import asyncio

import pytest

from geopera_server.domains.items.copies.storing import FORGET_COPIES
from geopera_server.kernel.principal import Principal
from geopera_server.ports.store import StoreFull
from geopera_server.values.ids import new_id
from support.colleagues import colleague
from support.deliveries import asset, deliver, item
from support.house import Caller
from support.orders import insert_order
from support.working import do_jobs

DATA, SMALL = b"x" * 1_000, b"y" * 24


@pytest.fixture
def objects(household):
    """The files below the folder of objects, by path."""
    root = household.house.settings.data_dir / "objects"

    def found() -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    return found


@pytest.fixture
async def source(household, tmp_path):
    """An item in a collection with two files in storage and one elsewhere; returns its id."""
    folder = f"projects/{household.project_id}/items/{new_id()}"
    paths = {"data": DATA, "thumbnail": SMALL}
    for key, content in paths.items():
        (tmp_path / "source").write_bytes(content)
        await household.house.store.put_file(f"{folder}/{key}.tif", tmp_path / "source")
    files = [asset(key, href=f"{folder}/{key}.tif", file_size_bytes=len(content)) for key, content in paths.items()]
    files[0] |= {"band_names": ["red", "nir"], "band_count": 2, "nodata": "nan", "dtype": "float32"}
    files.append(asset("far", href="https://far.example/a.tif", external=True))
    order_id = await insert_order(household)
    given = {"item": item(household.project_id, order_id=order_id), "assets": files, "collection_for": order_id}
    return (await household.owner.run(deliver, given))["id"]


async def full(household, item_id):
    return (await household.owner.op("items.get", {"item_id": item_id}))["item"]


async def stored(household):
    [row] = await household.sql(
        "SELECT bytes FROM storage_total WHERE organization_id = %s", household.place.home.organization_id
    )
    return row["bytes"]


async def test_a_copy_is_an_item_of_its_own(household, source, objects):
    made = await household.owner.op("items.duplicate", {"item_id": source})
    copy, original = await full(household, made["id"]), await full(household, source)
    assert made == {key: copy[key] for key in made}
    assert (copy["name"], copy["stac_id"], copy["duplicated_from_id"]) == ("SCENE_1 (copy)", "SCENE_1-copy", source)
    assert (copy["order_id"], copy["collection_id"]) == (None, original["collection_id"])
    same = ("type", "geometry", "bbox", "datetime", "gsd", "cloud_cover", "properties", "storage_bytes", "asset_count")
    assert {name: copy[name] for name in same} == {name: original[name] for name in same}
    for ours, theirs in zip(copy["assets"], original["assets"], strict=True):
        own = {"id", "item_id", "href", "created_at", "updated_at"}
        assert {k: v for k, v in ours.items() if k not in own} == {k: v for k, v in theirs.items() if k not in own}
        assert ours["id"] != theirs["id"]
    hrefs = {each["key"]: each["href"] for each in copy["assets"]}
    assert hrefs["far"] == "https://far.example/a.tif"
    found = objects()
    assert len(found) == 4
    assert (found[hrefs["data"]], found[hrefs["thumbnail"]]) == (DATA, SMALL)
    assert await stored(household) == 2 * 1_024
    assert await household.sql("SELECT id FROM job WHERE state <> 'done'") == []


async def test_a_copy_comes_from_its_original(household, source):
    made = await household.owner.op("items.duplicate", {"item_id": source, "new_name": "Mine"})
    assert made["name"] == "Mine"
    [record] = await household.sql("SELECT parents FROM lineage_record WHERE entity_id = %s", made["id"])
    assert record["parents"] == [{"entity_type": "item", "entity_id": source}]
    copy, original = await full(household, made["id"]), await full(household, source)
    for ours, theirs in zip(copy["assets"], original["assets"], strict=True):
        [record] = await household.sql("SELECT parents FROM lineage_record WHERE entity_id = %s", ours["id"])
        assert {"entity_type": "asset", "entity_id": theirs["id"]} in record["parents"]
    await household.seal()
    verified = await household.owner.op("provenance.verify", {"entity_type": "item", "entity_id": made["id"]})
    assert verified["digest_matches"]
    events = await household.sql("SELECT data FROM outbox_event WHERE type = 'item.created' AND entity_id = %s", made["id"])
    assert [event["data"] for event in events] == [made]


async def test_original_and_copy_end_alone(household, source, objects):
    made = await household.owner.op("items.duplicate", {"item_id": source})
    original = await full(household, source)
    for each in original["assets"]:
        await household.owner.op("assets.delete", {"item_id": source, "asset_id": each["id"]})
    assert await do_jobs(household, "objects.erase") > 0
    copy = await full(household, made["id"])
    assert {objects()[each["href"]] for each in copy["assets"] if each["key"] != "far"} == {DATA, SMALL}
    assert len(objects()) == 2
    assert await stored(household) == 1_024


async def test_a_copy_goes_where_it_is_told(household, source):
    other = await household.owner.op("projects.create", {"name": "Other"})
    moved = await household.owner.op("items.duplicate", {"item_id": source, "target_project_id": other["id"]})
    assert (moved["project_id"], moved["collection_id"], moved["stac_id"]) == (other["id"], None, "SCENE_1-copy")
    free = await household.owner.op("items.duplicate", {"item_id": source, "target_collection_id": None})
    assert free["collection_id"] is None
    again = await household.owner.op("items.duplicate", {"item_id": source})
    assert again["stac_id"] == "SCENE_1-copy-2"
    collection_id = (await full(household, source))["collection_id"]
    given = {"item_id": source, "target_project_id": other["id"], "target_collection_id": collection_id}
    assert await household.owner.refused("items.duplicate", given) == (422, "invalid_input")
    for unknown in (new_id(), "x"):
        given = {"item_id": source, "target_collection_id": unknown}
        assert await household.owner.refused("items.duplicate", given) == (404, "not_found")


async def test_who_may_not_write_there_may_not_copy(household, source, objects):
    theirs = household.place.stranger.project_id
    cases = [
        (household.stranger, {"item_id": source, "target_project_id": theirs}, (404, "not_found")),
        (household.stranger, {"item_id": source}, (404, "not_found")),
        (household.owner, {"item_id": source, "target_project_id": theirs}, (404, "not_found")),
        (household.owner, {"item_id": new_id()}, (404, "not_found")),
        (household.operator, {"item_id": source}, (403, "role_required")),
        (await colleague(household, "member"), {"item_id": source}, (403, "role_required")),
        (await colleague(household, "viewer"), {"item_id": source}, (403, "missing_scope")),
    ]
    for caller, given, answer in cases:
        assert await caller.refused("items.duplicate", given) == answer
    await household.owner.op("projects.archive", {"project_id": household.project_id})
    assert await household.owner.refused("items.duplicate", {"item_id": source}) == (409, "illegal_state")
    await household.sql("UPDATE item SET lifecycle_state = 'expired'")
    await household.owner.op("projects.archive", {"project_id": household.project_id, "is_archived": False})
    assert await household.owner.refused("items.duplicate", {"item_id": source}) == (410, "retention_expired")
    assert len(objects()) == 2
    assert await household.sql("SELECT id FROM job") == []


async def test_a_copy_must_fit_the_plan(household, source, objects):
    await household.sql("UPDATE plan SET included = included || '{\"storage_bytes\": 2047}'")
    assert await household.owner.refused("items.duplicate", {"item_id": source}) == (402, "storage_quota_exceeded")
    assert len(objects()) == 2
    await household.sql("UPDATE plan SET overage = overage || '{\"storage_gb_month_credits\": 5}'")
    await household.owner.op("items.duplicate", {"item_id": source})


async def test_copies_at_once_never_pass_the_plan(household, source, objects):
    await household.sql("UPDATE plan SET included = included || '{\"storage_bytes\": 3072}'")
    answers = await asyncio.gather(
        *(household.owner.op("items.duplicate", {"item_id": source}) for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(answer, dict) for answer in answers) == 2
    assert await stored(household) == 3_072
    assert await do_jobs(household, FORGET_COPIES) == 3
    assert len(objects()) == 6


async def test_a_repeat_under_one_key_copies_once(household, source, objects):
    made = await asyncio.gather(
        *(household.owner.op("items.duplicate", {"item_id": source}, key="once") for _ in range(3)), return_exceptions=True
    )
    again = await household.owner.op("items.duplicate", {"item_id": source}, key="once")
    assert {each["id"] for each in made if isinstance(each, dict)} == {again["id"]}
    await do_jobs(household, FORGET_COPIES)
    assert len(objects()) == 4


async def test_a_file_that_is_missing_is_told_and_nothing_stays(household, source, objects):
    data = next(each for each in (await full(household, source))["assets"] if each["key"] == "thumbnail")
    await household.house.store.delete(data["href"])
    assert await household.owner.refused("items.duplicate", {"item_id": source}) == (404, "not_found")
    assert len(objects()) == 1
    assert await do_jobs(household, FORGET_COPIES) == 1


async def test_no_room_is_told_and_nothing_stays(household, source, objects, monkeypatch):
    real, calls = household.house.store.copy, []

    async def full_at_the_second(original, path):
        calls.append(path)
        if len(calls) == 2:
            raise StoreFull
        await real(original, path)

    monkeypatch.setattr(household.house.store, "copy", full_at_the_second)
    assert await household.owner.refused("items.duplicate", {"item_id": source}) == (503, "worker_unavailable")
    assert len(objects()) == 2
    assert len(await household.sql("SELECT id FROM item")) == 1


async def test_who_took_too_long_names_nothing_that_is_gone(household, source, objects, monkeypatch):
    """The work that removes copies begins before the rows that name them are written."""
    real = household.house.store.copy

    async def slow(original, path):
        await real(original, path)
        await do_jobs(household, FORGET_COPIES)

    monkeypatch.setattr(household.house.store, "copy", slow)
    assert await household.owner.refused("items.duplicate", {"item_id": source}) == (409, "resource_busy")
    assert len(objects()) == 2
    assert len(await household.sql("SELECT id FROM item")) == 1


@pytest.mark.parametrize("change", ["items.delete", "assets.delete", "attach"])
async def test_what_changes_meanwhile_is_not_copied(household, source, objects, monkeypatch, change):
    real = household.house.store.copy
    original = await full(household, source)

    async def then_changed(path, to):
        await real(path, to)
        if path == original["assets"][-1]["href"] or len(objects()) == 4:
            if change == "attach":
                await household.sql("UPDATE asset SET checksum = 'sha256:other' WHERE item_id = %s AND key = 'data'", source)
            else:
                await household.owner.op(change, {"item_id": source, "asset_id": original["assets"][0]["id"]})

    monkeypatch.setattr(household.house.store, "copy", then_changed)
    expected = (404, "not_found") if change == "items.delete" else (409, "conflict")
    assert await household.owner.refused("items.duplicate", {"item_id": source}) == expected
    await do_jobs(household, FORGET_COPIES)
    assert len(objects()) == 2
    assert len(await household.sql("SELECT id FROM item")) == 1


async def test_deleting_and_copying_at_once_leave_whole_items(household, source, objects):
    given = {"item_id": source}
    operations = ["items.duplicate", "items.delete", "items.duplicate", "items.duplicate"]
    await asyncio.gather(*(household.owner.op(each, given) for each in operations), return_exceptions=True)
    await do_jobs(household, FORGET_COPIES)
    named = await household.sql("SELECT href, file_size_bytes FROM asset WHERE NOT external")
    assert {row["href"]: row["file_size_bytes"] for row in named} == {path: len(content) for path, content in objects().items()}
    assert await stored(household) == 1_024 * len(await household.sql("SELECT id FROM item WHERE deleted_at IS NULL"))


async def test_profiles_are_copied(household, source):
    rows = await household.sql(
        "INSERT INTO visualization_profile (id, organization_id, item_id, name, layer, type, config, asset_key, is_default,"
        " sort_order, created_at, updated_at) VALUES (%s, %s, %s, 'Plain', 'user', 'singleband', '{}', 'data', true, 0, now(),"
        " now()) RETURNING id",
        new_id(),
        household.place.home.organization_id,
        source,
    )
    made = await household.owner.op("items.duplicate", {"item_id": source})
    copies = await household.sql("SELECT id, name, is_default FROM visualization_profile WHERE item_id = %s", made["id"])
    assert [(row["name"], row["is_default"]) for row in copies] == [("Plain", True)]
    assert copies[0]["id"] != rows[0]["id"]


async def test_an_operator_copies_nothing_into_another_organization(household, source):
    guest = household.place.stranger
    scopes = frozenset({"admin:read", "admin:write", "*:read", "*:write"})
    principal = Principal(
        kind="user", id=guest.user_id, organization_id=guest.organization_id, organization_role="owner", scopes=scopes
    )
    given = {"item_id": source, "target_project_id": guest.project_id}
    assert await Caller(household.house, principal).refused("items.duplicate", given) == (404, "not_found")
    assert await household.sql("SELECT 1 FROM item WHERE organization_id = %s", guest.organization_id) == []
