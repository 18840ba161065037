"""The life of an item over HTTP: registered, changed, copied, deleted, had back, and shown to nobody else."""

from __future__ import annotations

import pytest_asyncio

from support.market import opened_market


@pytest_asyncio.fixture(scope="module")
async def market(cluster, template, tmp_path_factory, shared_data):
    async with opened_market(cluster, template, tmp_path_factory.mktemp("market"), shared_data) as opened:
        yield opened


async def test_from_delivery_to_the_copy_that_outlives_it(market):
    home = market.home
    order = await market.delivered()
    item_id, project_id = order["itemIds"][0], market.place.home.project_id
    [raster] = (await home.op("items.list_assets", {"item_id": item_id}))["assets"]
    usage = await used(market)

    found = await home.op("items.detect_asset_bands", {"item_id": item_id, "asset_id": raster["id"]})
    assert found["suggested_band_names"] == ["red", "green", "blue", "nir", None]
    names = ["red", "green", "blue", "nir", "classes"]
    named = await home.op("items.set_asset_band_names", {"item_id": item_id, "asset_id": raster["id"], "band_names": names})
    assert named["band_names"] == names
    changed = await home.op("items.update", {"item_id": item_id, "name": "Valley", "lifecycle_state": "archived"})
    assert (changed["name"], changed["lifecycle_state"]) == ("Valley", "archived")
    assert await home.refused("items.update", {"item_id": item_id, "lifecycle_state": "deleted"}) == (409, "illegal_state")

    copy = await home.op("items.duplicate", {"item_id": item_id, "target_collection_id": None})
    assert (copy["name"], copy["duplicated_from_id"], copy["collection_id"]) == ("Valley (copy)", item_id, None)
    assert await used(market) == 2 * usage
    await home.op("items.delete", {"item_id": item_id})
    assert await used(market) == usage
    assert await home.refused("items.get", {"item_id": item_id}) == (404, "not_found")
    [file] = (await home.op("items.list_assets", {"item_id": copy["id"]}))["assets"]
    download = await home.op("items.asset.download", {"item_id": copy["id"], "asset_id": file["id"]})
    fetched = await market.http.get(download["url"])
    assert (fetched.status_code, len(fetched.content)) == (200, raster["file_size_bytes"])
    family = await home.op("items.lineage", {"item_id": copy["id"]})
    assert [parent["entity_id"] for parent in family["parents"]] == [item_id]

    back = await home.op("items.restore", {"item_id": item_id})
    assert (back["id"], back["lifecycle_state"]) == (item_id, "archived")
    assert (await home.op("items.list_by_collection", {"collection_id": back["collection_id"]}))["total"] == 1
    await home.op("assets.delete", {"item_id": copy["id"], "asset_id": file["id"]})
    assert (await home.op("items.list", {"project_id": project_id}))["total"] == 2
    assert await used(market) == usage


async def used(market) -> int:
    [row] = await market.sql("SELECT bytes FROM storage_total WHERE organization_id = %s", market.place.home.organization_id)
    return row["bytes"]


async def test_references_are_checked_and_others_know_nothing_of_an_item(market):
    body = {
        "project_id": market.place.home.project_id,
        "name": "Reference",
        "type": "external_reference",
        "datetime": "2024-06-12T10:10:00Z",
        "bbox": [11.2, 46.4, 11.3, 46.5],
    }
    inside = {"key": "data", "href": "https://169.254.169.254/latest/meta-data", "media_type": "image/tiff"}
    assert await market.home.refused("items.create", {**body, "assets": [inside]}) == (422, "url_not_allowed")
    made = await market.home.op("items.create", body)
    unknown = "0192d3c4-0000-7000-8000-00000000ffff"
    asset_id = (await market.sql("SELECT id FROM asset LIMIT 1"))[0]["id"]
    for operation in ("items.update", "items.delete", "items.restore", "items.duplicate"):
        answers = [await problem(market, operation, {"item_id": item_id}) for item_id in (made["id"], unknown, "x")]
        assert answers[0] == answers[1] == answers[2]
        assert answers[0]["status"] == 404
    for operation in ("assets.delete", "items.detect_asset_bands", "items.set_asset_band_names"):
        given = {"asset_id": asset_id, "band_names": ["red"]}
        answers = [await problem(market, operation, {**given, "item_id": item_id}) for item_id in (made["id"], unknown)]
        assert answers[0] == answers[1]
        assert answers[0]["status"] == 404
    assert await market.home.op("items.delete", {"item_id": made["id"]}) == {"id": made["id"], "ok": True}


async def problem(market, operation: str, given: dict) -> dict:
    """Returns what a stranger is told, without what differs between any two calls."""
    answer = (await market.stranger.post(operation, given)).json()
    return {key: value for key, value in answer.items() if key != "invocation_id"}
