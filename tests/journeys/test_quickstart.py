"""The quickstart's five steps as written, by plain requests, and what the specification's walk (Annex E) adds to them."""

from __future__ import annotations

import asyncio

import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from support.scenes import open_archive
from support.serving import problem_of

TOKEN = "/realms/public/protocol/openid-connect/token"


@pytest.fixture
async def aoi(server, shared_data):
    return await open_archive(server, shared_data)


async def test_quickstart_as_written(server, aoi):
    http, place = server.http, server.place.home
    form = {"grant_type": "client_credentials", "client_id": "geopera", "client_secret": place.api_key}
    granted = (await http.post(TOKEN, data=form)).json()
    assert granted["token_type"] == "Bearer"
    assert (granted["expires_in"], granted["refresh_expires_in"]) == (300, 1800)
    assert granted["refresh_token"]
    headers = {"Authorization": f"Bearer {granted['access_token']}"}

    query = {
        "host_name": "test-archive",
        "collections": ["ortho"],
        "bbox": [11.0, 46.2, 11.6, 46.8],
        "datetime": "2022-01-01T00:00:00Z/2022-12-31T23:59:59Z",
        "limit": 10,
    }
    before = await counts(server)
    found = (await http.post("/v1/op/catalog.search", json=query, headers=headers)).json()
    assert found["type"] == "FeatureCollection"
    [feature] = found["features"]
    assert feature["id"]
    assert feature["geometry"]["type"] == "Polygon"
    assert feature["properties"]["geopera:pricing"]["price_per_sqkm"] == 2.0

    cart = {"captures": [{"id": feature["id"], "host": feature["host"], "geometry": aoi}]}
    estimate = (await http.post("/v1/op/orders.archive.estimate", json=cart, headers=headers)).json()
    assert estimate["errors"] == []
    assert estimate["total_credits"] == round(100 * estimate["total_aud"]) > 0
    assert (await http.post("/v1/op/orders.archive.estimate", json=cart, headers=headers)).json() == estimate
    assert await counts(server) == before

    balance = (await server.home.op("billing.credits.balance"))["balance"]
    spend = {**headers, "Idempotency-Key": "9d1f-quickstart"}
    body = {"projectId": place.project_id, **cart}
    placed = await http.post("/v1/op/orders.archive.place", json=body, headers=spend)
    assert placed.status_code == 202
    order = placed.json()
    assert {"id", "status", "orderType", "billingMode", "currency", "totalAud", "totalCredits", "groups"} <= order.keys()
    assert (order["status"], order["orderType"], order["billingMode"], order["currency"]) == (
        "processing",
        "archive",
        "credit",
        "AUD",
    )
    assert order["totalCredits"] == estimate["total_credits"]
    assert order["groups"] == estimate["groups"]
    assert (await server.home.op("billing.credits.balance"))["balance"] == balance - order["totalCredits"]

    again = await http.post("/v1/op/orders.archive.place", json=body, headers=spend)
    assert (again.status_code, again.content, again.headers["idempotency-replayed"]) == (202, placed.content, "true")
    other = await http.post("/v1/op/orders.archive.place", json={**body, "displayName": "other"}, headers=spend)
    assert (other.status_code, problem_of(other)["code"]) == (409, "idempotency_mismatch")

    lineage = (
        await http.post("/v1/op/provenance.get", json={"entity_type": "order", "entity_id": order["id"]}, headers=headers)
    ).json()
    assert {node["entity_type"] for node in lineage["nodes"]} == {"capture", "aoi"}

    polled = await http.get("/v1/op/orders.get", params={"id": order["id"]}, headers=headers)
    assert polled.status_code == 200
    assert polled.json()["id"] == order["id"]
    done = await server.until_ended(order["id"])
    assert done["status"] == "fulfilled", done["failureReason"]
    assert (done["reservedCredits"], done["settledCredits"]) == (0, order["totalCredits"])

    listed = await server.home.op("items.list", {"project_id": place.project_id})
    assert [item["id"] for item in listed["items"]] == done["itemIds"]
    item_id = done["itemIds"][0]
    up = await server.home.op("provenance.get", {"entity_type": "item", "entity_id": item_id})
    assert ("order", order["id"]) in {(node["entity_type"], node["entity_id"]) for node in up["nodes"]}


