"""Billing what enterprise organizations owe: each order once, in one invoice that adds up."""

from __future__ import annotations

import asyncio

import pytest

from geopera_server.values.ids import new_id
from support.owing import commit, enterprise, owed, statement

BAD_PERIODS = ("2026-13", "0000-01", "2026-00", "26-01", "2026-1")


async def accrual(household, **given):
    given = {"organization_id": household.place.home.organization_id, **given}
    return await household.operator.op("billing.enterprise.accrual", given)


async def bill(household, reference, **given):
    """Bills the home organization; the invoice's sums are checked."""
    given = {"organization_id": household.place.home.organization_id, "reference": reference, **given}
    made = await household.operator.op("billing.enterprise.mark_invoiced", given)
    invoice = made["invoice"]
    cents = [round(100 * line["amount_aud"]) for line in invoice["lines"]]
    assert sum(cents) == invoice["total_credits"] == round(100 * invoice["total_aud"]) == round(100 * made["total_aud"])
    for line in invoice["lines"]:
        assert abs(line["quantity"] * line["unit_price_aud"] - line["amount_aud"]) < 0.0051
    assert invoice["tax_aud"] == round(invoice["total_aud"] / 11, 2)
    return made


async def unbillable(household, reference="R", **given):
    given = {"organization_id": household.place.home.organization_id, "reference": reference, **given}
    return await household.operator.refused("billing.enterprise.mark_invoiced", given)


async def test_accrual_shows_what_no_invoice_has_billed(household):
    organization_id = await enterprise(household)
    saved = await commit(household, 10, 2, "2026-03-01", "2026-03-31")
    first = await owed(household, "2026-03-31T23:59:59", (15, 7_500))
    second = await owed(household, "2026-04-01", (1.5, 700))
    third = await owed(household, None, (3, 900))
    await owed(household, "2026-04-02", (0, 40), job=True)
    told = await accrual(household)
    assert told.pop("as_of").endswith("Z")
    orders = told.pop("orders")
    assert told == {
        "organization_id": organization_id, "period": None, "currency": "AUD", "accrued_aud": 61.4, "accrued_credits": 6_140,
        "uncommitted_aud": 41.4,
    }  # fmt: skip
    assert [
        (each["orderId"], each["status"], each["areaSqkm"], each["totalAud"], each["commitment_id"]) for each in orders
    ] == [
        (first, "fulfilled", 15.0, 45.0, saved["id"]),  # 10 km² at 2, and a third of 75
        (second, "fulfilled", 1.5, 7.0, None),
        (third, "processing", 3.0, 9.0, None),
    ]
    assert [each["fulfilledAt"] for each in orders] == ["2026-03-31T23:59:59.000Z", "2026-04-01T00:00:00.000Z", None]
    assert (await household.owner.op("billing.credits.balance"))["accrued_credits"] == 6_140
    march = await accrual(household, period="2026-03")
    assert (march["period"], march["accrued_aud"], march["uncommitted_aud"]) == ("2026-03", 45.0, 25.0)
    await bill(household, "R", period="2026-03")
    assert (await accrual(household, period="2026-03"))["orders"] == []
    assert (await accrual(household))["accrued_credits"] == 6_140 - 4_500
    assert (await household.owner.op("billing.credits.balance"))["accrued_credits"] == 6_140 - 4_500


async def test_who_may_see_accrual_and_of_whom(household):
    organization_id = household.place.home.organization_id
    given = {"organization_id": organization_id}
    assert await household.operator.refused("billing.enterprise.accrual", given) == (409, "illegal_state")
    await enterprise(household)
    for period in BAD_PERIODS:
        refusal = await household.operator.refused("billing.enterprise.accrual", {**given, "period": period})
        assert refusal == (422, "invalid_input")
        assert await unbillable(household, period=period) == (422, "invalid_input")
    for unknown in (new_id(), "nope"):
        given = {"organization_id": unknown, "reference": "R"}
        assert await household.operator.refused("billing.enterprise.accrual", given) == (404, "not_found")
        assert await household.operator.refused("billing.enterprise.mark_invoiced", given) == (404, "not_found")
        mode = {"organization_id": unknown, "enterprise": True}
        assert await household.operator.refused("billing.admin.set_billing_mode", mode) == (404, "not_found")
        status = {"invoice_id": unknown, "status": "void"}
        assert await household.operator.refused("billing.admin.invoices.set_status", status) == (404, "not_found")
    for operation_id in (
        "enterprise.accrual",
        "enterprise.mark_invoiced",
        "admin.invoices.set_status",
        "admin.set_billing_mode",
    ):
        assert await household.owner.refused(f"billing.{operation_id}", {}) == (403, "missing_scope")


