"""Registering items by hand, and changing them."""

from __future__ import annotations

import asyncio

import pytest

from geopera_server.domains.items.store.writing import asset_at
from support.colleagues import colleague
from support.deliveries import FOOTPRINT, asset, deliver, item
from support.orders import insert_order

ELSEWHERE = {"type": "Polygon", "coordinates": [[[20.0, 40.0], [21.0, 40.0], [21.0, 41.0], [20.0, 41.0], [20.0, 40.0]]]}
TIME = "2024-06-12T10:10:00Z"


def body(household, **more):
    return {"project_id": household.project_id, "name": "Harbour", "type": "user_raster", "datetime": TIME, **more}


async def created(household, **more):
    return await household.owner.op("items.create", body(household, **more))


async def columns(household, item_id):
    [row] = await household.sql("SELECT *, lower(period) AS starts, upper(period) AS ends FROM item WHERE id = %s", item_id)
    return row


async def test_what_was_given_is_there(household):
    made = await created(
        household,
        geometry=FOOTPRINT,
        properties={"platform": "x"},
        gsd=0.5,
        cloud_cover=12.5,
        description="quay",
        stac_id="H-1",
    )
    full = (await household.owner.op("items.get", {"item_id": made["id"]}))["item"]
    assert made == {key: full[key] for key in made}
    assert (made["stac_id"], made["bbox"], made["datetime"]) == ("H-1", [11.2, 46.4, 11.3, 46.5], "2024-06-12T10:10:00.000Z")
    assert (made["gsd"], made["cloud_cover"], made["lifecycle_state"]) == (0.5, 12.5, "active")
    assert made["created_by"] == household.place.home.user_id
    [event] = await household.sql("SELECT data FROM outbox_event WHERE type = 'item.created'")
    assert event["data"] == made
    [record] = await household.sql("SELECT kind, parents FROM lineage_record WHERE entity_type = 'item'")
    assert (record["kind"], record["parents"]) == ("edge", [])
    listed = await household.owner.op("items.list", {"project_id": household.project_id})
    assert [each["id"] for each in listed["items"]] == [made["id"]]


async def test_a_box_alone_is_a_place(household):
    made = await created(household, bbox=[179.0, -17.0, -178.5, -16.0])
    assert made["bbox"] == [179.0, -17.0, -178.5, -16.0]
    assert made["geometry"]["type"] == "MultiPolygon"
    assert (await columns(household, made["id"]))["extent_across"] is not None


async def test_a_span_of_time_is_a_time(household):
    made = await created(
        household, datetime=None, start_datetime="2024-01-01T00:00:00Z", end_datetime="2024-02-01T00:00:00+01:00"
    )
    assert made["datetime"] is None
    assert made["end_datetime"] == "2024-01-31T23:00:00.000Z"
    row = await columns(household, made["id"])
    assert (row["starts"], row["ends"]) == (row["start_datetime"], row["end_datetime"])


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"datetime": None}, "invalid_input"),
        ({"datetime": "soon"}, "invalid_input"),
        ({"datetime": "0001-01-01T00:00:00+05:00"}, "invalid_input"),
        ({"start_datetime": TIME}, "invalid_input"),
        ({"start_datetime": TIME, "end_datetime": "2023-01-01T00:00:00Z"}, "invalid_input"),
        ({"name": "   "}, "invalid_input"),
        ({"cloud_cover": 101}, "invalid_input"),
        ({"gsd": 0}, "invalid_input"),
        ({"type": "picture"}, "invalid_input"),
        ({"geometry": {"type": "Polygon", "coordinates": []}}, "invalid_geometry"),
        ({"geometry": {"type": "Point", "coordinates": [200, 0]}}, "invalid_geometry"),
        ({"bbox": [1, 2, 3]}, "invalid_geometry"),
        ({"bbox": [0, 0, 1, 1], "geometry": FOOTPRINT}, "invalid_geometry"),
        ({"assets": [{"key": "a", "href": "file:///etc/passwd", "media_type": "image/tiff"}]}, "url_not_allowed"),
        ({"assets": [{"key": "a", "href": "/etc/passwd", "media_type": "image/tiff"}]}, "url_not_allowed"),
        ({"assets": [{"key": "a", "href": "projects/x/y.tif", "media_type": "image/tiff"}]}, "url_not_allowed"),
        ({"assets": [{"key": "a", "href": "https://127.0.0.1/a.tif", "media_type": "image/tiff"}]}, "url_not_allowed"),
        ({"assets": [{"key": "a", "href": "https://u:p@imagery.example.com/a.tif", "media_type": "x"}]}, "url_not_allowed"),
        ({"assets": [{"key": "a", "href": "https://not-listed.example/a.tif", "media_type": "x"}]}, "url_not_allowed"),
    ],
)
async def test_what_cannot_be_is_refused(household, more, code):
    status = 422
    refused = await household.owner.refused("items.create", body(household, **more))
    assert refused[0] == status
    assert refused[1] == code
    assert await household.sql("SELECT id FROM item") == []


