"""A year of an enterprise customer over HTTP: promised area, orders, invoices, a void one, and back to paying before."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

from shapely.geometry import box, mapping, shape

from geopera_server.values.clock import now
from support.scenes import BOLZANO, open_archive, scene


def cents(amount_aud: float) -> int:
    return round(100 * amount_aud)


async def ordered(server, aoi, *, host: str = "test-archive", capture_id: str = "TEST_BOLZANO_1", ends: str = "fulfilled"):
    """Places an order for an area and returns it once it has ended."""
    captures = [{"id": capture_id, "host": host, "geometry": aoi}]
    placed = await server.home.op("orders.archive.place", {"projectId": server.place.home.project_id, "captures": captures})
    done = await server.until_ended(placed["id"])
    assert done["status"] == ends, done["failureReason"]
    return done


def slice_of(aoi, start: float, end: float):
    """Returns the part of an area between two shares of its width."""
    west, south, east, north = shape(aoi).bounds
    width = east - west
    return mapping(box(west + start * width, south, west + end * width, north).intersection(shape(aoi)))


async def test_a_customer_that_pays_afterwards(server, shared_data):
    aoi = await open_archive(server, shared_data)
    operator, organization_id = await server.operator(), server.place.home.organization_id
    before = await ordered(server, slice_of(aoi, 0, 0.2))
    wallet = await server.home.op("billing.credits.balance")

    mode = {"organization_id": organization_id, "enterprise": True}
    assert (await operator.op("billing.admin.set_billing_mode", mode))["billing_mode"] == "enterprise"
    today = now().date()
    orders = [await ordered(server, slice_of(aoi, 0.2 * step, 0.2 * step + 0.2)) for step in (1, 2)]
    areas = [order["groups"][0]["areaSqkm"] for order in (before, *orders)]
    prices = [order["totalCredits"] for order in orders]
    assert [order["billingMode"] for order in (before, *orders)] == ["credit", "enterprise", "enterprise"]

    # The commitment covers the first order, which was paid from the balance, the second, and half of the third.
    amount = round(areas[0] + areas[1] + areas[2] / 2, 4)
    promised = await operator.op(
        "organizations.admin.commitments.save",
        {
            "organization_id": organization_id, "sqkm_amount": amount, "rate_aud": 1.5, "products": ["test-archive/ortho"],
            "start_date": (today - timedelta(days=3)).isoformat(), "end_date": (today + timedelta(days=30)).isoformat(),
        },
    )  # fmt: skip
    assert (promised["consumed_sqkm"], promised["remaining_sqkm"], promised["status"]) == (amount, 0.0, "active")
    assert promised["overage_sqkm"] == round(sum(areas) - amount, 4)

    accrual = await operator.op("billing.enterprise.accrual", {"organization_id": organization_id})
    assert [each["orderId"] for each in accrual["orders"]] == [order["id"] for order in orders]
    second = round(areas[1] * 150)
    half = amount - areas[0] - areas[1]
    third = round(half * 150) + prices[1] - round(prices[1] * half / areas[2])
    assert abs(accrual["accrued_credits"] - second - third) <= 2  # half credits round up, and floats do not
    assert accrual["accrued_credits"] < sum(prices)

    given = {"organization_id": organization_id, "period": f"{today:%Y-%m}"}
    statement = await server.home.op("organizations.commitments.statement", given)
    totals = {name: cents(value) for name, value in statement["totals"].items()}
    assert totals["activity_aud"] == sum(line["credits"] for line in statement["lines"])
    assert totals["activity_aud"] == totals["committed_aud"] + totals["uncommitted_aud"]
    assert totals["activity_aud"] == totals["invoiced_aud"] + totals["open_aud"]
    assert (totals["invoiced_aud"], totals["open_aud"]) == (before["totalCredits"], accrual["accrued_credits"])
    assert statement["settlement"] == {
        "reserved_credits": before["totalCredits"], "settled_credits": before["totalCredits"], "released_credits": 0,
        "difference": 0,
    }  # fmt: skip

    wanted = {"organization_id": organization_id, "period": f"{today:%Y-%m}"}
    calls = [operator.post("billing.enterprise.mark_invoiced", {**wanted, "reference": f"R{each % 3}"}) for each in range(6)]
    answers = await asyncio.gather(*calls)
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 5}
    made = next(answer.json() for answer in answers if answer.status_code == 200)
    invoice = made["invoice"]
    assert (made["marked_orders"], invoice["total_credits"]) == (2, accrual["accrued_credits"])
    assert sum(cents(line["amount_aud"]) for line in invoice["lines"]) == invoice["total_credits"]
    assert [line["kind"] for line in invoice["lines"]] == ["committed_area", "committed_area", "order"]
    assert (await server.home.op("billing.invoices.list"))["invoices"] == [invoice]
    statement = await server.home.op("organizations.commitments.statement", given)
    assert statement["totals"]["open_aud"] == 0
    assert {line["invoice_id"] for line in statement["lines"]} == {None, invoice["id"]}

    refusal = await operator.refused("organizations.admin.commitments.delete", {"id": promised["id"]})
    assert refusal == (409, "illegal_state")
    void = {"invoice_id": invoice["id"], "status": "void"}
    assert (await operator.op("billing.admin.invoices.set_status", void))["status"] == "void"
    assert await operator.refused("billing.admin.set_billing_mode", {**mode, "enterprise": False}) == (409, "illegal_state")
    again = await operator.op("billing.enterprise.mark_invoiced", {**wanted, "reference": "again"})
    assert again["invoice"]["lines"] == invoice["lines"]
    assert (await operator.op("billing.admin.set_billing_mode", {**mode, "enterprise": False}))["billing_mode"] == "prepaid"
    balance = await server.home.op("billing.credits.balance")
    assert (balance["balance"], balance["reserved"]) == (wallet["balance"], 0)


async def test_deliveries_tell_of_burn_down(server, shared_data):
    aoi = await open_archive(server, shared_data)
    operator, organization_id = await server.operator(), server.place.home.organization_id
    await operator.op("billing.admin.set_billing_mode", {"organization_id": organization_id, "enterprise": True})
    area = (await server.home.op("orders.archive.estimate", {"captures": [
        {"id": "TEST_BOLZANO_1", "host": "test-archive", "geometry": slice_of(aoi, 0, 0.1)}
    ]}))["groups"][0]["areaSqkm"]  # fmt: skip
    today = now().date()
    saved = await operator.op(
        "organizations.admin.commitments.save",
        {
            "organization_id": organization_id, "sqkm_amount": round(area / 0.6, 4), "rate_aud": 1, "products": [],
            "start_date": today.isoformat(), "end_date": (today + timedelta(days=1)).isoformat(),
        },
    )  # fmt: skip
    heard = []
    for start in (0, 0.1):
        await ordered(server, slice_of(aoi, start, start + 0.1))
        rows = await server.sql(
            "SELECT organization_id, entity_id, data FROM outbox_event WHERE type = 'commitment.threshold_reached'"
            " ORDER BY position"
        )
        assert {(row["organization_id"], row["entity_id"]) for row in rows} == {(organization_id, saved["id"])}
        heard.append([row["data"]["threshold_percent"] for row in rows])
    assert heard == [[50], [50, 80, 100]]


async def test_only_what_was_delivered_of_a_failed_order_is_billed(server, shared_data):
    """One group of two captures side by side, the second one's file gone: the first one's share is owed and burns down."""
    aoi = await open_archive(server, shared_data)
    operator, organization_id = await server.operator(), server.place.home.organization_id
    await operator.op("billing.admin.set_billing_mode", {"organization_id": organization_id, "enterprise": True})
    lost = scene(shared_data / "imagery" / BOLZANO, "LOST", collection="ortho")
    lost["assets"]["data"]["href"] = str(shared_data / "imagery" / "gone.tif")
    near = scene(shared_data / "imagery" / BOLZANO, "NEAR", collection="ortho")
    near["geometry"] = slice_of(near["geometry"], 0, 0.5)
    await operator.op("catalog.admin.scenes_import", {"host": "test-archive", "features": [near, lost]})
    captures = [{"id": name, "host": "test-archive", "geometry": aoi} for name in ("NEAR", "LOST")]
    order = await server.home.op("orders.archive.place", {"projectId": server.place.home.project_id, "captures": captures})
    ended = await server.until_ended(order["id"])
    assert (ended["status"], len(ended["itemIds"])) == ("failed", 1)
    [group] = order["groups"]
    delivered = next(each["areaSqkm"] for each in group["captures"] if each["id"] == "NEAR")
    assert 0 < delivered < group["areaSqkm"]

    today = now().date()
    saved = await operator.op(
        "organizations.admin.commitments.save",
        {
            "organization_id": organization_id, "sqkm_amount": 100_000, "rate_aud": 1, "products": ["ortho"],
            "start_date": today.isoformat(), "end_date": today.isoformat(),
        },
    )  # fmt: skip
    assert saved["consumed_sqkm"] == delivered
    assert saved["consumed_aud"] == round(delivered + 1e-9, 2)
    made = await operator.op(
        "billing.enterprise.mark_invoiced",
        {"organization_id": organization_id, "reference": "R", "order_ids": [order["id"]]},
    )
    assert made["total_aud"] == saved["consumed_aud"]
    assert made["total_aud"] < order["totalAud"] / 2 + 1


async def test_no_debt_slips_in_behind_a_change_of_mode(server, shared_data):
    """Orders and a change back to paying before, at once: nobody who pays before owes anything."""
    aoi = await open_archive(server, shared_data)
    operator, organization_id = await server.operator(), server.place.home.organization_id
    mode = {"organization_id": organization_id, "enterprise": True}
    body = {
        "projectId": server.place.home.project_id,
        "captures": [{"id": "TEST_BOLZANO_1", "host": "test-archive", "geometry": slice_of(aoi, 0, 0.02)}],
    }
    for attempt in range(4):
        await operator.op("billing.admin.set_billing_mode", mode)
        placing = [server.home.post("orders.archive.place", body) for _ in range(3)]
        changed, *placed = await asyncio.gather(
            operator.post("billing.admin.set_billing_mode", {**mode, "enterprise": False}), *placing
        )
        [row] = await server.sql(
            "SELECT billing_mode, (SELECT count(*) FROM accrual a WHERE a.organization_id = o.id AND a.invoice_id IS NULL"
            " AND a.reversed_at IS NULL) AS owed FROM organization o WHERE id = %s",
            organization_id,
        )
        assert row["billing_mode"] == ("prepaid" if changed.status_code == 200 else "enterprise")
        assert row["billing_mode"] == "enterprise" or row["owed"] == 0
        assert {answer.status_code for answer in placed} <= {202, 409}
        for answer in placed:
            if answer.status_code == 202:
                await server.until_ended(answer.json()["id"])
        await operator.post(
            "billing.enterprise.mark_invoiced", {"organization_id": organization_id, "reference": f"R{attempt}"}
        )
