"""Collections: made, changed, deleted and taken back, by those who may."""

from __future__ import annotations

import asyncio

import pytest

from geopera_server.domains.items.rules import joined_bbox
from geopera_server.kernel.errors import OperationError
from geopera_server.values.ids import new_id
from support.colleagues import colleague
from support.deliveries import asset, deliver, item
from support.orders import insert_order


async def made(household, name="Berths", **more):
    return await household.owner.op("collections.create", {"project_id": household.project_id, "name": name, **more})


def named(household, collection_id) -> dict[str, str]:
    return {"project_id": household.project_id, "collection_id": collection_id}


async def file(household, collection_id=None, stac_id="SCENE_1", **more):
    given = {"item": item(household.project_id, stac_id, collection_id=collection_id, **more), "assets": [asset()]}
    return await household.owner.run(deliver, given)


async def events(household, kind="collection") -> list[str]:
    rows = await household.sql("SELECT type FROM outbox_event WHERE entity_type = %s ORDER BY position", kind)
    return [row["type"] for row in rows]


async def verified(household, collection_id) -> tuple[bool, bool | None]:
    await household.seal()
    found = await household.owner.op("provenance.verify", {"entity_type": "collection", "entity_id": collection_id})
    return found["ok"], found["digest_matches"]


async def test_a_collection_is_made_and_shown(household):
    found = await made(household, "  Berths ", description="All of them", color="#1F77b4", layer_order=-3, show_on_map=False)
    assert found == {
        "id": found["id"], "project_id": household.project_id, "name": "Berths", "description": "All of them",
        "color": "#1F77b4", "layer_order": -3, "show_on_map": False, "auto_created": False, "source_type": None,
        "source_id": None, "item_count": 0, "created_at": found["created_at"], "updated_at": found["created_at"],
        "deleted_at": None,
    }  # fmt: skip
    full = await household.owner.op("collections.get", named(household, found["id"]))
    assert full == {**found, "bbox": None, "datetime_range": None, "storage_bytes": 0}
    assert await events(household) == ["collection.created"]
    [edge] = await household.sql("SELECT * FROM lineage_edge WHERE src_id = %s", found["id"])
    assert (edge["dst_type"], edge["dst_id"]) == ("project", household.project_id)


async def test_what_a_collection_covers_and_takes(household):
    found = await made(household)
    await file(household, found["id"], "A", datetime="2022-06-12T10:10:00+00:00")
    box = [[150.0, -34.0], [152.0, -34.0], [152.0, -33.0], [150.0, -33.0], [150.0, -34.0]]
    await file(
        household, found["id"], "B", datetime="2023-01-01T00:00:00+00:00", geometry={"type": "Polygon", "coordinates": [box]}
    )
    gone = await file(household, found["id"], "C", datetime="2030-01-01T00:00:00+00:00")
    await household.sql("UPDATE item SET deleted_at = now() WHERE id = %s", gone["id"])
    await household.sql("UPDATE asset SET deleted_at = now() WHERE item_id = %s", gone["id"])
    full = await household.owner.op("collections.get", named(household, found["id"]))
    assert (full["item_count"], full["storage_bytes"]) == (2, 2_000)
    assert full["bbox"] == [11.2, -34.0, 152.0, 46.5]
    assert full["datetime_range"] == {"start": "2022-06-12T10:10:00.000Z", "end": "2023-01-01T00:00:00.000Z"}


@pytest.mark.parametrize(
    ("boxes", "joined"),
    [
        ([], None),
        ([(-10, 0, -5, 1), (20, 2, 30, 3)], [-10, 0, 30, 3]),
        ([(170, 0, -170, 1)], [170, 0, -170, 1]),
        ([(170, 0, -170, 1), (160, -2, 165, 3)], [160, -2, -170, 3]),
        ([(170, 0, -170, 1), (-160, 0, -150, 1)], [170, 0, -150, 1]),
        ([(170, 0, -170, 1), (-5, 0, 5, 1)], [-180, 0, 180, 1]),
    ],
)
async def test_the_box_around_boxes(household, boxes, joined):
    found = await made(household)
    for number, box in enumerate(boxes):
        one = await file(household, found["id"], f"S{number}")
        await household.sql("UPDATE item SET bbox = %s WHERE id = %s", [float(edge) for edge in box], one["id"])
    assert (await household.owner.op("collections.get", named(household, found["id"])))["bbox"] == joined


def test_no_box_of_nothing():
    assert joined_bbox({"west": None}) is None


