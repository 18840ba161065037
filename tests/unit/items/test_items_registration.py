"""What a delivery leaves behind: rows, lineage, events, and names that are free."""

from __future__ import annotations

import asyncio

import pytest

from geopera_server.domains.items.registration import NewItem, register_item
from geopera_server.values.ids import new_id
from support.deliveries import FOOTPRINT, asset, deliver, item
from support.orders import insert_order


async def register(household, **given):
    return await household.owner.run(deliver, given)


async def test_item_is_there_with_assets_lineage_and_event(household):
    order_id = await insert_order(household)
    made = await register(
        household,
        item=item(household.project_id, order_id=order_id, properties={"platform": "sentinel-2a"}),
        assets=[asset("data"), asset("thumbnail", roles=["thumbnail"], file_size_bytes=24)],
        parents=[("order", order_id), ("capture", "test-archive/SCENE_1")],
    )
    full = (await household.owner.op("items.get", {"item_id": made["id"]}))["item"]
    assert (full["name"], full["order_id"], full["asset_count"], full["storage_bytes"]) == ("SCENE_1", order_id, 2, 1_024)
    assert full["datetime"] == "2022-06-12T10:10:00.000Z"
    assert full["bbox"] == [11.2, 46.4, 11.3, 46.5]
    assert full["geometry"] == FOOTPRINT
    assert full["created_by"] == household.place.home.user_id
    assert full["properties"] == {"platform": "sentinel-2a"}
    [event] = await household.sql("SELECT * FROM outbox_event WHERE type = 'item.created'")
    assert event["data"] == {key: value for key, value in full.items() if key in event["data"]}
    assert event["data"].keys() < full.keys()
    records = await household.sql("SELECT entity_type, parents FROM lineage_record ORDER BY id")
    assert [record["entity_type"] for record in records] == ["item", "asset", "asset"]
    assert records[0]["parents"] == [
        {"entity_type": "order", "entity_id": order_id},
        {"entity_type": "capture", "entity_id": "test-archive/SCENE_1"},
    ]
    assert records[1]["parents"] == [{"entity_type": "item", "entity_id": made["id"]}]


async def test_taken_names_get_numbers(household):
    names = [(await register(household, item=item(household.project_id)))["stac_id"] for _ in range(3)]
    assert names == ["SCENE_1", "SCENE_1-2", "SCENE_1-3"]
    other = await household.owner.op("projects.create", {"name": "Other"})
    assert (await register(household, item=item(other["id"])))["stac_id"] == "SCENE_1"


async def test_a_name_is_found_however_often_it_is_taken(household):
    names = [(await register(household, item=item(household.project_id)))["stac_id"] for _ in range(22)]
    assert len(set(names)) == 22
    assert all(name.startswith("SCENE_1") for name in names)


async def test_two_at_once_get_different_names(household):
    made = await asyncio.gather(*(register(household, item=item(household.project_id)) for _ in range(6)))
    assert len({one["stac_id"] for one in made}) == 6


async def test_order_collection_is_made_once_under_a_free_name(household):
    first, second = await insert_order(household), await insert_order(household)
    made = [
        await register(household, item=item(household.project_id), collection_for=order_id)
        for order_id in (first, first, second)
    ]
    assert made[0]["collection_id"] == made[1]["collection_id"] != made[2]["collection_id"]
    rows = await household.sql("SELECT * FROM collection ORDER BY created_at")
    assert [(row["name"], row["source_type"], row["source_id"]) for row in rows] == [
        ("Spring order", "order", first),
        ("Spring order-2", "order", second),
    ]
    assert all(row["auto_created"] for row in rows)
    events = await household.sql("SELECT data FROM outbox_event WHERE type = 'collection.created'")
    assert {event["data"]["id"] for event in events} == {row["id"] for row in rows}
    up = await household.owner.op("provenance.get", {"entity_type": "collection", "entity_id": rows[0]["id"]})
    assert [(node["entity_type"], node["entity_id"]) for node in up["nodes"]] == [("project", household.project_id)]


async def test_two_deliveries_at_once_share_the_collection(household):
    order_id = await insert_order(household)
    made = await asyncio.gather(
        *(register(household, item=item(household.project_id), collection_for=order_id) for _ in range(5))
    )
    assert len({one["collection_id"] for one in made}) == 1


async def test_box_crosses_the_antimeridian(household):
    east = [[[179.0, -17.0], [180.0, -17.0], [180.0, -16.0], [179.0, -16.0], [179.0, -17.0]]]
    west = [[[-180.0, -17.0], [-178.5, -17.0], [-178.5, -16.0], [-180.0, -16.0], [-180.0, -17.0]]]
    geometry = {"type": "MultiPolygon", "coordinates": [east, west]}
    made = await register(household, item=item(household.project_id, geometry=geometry))
    full = (await household.owner.op("items.get", {"item_id": made["id"]}))["item"]
    assert full["bbox"] == [179.0, -17.0, -178.5, -16.0]


async def test_an_item_needs_a_time(household):
    new = NewItem(**item(household.project_id, datetime=None, start_datetime=None))
    with pytest.raises(ValueError, match="datetime"):
        await register_item(None, new, [], parents=[])


async def test_what_is_not_a_number_is_kept(household):
    made = await register(household, item=item(household.project_id), assets=[asset(nodata="nan"), asset("b", nodata=-9999)])
    assets = (await household.owner.op("items.list_assets", {"item_id": made["id"]}))["assets"]
    assert {one["key"]: one["nodata"] for one in assets} == {"data": "nan", "b": -9999.0}


async def test_a_malformed_id_is_an_unknown_one(household):
    for item_id in ("nothing", new_id(), "' OR 1=1"):
        assert await household.owner.refused("items.get", {"item_id": item_id}) == (404, "not_found")