async def test_a_month_is_billed_once(household):
    organization_id = await enterprise(household)
    first = await owed(household, "2026-03-31T23:59:59", (15, 7_500))
    april = await owed(household, "2026-04-01", (1.5, 700))
    await owed(household, "2026-03-02", (0, 40), job=True)
    made = await bill(household, "PO-1", period="2026-03", note="March")
    assert made["marked_orders"] == 1
    invoice = made["invoice"]
    assert (invoice["organization_id"], invoice["period"], invoice["status"]) == (organization_id, "2026-03", "issued")
    assert (invoice["reference"], invoice["currency"], invoice["paid_at"], invoice["pdf_url"]) == ("PO-1", "AUD", None, None)
    assert [(line["kind"], line["order_id"], line["amount_aud"]) for line in invoice["lines"]] == [
        ("job", None, 0.4),
        ("order", first, 75.0),
    ]
    assert await unbillable(household, "PO-1") == (409, "conflict")
    assert await unbillable(household, "PO-2", period="2026-03") == (409, "illegal_state")
    assert await unbillable(household, "PO-2", order_ids=[april, first]) == (409, "illegal_state")
    rest = await bill(household, "PO-2")
    assert [line["order_id"] for line in rest["invoice"]["lines"]] == [april]
    listed = await household.owner.op("billing.invoices.list", {"limit": 1})
    assert listed == {"invoices": [rest["invoice"]], "total": 2}
    assert await household.stranger.op("billing.invoices.list") == {"invoices": [], "total": 0}
    events = await household.sql(
        "SELECT organization_id, entity_id, data FROM outbox_event WHERE type = 'invoice.issued' ORDER BY position"
    )
    assert [(event["organization_id"], event["data"]["number"]) for event in events] == [
        (organization_id, each["invoice"]["number"]) for each in (made, rest)
    ]


async def test_orders_that_cannot_be_billed_are_refused(household):
    await enterprise(household)
    done = await owed(household, "2026-03-05", (15, 7_500))
    waiting = await owed(household, None, (15, 7_500))
    for wrong in (waiting, new_id(), "nope"):
        assert await unbillable(household, order_ids=[done, wrong]) == (422, "invalid_input")
    assert await unbillable(household, order_ids=[]) == (422, "invalid_input")
    assert await unbillable(household, " ") == (422, "invalid_input")
    foreign = {"organization_id": household.place.stranger.organization_id, "reference": "R", "order_ids": [done]}
    assert await household.operator.refused("billing.enterprise.mark_invoiced", foreign) == (422, "invalid_input")
    assert await unbillable(household, period="2026-02") == (409, "illegal_state")
    assert (await household.owner.op("billing.invoices.list"))["total"] == 0
    made = await bill(household, "R", order_ids=[done.upper(), done])
    assert made["marked_orders"] == 1


async def test_many_at_once_bill_each_order_once(household):
    organization_id = await enterprise(household)
    orders = [await owed(household, f"2026-03-{day:02}", (day, 100 * day)) for day in range(1, 13)]

    async def attempt(number):
        given = {"organization_id": organization_id, "reference": f"R{number % 6}"}
        if number % 2:
            given["order_ids"] = orders[number % 12 : number % 12 + 3]
        try:
            return (await household.operator.op("billing.enterprise.mark_invoiced", given))["invoice"]
        except Exception as error:  # noqa: BLE001
            return getattr(error, "status", error)

    found = await asyncio.gather(*(attempt(number) for number in range(16)))
    invoices = [each for each in found if isinstance(each, dict)]
    assert set(map(str, (each for each in found if not isinstance(each, dict)))) <= {"409"}
    billed = [line["order_id"] for invoice in invoices for line in invoice["lines"]]
    assert sorted(billed) == sorted(orders)
    assert sum(invoice["total_credits"] for invoice in invoices) == sum(100 * day for day in range(1, 13))
    numbers = sorted(invoice["number"] for invoice in invoices)
    assert [int(number[-6:]) for number in numbers] == list(range(1, len(numbers) + 1))


async def test_numbers_leave_no_gap_for_refused_calls(household):
    await enterprise(household)
    await owed(household, "2026-03-05", (1, 100))
    first = await bill(household, "A")
    assert await unbillable(household, "B") == (409, "illegal_state")
    assert await unbillable(household, "A") == (409, "conflict")
    await owed(household, "2026-03-06", (1, 100))
    second = await bill(household, "B")
    assert [int(made["invoice"]["number"][-6:]) for made in (first, second)] == [1, 2]


