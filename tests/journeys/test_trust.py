"""A delivered order can be traced to its captures, and every step of that is what was recorded."""

from __future__ import annotations

import asyncio

from support.scenes import open_archive


async def sealed(server) -> None:
    """Waits until the background has sealed what was recorded."""
    async with asyncio.timeout(20):
        while (await server.sql("SELECT count(*) AS waiting FROM lineage_record WHERE seq IS NULL"))[0]["waiting"]:
            await asyncio.sleep(0.05)


async def test_a_delivery_verifies_down_to_the_last_file(server, shared_data):
    aoi = await open_archive(server, shared_data)
    body = {
        "projectId": server.place.home.project_id,
        "captures": [{"id": "TEST_BOLZANO_1", "host": "test-archive", "geometry": aoi}],
    }
    order = await server.home.op("orders.archive.place", body)
    done = await server.until_ended(order["id"])
    assert done["status"] == "fulfilled", done["failureReason"]
    await sealed(server)

    [item_id], [asset_id] = done["itemIds"], done["assets"]
    artifacts = [("order", order["id"]), ("item", item_id), ("asset", asset_id), ("collection", done["collectionId"])]
    for kind, artifact_id in artifacts:
        found = await server.home.op("provenance.verify", {"entity_type": kind, "entity_id": artifact_id})
        assert (found["ok"], found["digest_matches"], found["breaks"]) == (True, True, []), (kind, found)
    chain = await server.home.op("provenance.verify")
    assert (chain["ok"], chain["checked"]) == (True, chain["head"]["seq"])

    up = await server.home.op("provenance.get", {"entity_type": "asset", "entity_id": asset_id})
    assert {node["entity_type"]: node["depth"] for node in up["nodes"]} == {"item": 1, "order": 2, "capture": 2, "aoi": 3}
    history = await server.home.op("provenance.history", {"entity_type": "order", "entity_id": order["id"]})
    assert [record["operation"] for record in history["records"]] == ["orders.archive.place", "orders.delivery.register"]
    features = (await server.home.op("orders.list_assets", {"order_id": order["id"]}))["features"]
    assert features[0]["properties"]["geopera:provenance"]["origin_id"] == order["id"]
    fetched = await server.http.get(features[0]["assets"]["data"]["href"])
    assert fetched.status_code == 200

    await server.sql("UPDATE asset SET file_size_bytes = file_size_bytes + 1 WHERE id = %s", asset_id)
    found = await server.home.op("provenance.verify", {"entity_type": "asset", "entity_id": asset_id})
    assert (found["ok"], found["digest_matches"]) == (False, False)