async def test_a_stac_id_is_taken_once_in_a_project(household):
    await created(household, stac_id="ONE")
    assert await household.owner.refused("items.create", body(household, stac_id="ONE")) == (409, "conflict")
    other = await household.owner.op("projects.create", {"name": "Other"})
    assert (await created(household, stac_id="ONE", project_id=other["id"]))["stac_id"] == "ONE"


async def test_two_with_one_stac_id_at_once_make_one(household):
    answers = await asyncio.gather(
        *(household.owner.op("items.create", body(household, stac_id="ONE")) for _ in range(6)), return_exceptions=True
    )
    assert sum(isinstance(answer, dict) for answer in answers) == 1
    assert len(await household.sql("SELECT id FROM item")) == 1


async def test_an_item_comes_from_what_it_names(household):
    order_id = await insert_order(household)
    made = await created(household, order_id=order_id)
    [record] = await household.sql("SELECT parents FROM lineage_record WHERE entity_id = %s", made["id"])
    assert record["parents"] == [{"entity_type": "order", "entity_id": order_id}]


async def test_an_upload_is_known_from_its_beginning(household):
    upload = await household.owner.op("uploads.initiate", {"project_id": household.project_id})
    made = await created(household, upload_id=upload["id"])
    [record] = await household.sql("SELECT parents FROM lineage_record WHERE entity_id = %s", made["id"])
    assert record["parents"] == [{"entity_type": "upload", "entity_id": upload["id"]}]


async def test_origins_of_others_are_unknown(household):
    order_id = await insert_order(household)
    upload = await household.owner.op("uploads.initiate", {"project_id": household.project_id})
    theirs = {"project_id": household.place.stranger.project_id, "name": "x", "type": "clip", "datetime": TIME}
    unknown = "0192d3c4-0000-7000-8000-000000000000"
    origins = [
        {"order_id": order_id},
        {"order_id": unknown},
        {"job_id": unknown},
        {"upload_id": upload["id"]},
        {"upload_id": "x"},
    ]
    for origin in origins:
        assert await household.stranger.refused("items.create", {**theirs, **origin}) == (404, "not_found")
    assert await household.stranger.refused("items.create", body(household)) == (404, "not_found")


async def test_a_repeat_under_one_key_makes_one(household):
    first, second = [await household.owner.op("items.create", body(household), key="k") for _ in range(2)]
    assert first == second
    assert len(await household.sql("SELECT id FROM item")) == 1


async def test_own_files_may_be_named_and_count_again(household):
    delivered = await household.owner.run(deliver, {"item": item(household.project_id), "assets": [asset(band_count=2)]})
    [file] = (await household.owner.op("items.list_assets", {"item_id": delivered["id"]}))["assets"]
    named = {"key": "again", "href": file["href"], "media_type": file["media_type"], "band_names": ["red", "nir"]}
    made = await created(household, assets=[named])
    [again] = (await household.owner.op("items.list_assets", {"item_id": made["id"]}))["assets"]
    assert (again["checksum"], again["file_size_bytes"], again["band_names"]) == (file["checksum"], 1_000, ["red", "nir"])
    theirs = {"project_id": household.place.stranger.project_id, "name": "x", "type": "clip", "datetime": TIME}
    assert await household.stranger.refused("items.create", {**theirs, "assets": [named]}) == (422, "url_not_allowed")
    few = {**named, "band_names": ["red"]}
    assert await household.owner.refused("items.create", body(household, assets=[few])) == (422, "invalid_input")