async def test_a_void_invoice_is_billed_again(household):
    await enterprise(household)
    saved = await commit(household, 20, 3, "2026-03-01", "2026-03-31")
    await owed(household, "2026-03-05", (15, 7_500))
    first = (await bill(household, "A"))["invoice"]
    assert [(line["kind"], line["quantity"], line["amount_aud"]) for line in first["lines"]] == [
        ("committed_area", 15.0, 45.0),
        ("take_or_pay", 5.0, 15.0),
    ]
    assert (await statement(household, "2026-03"))["totals"]["invoiced_aud"] == 60.0
    change = {"commitment_id": saved["id"], "size_sqkm": 1}
    assert await household.operator.refused("organizations.admin.commitments.adjust", change) == (409, "illegal_state")
    assert await household.operator.refused("organizations.admin.commitments.delete", {"id": saved["id"]}) == (
        409,
        "illegal_state",
    )
    status = {"invoice_id": first["id"], "status": "void", "reference": "wrong address"}
    void = await household.operator.op("billing.admin.invoices.set_status", status)
    assert (void["status"], void["id"], void["paid_at"]) == ("void", first["id"], None)
    for again in ("void", "paid"):
        refusal = await household.operator.refused("billing.admin.invoices.set_status", {**status, "status": again})
        assert refusal == (409, "illegal_state")
    assert (await statement(household, "2026-03"))["totals"]["open_aud"] == 60.0
    assert await unbillable(household, "A") == (409, "conflict")
    second = (await bill(household, "B"))["invoice"]
    assert second["lines"] == first["lines"]
    assert second["number"] != first["number"]
    paid = await household.operator.op("billing.admin.invoices.set_status", {"invoice_id": second["id"], "status": "paid"})
    assert (paid["status"], paid["paid_at"] is not None) == ("paid", True)
    refusal = await household.operator.refused("billing.admin.invoices.set_status", {**status, "invoice_id": second["id"]})
    assert refusal == (409, "illegal_state")
    listed = (await household.owner.op("billing.invoices.list"))["invoices"]
    assert [(each["number"], each["status"]) for each in listed] == [(second["number"], "paid"), (first["number"], "void")]


async def test_a_shortfall_is_billed_once_and_not_before_the_end(household):
    await enterprise(household)
    await commit(household, 12.5, 3.01, "2024-02-01", "2024-02-29")
    await commit(household, 10, 3, "2024-03-01", "2999-12-31")
    assert await unbillable(household, period="2024-01") == (409, "illegal_state")
    made = await bill(household, "R", period="2024-02")
    assert (made["marked_orders"], made["invoice"]["total_credits"]) == (0, 3_763)  # 12.5 by 301 = 3762.5
    assert made["invoice"]["lines"][0]["kind"] == "take_or_pay"
    assert await unbillable(household, "S", period="2024-02") == (409, "illegal_state")
    assert await unbillable(household, "S") == (409, "illegal_state")


async def test_a_shortfall_that_its_month_missed_is_billed_later(household):
    await enterprise(household)
    await commit(household, 10, 3, "2024-02-01", "2024-02-29")
    await owed(household, "2024-04-05", (1, 100))
    made = await bill(household, "R", period="2024-04")
    assert [line["kind"] for line in made["invoice"]["lines"]] == ["order", "take_or_pay"]


async def test_a_shortfall_of_who_pays_before_is_billed_too(household):
    await commit(household, 10, 3, "2024-02-01", "2024-02-29")
    made = await bill(household, "R")
    assert [(line["kind"], line["amount_aud"]) for line in made["invoice"]["lines"]] == [("take_or_pay", 30.0)]
    assert await unbillable(household, "S") == (409, "illegal_state")


async def test_an_order_across_the_amount_is_billed_in_two_lines(household):
    await enterprise(household)
    saved = await commit(household, 20, 3, "2026-03-01", "2026-03-31")
    first = await owed(household, "2026-03-05", (15, 7_500))
    second = await owed(household, "2026-03-06", (15.0003, 7_501))
    late = (await bill(household, "late", order_ids=[second]))["invoice"]
    assert [(line["kind"], line["quantity"], line["amount_aud"]) for line in late["lines"]] == [
        ("committed_area", 5.0, 15.0),
        ("order", 1.0, 50.01),
    ]
    assert (await household.owner.op("organizations.commitments.list"))["commitments"][0]["consumed_sqkm"] == 20.0
    early = (await bill(household, "early"))["invoice"]
    assert [(line["kind"], line["order_id"], line["amount_aud"]) for line in early["lines"]] == [
        ("committed_area", first, 45.0)
    ]
    told = await statement(household, "2026-03")
    assert told["totals"]["invoiced_aud"] == told["totals"]["activity_aud"] == late["total_aud"] + early["total_aud"]
    given = {
        "organization_id": household.place.home.organization_id, "id": saved["id"], "sqkm_amount": 20, "rate_aud": 4,
        "start_date": "2026-03-01", "end_date": "2026-03-31",
    }  # fmt: skip
    refusal = await household.operator.refused("organizations.admin.commitments.save", given)
    assert refusal == (409, "illegal_state")
    grown = {**given, "rate_aud": 3, "sqkm_amount": 30}
    assert (await household.operator.op("organizations.admin.commitments.save", grown))["remaining_sqkm"] == 10.0


@pytest.mark.parametrize("delivered", ["2026-03-05", None])
async def test_billing_mode_goes_back_only_without_debt(household, delivered):
    organization_id = await enterprise(household)
    assert await enterprise(household) == organization_id
    order_id = await owed(household, delivered, (1, 100))
    given = {"organization_id": organization_id, "enterprise": False}
    assert await household.operator.refused("billing.admin.set_billing_mode", given) == (409, "illegal_state")
    if delivered is None:
        assert await unbillable(household, order_ids=[order_id]) == (422, "invalid_input")
        return
    await bill(household, "R")
    changed = await household.operator.op("billing.admin.set_billing_mode", given)
    assert changed == {"organization_id": organization_id, "billing_mode": "prepaid"}
    assert (await household.owner.op("billing.credits.balance"))["billing_mode"] == "prepaid"
