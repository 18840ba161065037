"""What becomes of orders: cancelled, partly delivered, listed, labelled, billed afterwards."""

from __future__ import annotations

import pytest
from shapely.geometry import box, mapping, shape

from support.scenes import BOLZANO, open_archive, scene
from support.serving import served

PLATFORM = "00000000-0000-7000-8000-000000000001"


@pytest.fixture
async def quiet(database, place, tmp_path, shared_data):
    """A house that delivers nothing: orders stay as they were placed."""
    async with served(database, place, data_dir=tmp_path, source_roots=[shared_data], background=False) as server:
        server.aoi = await open_archive(server, shared_data)
        yield server


def cart(server, *captures, **more):
    captures = captures or ({"id": "TEST_BOLZANO_1", "host": "test-archive", "geometry": server.aoi},)
    return {"projectId": server.place.home.project_id, "captures": list(captures), **more}


async def wallet(server):
    figures = await server.home.op("billing.credits.balance")
    return figures["balance"], figures["reserved"]


async def test_cancelling_gives_back_what_was_reserved(quiet):
    before = await wallet(quiet)
    order = await quiet.home.op("orders.archive.place", cart(quiet))
    total = order["totalCredits"]
    assert await wallet(quiet) == (before[0] - total, total)
    assert (await quiet.home.op("orders.get", {"order_id": order["id"]}))["cancellable"] is True

    cancelled = await quiet.home.op("orders.cancel", {"order_id": order["id"]}, Idempotency_Key="c")
    assert cancelled["releasedCredits"] == total
    assert (cancelled["orderId"], cancelled["status"], cancelled["providerStatus"]) == (order["id"], "cancelled", "CANCELED")
    assert await wallet(quiet) == before
    assert await quiet.home.op("orders.cancel", {"order_id": order["id"]}, Idempotency_Key="c") == cancelled
    assert await quiet.home.refused("orders.cancel", {"order_id": order["id"]}) == (409, "not_cancellable")

    entries = (await quiet.home.op("billing.credits.transactions"))["transactions"]
    assert [(entry["reason"], entry["credits"]) for entry in entries[:2]] == [("release", total), ("reserve", -total)]
    [job] = await quiet.sql("SELECT state, error FROM job WHERE entity_id = %s", order["id"])
    assert job == {"state": "failed", "error": "cancelled"}
    history = await quiet.home.op("provenance.history", {"entity_type": "order", "entity_id": order["id"]})
    assert [record["kind"] for record in history["records"]] == ["edge", "event"]
    events = await quiet.home.op("orders.events.list", {"order_id": order["id"]})
    assert [(event["type"], event["status"]) for event in events["events"]] == [
        ("order.created", "processing"),
        ("order.cancelled", "cancelled"),
    ]


async def test_a_delivered_order_cannot_be_cancelled(server, shared_data):
    server.aoi = await open_archive(server, shared_data)
    order = await server.home.op("orders.archive.place", cart(server))
    await server.until_ended(order["id"])
    assert await server.home.refused("orders.cancel", {"order_id": order["id"]}) == (409, "not_cancellable")