async def test_a_list_goes_by_layer_then_name(household):
    ids = {}
    for name, order in (("beta", 1), ("Alpha", 1), ("zulu", 0)):
        ids[name] = (await made(household, name, layer_order=order))["id"]
    await file(household, ids["Alpha"], "A")
    await file(household, None, "B")
    listed = await household.owner.op("collections.list", {"project_id": household.project_id})
    assert [(one["name"], one["item_count"]) for one in listed["collections"]] == [("zulu", 0), ("Alpha", 1), ("beta", 0)]
    assert (listed["total"], listed["uncollected_count"]) == (3, 1)


@pytest.mark.parametrize(
    "wrong",
    [{"name": " "}, {"name": "x" * 256}, {"color": "red"}, {"color": "#12345g"}, {"color": "#1234567"}, {"layer_order": 2**31}],
)
async def test_what_is_no_collection(household, wrong):
    given = {"project_id": household.project_id, "name": "Berths", **wrong}
    assert await household.owner.refused("collections.create", given) == (422, "invalid_input")


async def test_a_name_is_taken_once_per_project(household):
    first, other = await made(household), await made(household, "Quays")
    again = {"project_id": household.project_id, "name": "BERTHS"}
    assert await household.owner.refused("collections.create", again) == (409, "conflict")
    taken = {**named(household, other["id"]), "name": "berths"}
    assert await household.owner.refused("collections.update", taken) == (409, "conflict")
    renamed = await household.owner.op("collections.update", {**named(household, first["id"]), "name": "BERTHS"})
    assert renamed["name"] == "BERTHS"
    elsewhere = (await household.owner.op("projects.create", {"name": "Other"}))["id"]
    assert (await household.owner.op("collections.create", {"project_id": elsewhere, "name": "Berths"}))["name"] == "Berths"


async def test_of_many_that_make_the_same_name_one_does(household):
    given = {"project_id": household.project_id, "name": "Berths"}
    ended = await asyncio.gather(*(household.owner.op("collections.create", given) for _ in range(5)), return_exceptions=True)
    refused = [each for each in ended if isinstance(each, OperationError)]
    assert [(each.status, each.code) for each in refused] == [(409, "conflict")] * 4
    assert await events(household) == ["collection.created"]


async def test_making_one_twice_with_a_key_makes_one(household):
    given = {"project_id": household.project_id, "name": "Berths"}
    first = await household.owner.op("collections.create", given, key="k1")
    assert await household.owner.op("collections.create", given, key="k1") == first


async def test_a_change_keeps_what_is_not_sent(household):
    found = await made(household, description="All", color="#000000", layer_order=4, show_on_map=False)
    changed = await household.owner.op("collections.update", {**named(household, found["id"]), "layer_order": 5})
    assert {**changed, "updated_at": None} == {**found, "layer_order": 5, "updated_at": None}
    nothing = dict.fromkeys(("name", "description", "color", "layer_order", "show_on_map"))
    cleared = await household.owner.op("collections.update", {**named(household, found["id"]), **nothing})
    assert {**cleared, "updated_at": None} == {**changed, "description": None, "color": None, "updated_at": None}
    assert await verified(household, found["id"]) == (True, True)
    assert await events(household) == ["collection.created", "collection.updated", "collection.updated"]


async def test_a_deleted_collection_leaves_its_items(household):
    found = await made(household)
    filed = await file(household, found["id"])
    assert await household.owner.op("collections.delete", named(household, found["id"])) == {"id": found["id"], "ok": True}
    [row] = await household.sql("SELECT collection_id, deleted_at FROM item WHERE id = %s", filed["id"])
    assert (row["collection_id"], row["deleted_at"]) == (None, None)
    for operation_id in ("collections.get", "collections.update", "collections.delete"):
        assert await household.owner.refused(operation_id, named(household, found["id"])) == (404, "not_found")
    assert (await household.owner.op("collections.list", {"project_id": household.project_id}))["total"] == 0
    assert await verified(household, found["id"]) == (True, True)
    assert await events(household) == ["collection.created", "collection.deleted"]
    await made(household)


async def test_a_collection_comes_back_without_its_items(household):
    found = await made(household)
    await file(household, found["id"])
    await household.owner.op("collections.delete", named(household, found["id"]))
    back = await household.owner.op("collections.restore", named(household, found["id"]))
    assert {**back, "updated_at": None} == {**found, "updated_at": None}
    assert await household.owner.refused("collections.restore", named(household, found["id"])) == (409, "illegal_state")
    assert await verified(household, found["id"]) == (True, True)
    assert await events(household) == ["collection.created", "collection.deleted", "collection.created"]


async def test_a_collection_does_not_come_back_to_a_taken_name(household):
    found = await made(household)
    await household.owner.op("collections.delete", named(household, found["id"]))
    await made(household, "BERTHS")
    assert await household.owner.refused("collections.restore", named(household, found["id"])) == (409, "conflict")