async def test_roles_decide_who_writes(household):
    made = await created(household)
    for role in ("viewer", "member"):
        someone = await colleague(household, role)
        code = "missing_scope" if role == "viewer" else "role_required"
        assert await someone.refused("items.create", body(household)) == (403, code)
        assert await someone.refused("items.update", {"item_id": made["id"], "name": "x"}) == (403, code)
    assert (await (await colleague(household, "admin")).op("items.update", {"item_id": made["id"], "name": "x"}))["name"] == "x"
    assert await household.stranger.refused("items.update", {"item_id": made["id"], "name": "x"}) == (404, "not_found")
    assert await household.operator.refused("items.update", {"item_id": made["id"], "name": "x"}) == (403, "role_required")


async def test_an_archived_project_takes_nothing_new(household):
    made = await created(household)
    await household.owner.op("projects.archive", {"project_id": household.project_id})
    assert await household.owner.refused("items.create", body(household)) == (409, "illegal_state")
    assert await household.owner.refused("items.update", {"item_id": made["id"], "name": "x"}) == (409, "illegal_state")


async def test_a_new_place_moves_all_that_searches_go_by(household):
    made = await created(household, geometry=FOOTPRINT)
    changed = await household.owner.op("items.update", {"item_id": made["id"], "geometry": ELSEWHERE})
    assert (changed["geometry"], changed["bbox"]) == (ELSEWHERE, [20.0, 40.0, 21.0, 41.0])
    row = await columns(household, made["id"])
    assert (row["extent"], row["extent_across"]) == ("(21,41),(20,40)", None)
    changed = await household.owner.op("items.update", {"item_id": made["id"], "bbox": [179, -17, -178, -16], "geometry": None})
    row = await columns(household, made["id"])
    assert (row["extent"], row["extent_across"]) == ("(180,-16),(179,-17)", "(-178,-16),(-180,-17)")
    changed = await household.owner.op("items.update", {"item_id": made["id"], "geometry": None})
    row = await columns(household, made["id"])
    assert (changed["bbox"], row["extent"], row["extent_across"]) == (None, None, None)
    assert await household.owner.refused("items.update", {"item_id": made["id"], "bbox": [5]}) == (422, "invalid_geometry")


async def test_a_new_time_moves_the_period(household):
    made = await created(household, start_datetime="2024-06-01T00:00:00Z", end_datetime="2024-06-30T00:00:00Z")
    await household.owner.op("items.update", {"item_id": made["id"], "datetime": "2024-07-05T00:00:00Z"})
    row = await columns(household, made["id"])
    assert (row["starts"].isoformat(), row["ends"].isoformat()) == ("2024-06-01T00:00:00+00:00", "2024-07-05T00:00:00+00:00")
    assert (await household.owner.op("items.update", {"item_id": made["id"], "datetime": None}))["datetime"] is None
    plain = await created(household)
    assert await household.owner.refused("items.update", {"item_id": plain["id"], "datetime": None}) == (422, "invalid_input")


async def test_a_change_leaves_lineage_and_event(household):
    made = await created(household, description="before")
    changed = await household.owner.op("items.update", {"item_id": made["id"], "description": None, "properties": {"a": 1}})
    assert (changed["description"], changed["properties"]) == (None, {"a": 1})
    first, second = await household.sql("SELECT * FROM lineage_record WHERE entity_id = %s ORDER BY id", made["id"])
    assert second["kind"] == "event"
    assert second["digest_before"] == first["digest_after"] != second["digest_after"]
    [event] = await household.sql("SELECT data FROM outbox_event WHERE type = 'item.updated'")
    assert event["data"] == changed
    await household.seal()
    verified = await household.owner.op("provenance.verify", {"entity_type": "item", "entity_id": made["id"]})
    assert verified["digest_matches"]