async def test_what_was_delivered_is_paid_and_the_rest_given_back(server, shared_data):
    """Two dates make two groups; the second one's file is gone."""
    server.aoi = await open_archive(server, shared_data)
    later = scene(shared_data / "imagery" / BOLZANO, "LATER", collection="ortho", at="2022-07-01T10:00:00Z")
    later["assets"]["data"]["href"] = str(shared_data / "imagery" / "gone.tif")
    await (await server.operator()).op("catalog.admin.scenes_import", {"host": "test-archive", "features": [later]})
    before = await wallet(server)
    captures = [{"id": name, "host": "test-archive", "geometry": server.aoi} for name in ("TEST_BOLZANO_1", "LATER")]
    order = await server.home.op("orders.archive.place", cart(server, *captures, splitByDate=True))
    assert [group["date"] for group in order["groups"]] == ["2022-06-12", "2022-07-01"]
    first, second = (group["totalCredits"] for group in order["groups"])
    assert order["totalCredits"] == first + second

    ended = await server.until_ended(order["id"])
    assert ended["status"] == "failed"
    assert "gone.tif" in ended["failureReason"]
    assert (ended["settledCredits"], ended["reservedCredits"], len(ended["itemIds"])) == (first, 0, 1)
    assert await wallet(server) == (before[0] - first, 0)
    events = await server.home.op("orders.events.list", {"order_id": order["id"]})
    assert [event["type"] for event in events["events"]] == ["order.created", "order.partially_fulfilled", "order.failed"]
    delivered = await server.home.op("orders.list_assets", {"order_id": order["id"]})
    assert (delivered["numberReturned"], delivered["features"][0]["type"]) == (1, "Feature")


@pytest.mark.parametrize("billing_mode", ["prepaid", "enterprise"])
async def test_the_delivered_part_of_a_group_is_paid(server, shared_data, billing_mode):
    """Two captures of one group, the second one's file is gone: what was delivered is not free."""
    await server.sql("UPDATE organization SET billing_mode = %s WHERE id = %s", billing_mode, server.place.home.organization_id)
    server.aoi = await open_archive(server, shared_data)
    lost = scene(shared_data / "imagery" / BOLZANO, "LOST", collection="ortho")
    lost["assets"]["data"]["href"] = str(shared_data / "imagery" / "gone.tif")
    await (await server.operator()).op("catalog.admin.scenes_import", {"host": "test-archive", "features": [lost]})
    before = await wallet(server)
    captures = [{"id": name, "host": "test-archive", "geometry": server.aoi} for name in ("TEST_BOLZANO_1", "LOST")]
    order = await server.home.op("orders.archive.place", cart(server, *captures))
    assert len(order["groups"]) == 1
    ended = await server.until_ended(order["id"])
    assert (ended["status"], len(ended["itemIds"])) == ("failed", 1)
    total = order["totalCredits"]  # both captures show the whole AOI
    if billing_mode == "prepaid":
        assert (ended["settledCredits"], await wallet(server)) == (total, (before[0] - total, 0))
    else:
        [row] = await server.sql("SELECT credits, billable_at, reversed_at FROM accrual WHERE order_id = %s", order["id"])
        assert (row["credits"], row["billable_at"] is not None, row["reversed_at"]) == (total, True, None)


async def test_each_item_has_the_area_and_licence_it_was_bought_with(server, shared_data):
    server.aoi = await open_archive(server, shared_data)
    west, south, east, north = shape(server.aoi).bounds
    middle = (west + east) / 2
    halves = [box(west, south, middle, north), box(middle, south, east, north)]
    captures = [
        {"id": "TEST_BOLZANO_1", "host": "test-archive", "geometry": mapping(half), "licenseType": license_type}
        for half, license_type in zip(halves, ("standard", "extended"), strict=True)
    ]
    order = await server.home.op("orders.archive.place", cart(server, *captures))
    ended = await server.until_ended(order["id"])
    assert ended["status"] == "fulfilled", ended["failureReason"]
    items = [await server.home.op("items.get_stac", {"item_id": item_id}) for item_id in ended["itemIds"]]
    items.sort(key=lambda item: item["bbox"][0])
    assert [item["properties"]["geopera:license_type"] for item in items] == ["standard", "extended"]
    assert items[0]["bbox"][2] == pytest.approx(middle)
    assert items[1]["bbox"][0] == pytest.approx(middle)
    for item_id in ended["itemIds"]:
        shown = await server.home.op("visualization.profiles.list", {"item_id": item_id})
        assert shown["total"] > 0
        full = (await server.home.op("items.get", {"item_id": item_id}))["item"]
        assert full["default_profile_id"] == shown["default_id"] is not None