async def test_a_source_has_one_live_collection(household):
    order_id = await insert_order(household)
    first = await household.owner.run(deliver, {"item": item(household.project_id), "collection_for": order_id})
    again = await household.owner.run(deliver, {"item": item(household.project_id), "collection_for": order_id})
    assert again["collection_id"] == first["collection_id"]
    await household.owner.op("collections.delete", named(household, first["collection_id"]))
    renewed = await household.owner.run(deliver, {"item": item(household.project_id), "collection_for": order_id})
    assert renewed["collection_id"] not in {None, first["collection_id"]}
    renamed = {**named(household, renewed["collection_id"]), "name": "Anything else"}
    await household.owner.op("collections.update", renamed)
    assert await household.owner.refused("collections.restore", named(household, first["collection_id"])) == (409, "conflict")


async def test_what_is_filed_under_a_collection_that_is_gone_is_in_none(household):
    """As a delivery is that was ordered into a collection which was deleted meanwhile."""
    found = await made(household)
    await household.owner.op("collections.delete", named(household, found["id"]))
    late = await file(household, found["id"])
    assert late["collection_id"] is None
    listed = await household.owner.op("collections.list", {"project_id": household.project_id})
    assert (listed["total"], listed["uncollected_count"]) == (0, 1)


async def test_filing_and_deleting_wait_for_each_other(household):
    """Whichever comes first, no item is left in a collection that is gone."""
    for _ in range(5):
        found = await made(household)
        await asyncio.gather(
            household.owner.op("collections.delete", named(household, found["id"])),
            *(file(household, found["id"], new_id()) for _ in range(3)),
        )
        assert await household.sql("SELECT id FROM item WHERE collection_id = %s", found["id"]) == []


async def test_an_archived_project_takes_no_collections(household):
    found, other = await made(household), await made(household, "Quays")
    await household.owner.op("collections.delete", named(household, other["id"]))
    await household.owner.op("projects.archive", {"project_id": household.project_id})
    new = {"project_id": household.project_id, "name": "New"}
    assert await household.owner.refused("collections.create", new) == (409, "illegal_state")
    assert await household.owner.refused("collections.restore", named(household, other["id"])) == (409, "illegal_state")
    await household.owner.op("collections.update", {**named(household, found["id"]), "name": "Still mine"})


@pytest.mark.parametrize("operation_id", ["get", "update", "delete", "restore"])
async def test_nobody_elses_collection_is_known(household, operation_id):
    found = await made(household)
    elsewhere = (await household.owner.op("projects.create", {"name": "Other"}))["id"]
    unknown = [
        (household.stranger, named(household, found["id"])),
        (household.stranger, {"project_id": household.place.stranger.project_id, "collection_id": found["id"]}),
        (household.owner, {"project_id": elsewhere, "collection_id": found["id"]}),
        (household.owner, named(household, new_id())),
        (household.owner, named(household, "nothing")),
        (household.owner, {"project_id": "nothing", "collection_id": found["id"]}),
    ]
    for caller, given in unknown:
        assert await caller.refused(f"collections.{operation_id}", given) == (404, "not_found")


async def test_strangers_neither_list_nor_make(household):
    project = {"project_id": household.project_id}
    assert await household.stranger.refused("collections.list", project) == (404, "not_found")
    assert await household.stranger.refused("collections.create", {**project, "name": "Mine"}) == (404, "not_found")


@pytest.mark.parametrize(
    ("role", "writes", "deletes"),
    [
        ("viewer", (403, "role_required"), (403, "role_required")),
        ("editor", None, (403, "role_required")),
        ("admin", None, None),
    ],
)
async def test_what_a_role_in_the_project_allows(household, role, writes, deletes):
    found = await made(household)
    caller = await colleague(household, "member")
    await household.owner.op(
        "projects.add_member", {"project_id": household.project_id, "user_id": caller.principal.id, "role": role}
    )
    assert (await caller.op("collections.get", named(household, found["id"])))["id"] == found["id"]
    calls = [
        ("collections.create", {"project_id": household.project_id, "name": "New"}, writes),
        ("collections.update", {**named(household, found["id"]), "name": "Newer"}, writes),
        ("collections.delete", named(household, found["id"]), deletes),
        ("collections.restore", named(household, found["id"]), writes or (deletes and (409, "illegal_state"))),
    ]
    for operation_id, given, refusal in calls:
        if refusal is None:
            await caller.op(operation_id, given)
        else:
            assert await caller.refused(operation_id, given) == refusal