async def test_collections_are_those_of_the_project(household):
    order_id = await insert_order(household)
    filed = await household.owner.run(deliver, {"item": item(household.project_id), "collection_for": order_id})
    other = await household.owner.op("projects.create", {"name": "Other"})
    made = await created(household, project_id=other["id"])
    given = {"item_id": made["id"], "collection_id": filed["collection_id"]}
    assert await household.owner.refused("items.update", given) == (404, "not_found")
    moved = await household.owner.op("items.update", {"item_id": filed["id"], "collection_id": None})
    assert moved["collection_id"] is None
    back = await household.owner.op("items.update", {"item_id": filed["id"], "collection_id": filed["collection_id"]})
    assert back["collection_id"] == filed["collection_id"]


async def test_only_active_and_archived_are_set_by_hand(household):
    made = await created(household)
    archived = await household.owner.op("items.update", {"item_id": made["id"], "lifecycle_state": "archived"})
    assert (archived["lifecycle_state"], archived["archived_at"] is None) == ("archived", False)
    active = await household.owner.op("items.update", {"item_id": made["id"], "lifecycle_state": "active"})
    assert (active["lifecycle_state"], active["archived_at"]) == ("active", None)
    for wanted in ("expiring", "expired", "deleted"):
        given = {"item_id": made["id"], "lifecycle_state": wanted}
        assert await household.owner.refused("items.update", given) == (409, "illegal_state")
    for present in ("expiring", "expired"):
        await household.sql("UPDATE item SET lifecycle_state = %s WHERE id = %s", present, made["id"])
        for wanted in ("active", "archived"):
            given = {"item_id": made["id"], "lifecycle_state": wanted}
            assert await household.owner.refused("items.update", given) == (409, "illegal_state")


async def test_two_changes_at_once_are_both_kept(household):
    made = await created(household)
    patches = [{"name": "new"}, {"description": "new"}, {"gsd": 2.5}, {"cloud_cover": 7}, {"properties": {"n": 1}}]
    await asyncio.gather(*(household.owner.op("items.update", {"item_id": made["id"], **patch}) for patch in patches))
    full = (await household.owner.op("items.get", {"item_id": made["id"]}))["item"]
    assert {key: full[key] for patch in patches for key in patch} == {k: v for patch in patches for k, v in patch.items()}
    records = await household.sql("SELECT * FROM lineage_record WHERE entity_id = %s ORDER BY id", made["id"])
    assert len(records) == 6
    await household.seal()
    assert (await household.owner.op("provenance.verify", {"entity_type": "item", "entity_id": made["id"]}))["digest_matches"]


async def test_an_origin_is_one_however_its_id_is_spelt(household):
    order_id = await insert_order(household)
    given = {"project_id": household.project_id, "name": "n", "type": "clip", "datetime": "2024-01-01T00:00:00Z"}
    made = await household.owner.op("items.create", {**given, "order_id": order_id.upper()})
    [edge] = await household.sql("SELECT dst_id FROM lineage_edge WHERE src_id = %s", made["id"])
    assert (made["order_id"], edge["dst_id"]) == (order_id, order_id)


async def test_a_file_stays_while_another_item_comes_to_name_it(household):
    made = await household.owner.run(deliver, {"item": item(household.project_id), "assets": [asset()]})
    [file] = (await household.owner.op("items.list_assets", {"item_id": made["id"]}))["assets"]
    organization_id = household.place.home.organization_id
    async with household.house.pool.connection() as conn, conn.transaction():
        assert await asset_at(conn, organization_id, file["href"]) is not None
        gone = asyncio.create_task(household.owner.op("assets.delete", {"item_id": made["id"], "asset_id": file["id"]}))
        async with asyncio.timeout(10):
            while not await household.sql("SELECT 1 FROM pg_locks WHERE NOT granted"):
                assert not gone.done(), "the file went although somebody is about to name it"
                await asyncio.sleep(0)
    await gone