async def test_overlap_inside_a_group_is_paid_once(quiet, shared_data):
    twin = scene(shared_data / "imagery" / BOLZANO, "TWIN", collection="ortho", at="2022-07-01T10:00:00Z")
    await (await quiet.operator()).op("catalog.admin.scenes_import", {"host": "test-archive", "features": [twin]})
    captures = [{"id": name, "host": "test-archive", "geometry": quiet.aoi} for name in ("TEST_BOLZANO_1", "TWIN")]
    alone = await quiet.home.op("orders.archive.estimate", {"captures": captures[:1]})
    together = await quiet.home.op("orders.archive.estimate", {"captures": captures})
    split = await quiet.home.op("orders.archive.estimate", {"captures": captures, "splitByDate": True})
    assert together["total_credits"] == alone["total_credits"]
    assert split["total_credits"] == 2 * alone["total_credits"]
    extended = await quiet.home.op("orders.archive.estimate", {"captures": captures[:1], "licenseType": "extended"})
    assert abs(extended["total_credits"] - 1.5 * alone["total_credits"]) <= 1


async def test_a_negotiated_price_wins_and_placed_orders_keep_theirs(quiet):
    listed = await quiet.home.op("orders.archive.place", cart(quiet))
    rule = {
        "organization_id": quiet.place.home.organization_id,
        "vendor": "test-vendor",
        "resolution": "10m",
        "price_per_sqkm": 1,
    }
    operator = await quiet.operator()
    await operator.op("pricing.admin.save", rule)
    half = await quiet.home.op("orders.archive.estimate", {"captures": cart(quiet)["captures"]})
    assert abs(half["total_credits"] * 2 - listed["totalCredits"]) <= 1
    assert (await quiet.home.op("orders.get", {"order_id": listed["id"]}))["totalCredits"] == listed["totalCredits"]
    preview = {"organization_id": PLATFORM, "captures": cart(quiet)["captures"]}
    assert (await operator.op("pricing.admin.preview", preview))["total_credits"] == listed["totalCredits"]
    bands = {**rule, "min_area": 5}
    assert await operator.refused("pricing.admin.save", bands) == (409, "conflict")


async def test_orders_are_listed_found_and_labelled(quiet):
    names = ["Alpine Spring", "Alpine Summer", "Valley"]
    orders = [await quiet.home.op("orders.archive.place", cart(quiet, displayName=name, tags=[name[:3]])) for name in names]
    await quiet.home.op("orders.cancel", {"order_id": orders[2]["id"]})

    async def found(**filters):
        page = await quiet.home.op("orders.list", {"sort": "displayName,asc", **filters})
        assert page["totalElements"] == len(page["content"]) or "size" in filters
        return [order["displayName"] for order in page["content"]]

    assert await found() == names
    assert await found(displayName="alpine") == names[:2]
    assert await found(status="cancelled") == await found(status="CANCELED") == names[2:]
    assert await found(status="CREATED") == await found(status="awaiting_data") == await found(status="processing") == names[:2]
    assert await found(tags="Val,none") == names[2:]
    assert await found(orderIds=f"{orders[0]['id']},not-an-id") == names[:1]
    assert await found(workspaceId="not-an-id") == []
    assert await found(type="ARCHIVE") == names
    pages = [await found(size=1, page=number) for number in range(4)]
    assert pages == [names[:1], names[1:2], names[2:], []]

    order_id = orders[0]["id"]
    assert (await quiet.home.op("orders.update", {"order_id": order_id}))["tags"] == ["Alp"]
    assert (await quiet.home.op("orders.update", {"order_id": order_id, "tags": ["x", "x"]}))["tags"] == ["x"]
    assert (await quiet.home.op("orders.update", {"order_id": order_id, "tags": None}))["tags"] == []
    too_many = {"order_id": order_id, "tags": [str(number) for number in range(51)]}
    assert await quiet.home.refused("orders.update", too_many) == (422, "invalid_input")