async def counts(server) -> dict[str, int]:
    """Returns how many rows hold money, lineage or orders."""
    [row] = await server.sql(
        "SELECT (SELECT count(*) FROM ledger_entry) AS entries, (SELECT count(*) FROM ledger_hold) AS holds,"
        " (SELECT count(*) FROM lineage_record) AS records, (SELECT count(*) FROM orders) AS orders"
    )
    return row


async def test_delivery_is_a_valid_cog_of_the_right_pixels(server, aoi, shared_data, tmp_path):
    order = await place_order(server, aoi)
    done = await server.until_ended(order["id"])
    assert done["status"] == "fulfilled", done["failureReason"]
    [item_id] = done["itemIds"]
    [asset] = (await server.home.op("items.list_assets", {"item_id": item_id}))["assets"]
    link = await server.home.op("items.asset.download", {"item_id": item_id, "asset_id": asset["id"]})
    whole = await server.http.get(link["url"])
    assert whole.status_code == 200
    assert len(whole.content) == link["file_size_bytes"]
    part = await server.http.get(link["url"], headers={"Range": "bytes=0-99"})
    assert (part.status_code, part.content) == (206, whole.content[:100])
    assert part.headers["content-range"] == f"bytes 0-99/{link['file_size_bytes']}"
    file = tmp_path / "delivered.tif"
    file.write_bytes(whole.content)
    assert cog_validate(file, quiet=True)[0]
    source = shared_data / "imagery" / "S2_L2A_bolzano_20220612_B04-B03-B02-B08-SCL.tif"
    with rasterio.open(file) as delivered, rasterio.open(source) as original:
        assert delivered.crs == original.crs
        assert delivered.descriptions == ("red", "green", "blue", "nir", "scl")
        x, y = delivered.xy(delivered.height // 2, delivered.width // 2)
        assert list(next(delivered.sample([(x, y)]))) == list(next(original.sample([(x, y)])))
        assert delivered.width < original.width


async def place_order(server, aoi, *, capture="TEST_BOLZANO_1", host="test-archive", key=None, **more):
    body = {"projectId": server.place.home.project_id, "captures": [{"id": capture, "host": host, "geometry": aoi}], **more}
    headers = {} if key is None else {"Idempotency_Key": key}
    return await server.home.op("orders.archive.place", body, **headers)


async def test_open_data_costs_nothing(server, aoi):
    order = await place_order(server, aoi, capture="OPEN_BOLZANO_1", host="test-open")
    assert (order["totalCredits"], order["totalAud"], order["licenseType"]) == (0, 0.0, "open")
    done = await server.until_ended(order["id"])
    assert done["status"] == "fulfilled", done["failureReason"]
    entries = await server.home.op("billing.credits.transactions")
    assert [entry["reason"] for entry in entries["transactions"]] == ["operator_grant"]


async def test_two_calls_at_once_make_one_order(server, aoi):
    body = {
        "projectId": server.place.home.project_id,
        "captures": [{"id": "TEST_BOLZANO_1", "host": "test-archive", "geometry": aoi}],
    }
    replies = await asyncio.gather(
        *(server.home.post("orders.archive.place", body, **{"Idempotency_Key": "twins"}) for _ in range(8))
    )
    accepted = [reply for reply in replies if reply.status_code == 202]
    assert accepted
    assert len({reply.content for reply in accepted}) == 1
    for reply in replies:
        if reply.status_code != 202:
            assert (reply.status_code, problem_of(reply)["code"]) == (409, "idempotency_in_progress")
            assert reply.headers["retry-after"] == "1"
    assert (await counts(server))["orders"] == 1
    assert (await counts(server))["holds"] == 1


async def test_empty_balance_is_refused_and_nothing_is_written(server, aoi):
    operator = await server.operator()
    balance = (await server.home.op("billing.credits.balance"))["balance"]
    drain = {"organization_id": server.place.home.organization_id, "credits": -balance, "reason": "test"}
    await operator.op("billing.admin.grant_credits", drain, **{"Idempotency_Key": "drain"})
    before = await counts(server)
    body = {
        "projectId": server.place.home.project_id,
        "captures": [{"id": "TEST_BOLZANO_1", "host": "test-archive", "geometry": aoi}],
    }
    assert await server.home.refused("orders.archive.place", body, **{"Idempotency_Key": "poor"}) == (
        402,
        "insufficient_credits",
    )
    assert await counts(server) == before
    refill = {**drain, "credits": balance}
    await operator.op("billing.admin.grant_credits", refill, **{"Idempotency_Key": "refill"})
    assert (await server.home.post("orders.archive.place", body, **{"Idempotency_Key": "poor"})).status_code == 202
