"""Suggesting what bands show, naming them, and what a collection lists."""

from __future__ import annotations

import pytest

from geopera_server.values.ids import new_id
from support.colleagues import colleague
from support.deliveries import asset, asset_over, deliver, item
from support.orders import insert_order

ALPS = "S2_L2A_bolzano_20220612_B04-B03-B02-B08-SCL.tif"
NAMES = ["red", "green", "blue", "nir", "classes"]


@pytest.fixture
async def raster(household, shared_data):
    """A real raster in storage, beside a file that is none; returns the item's id and those of its assets by key."""
    source = shared_data / "imagery" / ALPS
    path = f"projects/{household.project_id}/items/{new_id()}/data.tif"
    await household.house.store.put_file(path, source)
    files = [asset_over(source, href=path, band_names=[]), asset("notes", media_type="text/plain")]
    made = await household.owner.run(deliver, {"item": item(household.project_id), "assets": files})
    assets = (await household.owner.op("items.list_assets", {"item_id": made["id"]}))["assets"]
    return made["id"], {each["key"]: each["id"] for each in assets}


async def test_bands_are_suggested_and_nothing_is_stored(household, raster):
    item_id, assets = raster
    before = await household.sql("SELECT * FROM asset ORDER BY key")
    found = await household.owner.op("items.detect_asset_bands", {"item_id": item_id, "asset_id": assets["data"]})
    assert found == {
        "current_band_names": [],
        "suggested_band_names": ["red", "green", "blue", "nir", None],
        "method": "reflectance_ranking",
    }
    assert await household.sql("SELECT * FROM asset ORDER BY key") == before
    viewer = await colleague(household, "viewer")
    assert await viewer.op("items.detect_asset_bands", {"item_id": item_id, "asset_id": assets["data"]}) == found


async def test_suggestions_are_for_rasters_that_can_be_read(household, raster):
    item_id, assets = raster
    operation = "items.detect_asset_bands"
    given = {"item_id": item_id, "asset_id": assets["notes"]}
    assert await household.owner.refused(operation, given) == (422, "invalid_input")
    for unknown in (new_id(), "x"):
        assert await household.owner.refused(operation, {"item_id": item_id, "asset_id": unknown}) == (404, "not_found")
    given = {"item_id": item_id, "asset_id": assets["data"]}
    assert await household.stranger.refused(operation, given) == (404, "not_found")
    await household.sql("UPDATE asset SET href = 'https://not-listed.example/a.tif', external = true WHERE key = 'data'")
    assert await household.owner.refused(operation, given) == (422, "url_not_allowed")
    await household.sql("UPDATE asset SET href = 'projects/none/a.tif', external = false WHERE key = 'data'")
    assert await household.owner.refused(operation, given) == (404, "not_found")
    await household.sql("UPDATE item SET lifecycle_state = 'expired'")
    assert await household.owner.refused(operation, given) == (410, "retention_expired")


async def test_names_are_kept_and_told(household, raster):
    item_id, assets = raster
    given = {"item_id": item_id, "asset_id": assets["data"], "band_names": NAMES}
    named = await household.owner.op("items.set_asset_band_names", given)
    listed = (await household.owner.op("items.list_assets", {"item_id": item_id}))["assets"]
    assert named == next(each for each in listed if each["id"] == assets["data"])
    assert named["band_names"] == NAMES
    found = await household.owner.op("items.detect_asset_bands", {"item_id": item_id, "asset_id": assets["data"]})
    assert found["current_band_names"] == NAMES
    profiles = await household.sql("SELECT name FROM visualization_profile WHERE item_id = %s", item_id)
    assert profiles != [], "what the names say is shown"
    full = (await household.owner.op("items.get", {"item_id": item_id}))["item"]
    assert full["default_profile_id"] is not None
    [event] = await household.sql("SELECT data FROM outbox_event WHERE type = 'item.updated'")
    assert event["data"] == {key: full[key] for key in event["data"]}
    await household.seal()
    for kind, entity_id in (("item", item_id), ("asset", assets["data"])):
        verified = await household.owner.op("provenance.verify", {"entity_type": kind, "entity_id": entity_id})
        assert verified["digest_matches"]


@pytest.mark.parametrize("names", [[], NAMES[:4], [*NAMES, "more"], [*NAMES[:4], "Red"], [*NAMES[:4], " "]])
async def test_names_are_as_many_as_bands_and_differ(household, raster, names):
    item_id, assets = raster
    given = {"item_id": item_id, "asset_id": assets["data"], "band_names": names}
    assert await household.owner.refused("items.set_asset_band_names", given) == (422, "invalid_input")


async def test_every_role_in_the_project_may_name_bands(household, raster):
    item_id, assets = raster
    given = {"item_id": item_id, "asset_id": assets["data"], "band_names": NAMES}
    member = await colleague(household, "member")
    assert await member.refused("items.set_asset_band_names", given) == (403, "role_required")
    await household.sql(
        "INSERT INTO project_member (project_id, user_id, role, created_at, updated_at) VALUES (%s, %s, 'viewer', now(), now())",
        household.project_id,
        member.principal.id,
    )
    await member.op("items.set_asset_band_names", given)
    viewer = await colleague(household, "viewer")
    assert await viewer.refused("items.set_asset_band_names", given) == (403, "missing_scope")
    assert await household.stranger.refused("items.set_asset_band_names", given) == (404, "not_found")
    assert await household.operator.refused("items.set_asset_band_names", given) == (403, "role_required")


async def test_a_collection_lists_its_items(household):
    order_id = await insert_order(household)
    filed = [
        await household.owner.run(deliver, {"item": item(household.project_id, f"S{number}"), "collection_for": order_id})
        for number in range(3)
    ]
    await household.owner.run(deliver, {"item": item(household.project_id, "ELSE")})
    collection_id = filed[0]["collection_id"]
    page = await household.owner.op("items.list_by_collection", {"collection_id": collection_id, "limit": 2})
    rest = await household.owner.op("items.list_by_collection", {"collection_id": collection_id, "offset": 2})
    assert (page["total"], page["limit"], page["offset"], rest["total"]) == (3, 2, 0, 3)
    assert (page["collection_id"], page["project_id"]) == (collection_id, household.project_id)
    assert [each["id"] for each in page["items"] + rest["items"]] == [each["id"] for each in reversed(filed)]
    await household.owner.op("items.delete", {"item_id": filed[1]["id"]})
    assert (await household.owner.op("items.list_by_collection", {"collection_id": collection_id}))["total"] == 2
    for unknown in (new_id(), "x"):
        assert await household.owner.refused("items.list_by_collection", {"collection_id": unknown}) == (404, "not_found")
    assert await household.stranger.refused("items.list_by_collection", {"collection_id": collection_id}) == (404, "not_found")
    assert (await household.operator.op("items.list_by_collection", {"collection_id": collection_id}))["total"] == 2