async def test_the_marketplace_form_is_one_order(quiet):
    body = {
        "projectId": quiet.place.home.project_id,
        "dataProduct": "test-archive/ortho",
        "displayName": "By product",
        "featureCollection": {
            "type": "FeatureCollection",
            "features": [{"type": "Feature", "geometry": quiet.aoi, "properties": {}}],
        },
        "params": {"id": "TEST_BOLZANO_1"},
        "tags": ["m"],
    }
    order = await quiet.home.op("orders.archive.place", body)
    same = await quiet.home.op("orders.archive.estimate", {"captures": cart(quiet)["captures"]})
    assert (order["totalCredits"], order["tags"]) == (same["total_credits"], ["m"])


async def test_the_marketplace_form_takes_any_area_and_no_more_than_a_cart(quiet):
    body = {"projectId": quiet.place.home.project_id, "dataProduct": "test-archive/ortho", "params": {"id": "TEST_BOLZANO_1"}}
    price = (await quiet.home.op("orders.archive.estimate", {"captures": cart(quiet)["captures"]}))["total_credits"]
    feature = {"type": "Feature", "geometry": quiet.aoi, "properties": {}}
    for area in (quiet.aoi, feature, {"type": "FeatureCollection", "features": [feature]}):
        assert (await quiet.home.op("orders.archive.place", {**body, "featureCollection": area}))["totalCredits"] == price
    unreadable = {**body, "featureCollection": {"type": "FeatureCollection", "features": {}}}
    assert await quiet.home.refused("orders.archive.place", unreadable) == (422, "invalid_geometry")
    for params in ({"ids": ["TEST_BOLZANO_1"] * 101}, {"id": "x" * 501}):
        assert await quiet.home.refused("orders.archive.place", {**body, "params": params}) == (422, "invalid_input")


async def test_a_past_due_organization_may_cancel_and_not_order(quiet):
    order = await quiet.home.op("orders.archive.place", cart(quiet))
    await quiet.sql("UPDATE organization SET standing = 'past_due' WHERE id = %s", quiet.place.home.organization_id)
    assert await quiet.home.refused("orders.archive.place", cart(quiet)) == (402, "account_past_due")
    assert (await quiet.home.op("orders.cancel", {"order_id": order["id"]}))["status"] == "cancelled"


async def test_an_archived_project_takes_no_orders(quiet):
    project_id = quiet.place.home.project_id
    await quiet.home.op("projects.archive", {"project_id": project_id})
    assert await quiet.home.refused("orders.archive.place", cart(quiet)) == (409, "illegal_state")


async def test_an_enterprise_organization_owes_instead_of_reserving(quiet):
    await quiet.sql("UPDATE organization SET billing_mode = 'enterprise' WHERE id = %s", quiet.place.home.organization_id)
    before = await wallet(quiet)
    order = await quiet.home.op("orders.archive.place", cart(quiet))
    assert order["billingMode"] == "enterprise"
    assert await wallet(quiet) == before
    assert (await quiet.home.op("billing.credits.balance"))["accrued_credits"] == order["totalCredits"]
    await quiet.home.op("orders.cancel", {"order_id": order["id"]})
    assert (await quiet.home.op("billing.credits.balance"))["accrued_credits"] == 0


async def test_a_viewer_may_look_and_not_order(quiet):
    owner = await quiet.signed_in(quiet.place.home.email)
    reading = await owner.op(
        "api_keys.create", {"name": "reader", "permissions": ["orders:read", "catalog:read", "billing:read"]}
    )
    quiet_reader = type(quiet.home)(quiet.http, reading["key"])
    await quiet_reader.op("orders.archive.estimate", {"captures": cart(quiet)["captures"]})
    assert await quiet_reader.refused("orders.archive.place", cart(quiet)) == (403, "missing_scope")
