"""Commitments as operators keep them and their organization reads them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import BaseModel

from geopera_server.domains.commitments.alerts import notice_delivery
from geopera_server.kernel.context import Context
from geopera_server.kernel.operation import operation
from geopera_server.values.clock import now
from geopera_server.values.ids import new_id
from support.owing import PRODUCT, commit, enterprise, owed, statement

MARCH = ("2026-03-01", "2026-03-31")


class Noticed(BaseModel):
    """Whose delivery to notice."""

    organization_id: str


@operation("test.notice", effect="compute", scope="admin:write")
async def notice(ctx: Context, given: Noticed) -> Noticed:
    """Notices a delivery as fulfilling an order does."""
    await notice_delivery(ctx, {"organization_id": given.organization_id})
    return given


async def listed(household, **given):
    return (await household.owner.op("organizations.commitments.list", given))["commitments"]


async def test_a_commitment_is_burnt_down_in_order_of_fulfilment(household):
    await enterprise(household)
    saved = await commit(household, 100, 10.5, *MARCH, products=[PRODUCT])
    later = await owed(household, "2026-03-20", (60, 120_000))
    first = await owed(household, "2026-03-05", (30, 60_000), (30, 60_000))
    await owed(household, "2026-03-06", (5, 10_000), product="other/product")
    await owed(household, "2026-04-01", (5, 10_000))
    [row] = await listed(household, include_line_items=True)
    items = row.pop("line_items")
    assert row == {
        "id": saved["id"], "sqkm_amount": 100.0, "rate_aud": 10.5, "products": [PRODUCT], "start_date": "2026-03-01",
        "end_date": "2026-03-31", "status": "completed", "consumed_sqkm": 100.0, "remaining_sqkm": 0.0,
        "consumed_percent": 100.0, "expected_percent": 100.0, "overage_sqkm": 20.0, "committed_aud": 1_050.0,
        "consumed_aud": 1_050.0, "take_or_pay_aud": 0.0, "adjustments": [],
    }  # fmt: skip
    assert [(item["order_id"], item["sqkm"], item["amount_aud"]) for item in items] == [
        (first, 60.0, 630.0),
        (later, 40.0, 420.0),
    ]
    told = await statement(household, "2026-03")
    assert [(line["sqkm"], line["credits"], line["committed"]) for line in told["lines"]] == [
        (60.0, 63_000, True),
        (5.0, 10_000, False),
        (40.0, 42_000, True),
        (20.0, 40_000, False),
    ]
    assert told["totals"]["open_aud"] == told["totals"]["activity_aud"] == 1_550.0
    assert [line["credits"] for line in (await statement(household, "2026-04"))["lines"]] == [10_000]


async def test_a_statement_shows_burn_down_at_the_end_of_its_month(household):
    await enterprise(household)
    await commit(household, 100, 1, "2024-01-15", "2024-02-29")
    await owed(household, "2024-01-31T23:59:59", (10, 5_000))
    await owed(household, "2024-02-29T23:59:59", (20, 9_000))
    seen = [(await statement(household, period))["commitments"][0] for period in ("2023-12", "2024-01", "2024-02", "2024-03")]
    assert [(row["status"], row["consumed_sqkm"], row["take_or_pay_aud"]) for row in seen] == [
        ("upcoming", 0.0, 0.0),
        ("active", 10.0, 0.0),
        ("active", 30.0, 0.0),  # its last moment is still in the term
        ("completed", 30.0, 70.0),
    ]
    february = await statement(household, "2024-02")
    assert [(line["description"], line["credits"]) for line in february["lines"]][-1] == ("Take-or-pay", 7_000)
    assert (await statement(household, "2024-03"))["lines"] == []


async def test_nobody_reads_of_other_organizations(household):
    saved = await commit(household, 10, 1, *MARCH)
    assert await listed(household, commitment_id=saved["id"]) == [saved]
    assert await household.stranger.op("organizations.commitments.list") == {"commitments": [], "total": 0}
    for caller, commitment_id in ((household.stranger, saved["id"]), (household.owner, new_id()), (household.owner, "nope")):
        given = {"commitment_id": commitment_id}
        assert await caller.refused("organizations.commitments.list", given) == (404, "not_found")
    given = {"organization_id": household.place.home.organization_id}
    assert await household.stranger.refused("organizations.commitments.statement", given) == (404, "not_found")
    assert (await household.operator.op("organizations.commitments.statement", given))["lines"] == []
    for period in ("2026-13", "0000-01", "2026-3"):
        refusal = await household.owner.refused("organizations.commitments.statement", {**given, "period": period})
        assert refusal == (422, "invalid_input")
    for operation_id in ("save", "adjust", "delete"):
        refusal = await household.owner.refused(f"organizations.admin.commitments.{operation_id}", {})
        assert refusal == (403, "missing_scope")


@pytest.mark.parametrize(
    "wrong",
    [
        {"start_date": "2026-02-29"},
        {"end_date": "2026-02-28"},
        {"start_date": "20260301"},
        {"end_date": "0000-01-01"},
        {"sqkm_amount": 0},
        {"sqkm_amount": 1.00005},
        {"sqkm_amount": "nan"},
        {"rate_aud": 1.005},
        {"rate_aud": -1},
        {"products": [" "]},
    ],
)
async def test_what_makes_no_commitment_is_refused(household, wrong):
    given = {
        "organization_id": household.place.home.organization_id, "sqkm_amount": 10, "rate_aud": 1,
        "start_date": "2026-03-01", "end_date": "2026-03-31", **wrong,
    }  # fmt: skip
    assert await household.operator.refused("organizations.admin.commitments.save", given) == (422, "invalid_input")


async def test_no_two_commitments_take_one_product_at_a_time(household):
    first = await commit(household, 10, 1, *MARCH, products=["a", "b"])
    given = {
        "organization_id": household.place.home.organization_id, "sqkm_amount": 5, "rate_aud": 2,
        "start_date": "2026-03-31", "end_date": "2026-06-30",
    }  # fmt: skip
    for products in ([], ["b", "c"]):
        refusal = await household.operator.refused("organizations.admin.commitments.save", {**given, "products": products})
        assert refusal == (409, "conflict")
    second = await household.operator.op("organizations.admin.commitments.save", {**given, "products": ["c"]})
    again = {**given, "id": first["id"], "products": ["a", "c"]}
    assert await household.operator.refused("organizations.admin.commitments.save", again) == (409, "conflict")
    changed = await household.operator.op("organizations.admin.commitments.save", {**again, "products": ["a"], "rate_aud": 3})
    assert (changed["id"], changed["rate_aud"], changed["end_date"]) == (first["id"], 3.0, "2026-06-30")
    for organization_id in (household.place.stranger.organization_id, new_id(), "nope"):
        foreign = {**given, "organization_id": organization_id, "id": first["id"]}
        assert await household.operator.refused("organizations.admin.commitments.save", foreign) == (404, "not_found")
    assert [row["id"] for row in await listed(household)] == [first["id"], second["id"]]


async def test_adjustments_move_the_burn_down(household):
    await enterprise(household)
    saved = await commit(household, 100, 10, *MARCH)
    await owed(household, "2026-03-05", (60, 120_000))
    given = {"commitment_id": saved["id"], "size_sqkm": 70.5}
    raised = await household.operator.op("organizations.admin.commitments.adjust", given)
    assert (raised["consumed_sqkm"], raised["remaining_sqkm"], raised["overage_sqkm"]) == (100.0, 0.0, 30.5)
    assert (raised["consumed_aud"], raised["adjustments"][0]["note"]) == (295.0, "Manual adjustment")
    refusal = await household.operator.refused("organizations.admin.commitments.adjust", {**given, "size_sqkm": -100.0001})
    assert refusal == (422, "invalid_input")
    lowered = await household.operator.op("organizations.admin.commitments.adjust", {**given, "size_sqkm": -70.5, "note": "No"})
    assert (lowered["consumed_sqkm"], lowered["overage_sqkm"], lowered["consumed_aud"]) == (60.0, 0.0, 600.0)
    assert [(each["size_sqkm"], each["note"]) for each in lowered["adjustments"]] == [
        (70.5, "Manual adjustment"),
        (-70.5, "No"),
    ]
    for commitment_id in (new_id(), "nope"):
        refusal = await household.operator.refused(
            "organizations.admin.commitments.adjust", {**given, "commitment_id": commitment_id}
        )
        assert refusal == (404, "not_found")


async def test_a_deleted_commitment_covers_nothing(household):
    await enterprise(household)
    saved = await commit(household, 100, 10, *MARCH)
    await owed(household, "2026-03-05", (60, 120_000))
    assert (await statement(household, "2026-03"))["totals"]["activity_aud"] == 1_000.0  # 600 and the shortfall's 400
    deleted = await household.operator.op("organizations.admin.commitments.delete", {"id": saved["id"]})
    assert deleted == {"id": saved["id"], "deleted": True}
    assert await household.operator.refused("organizations.admin.commitments.delete", {"id": saved["id"]}) == (404, "not_found")
    assert await listed(household) == []
    assert (await statement(household, "2026-03"))["totals"]["uncommitted_aud"] == 1_200.0


async def test_subscribers_hear_of_each_percentage_once(household):
    organization_id = await enterprise(household)
    today = now().date()
    day = today.isoformat()
    saved = await commit(household, 100, 10, (today - timedelta(days=1)).isoformat(), (today + timedelta(days=1)).isoformat())

    async def heard(sqkm: float) -> list[int]:
        await owed(household, day, (sqkm, 1_000))
        await household.operator.run(notice, {"organization_id": organization_id})
        rows = await household.sql(
            "SELECT data FROM outbox_event WHERE type = 'commitment.threshold_reached' AND organization_id = %s"
            " ORDER BY position",
            organization_id,
        )
        assert all(row["data"]["id"] == saved["id"] for row in rows)
        return [row["data"]["threshold_percent"] for row in rows]

    assert await heard(49.9999) == []
    assert await heard(0.0001) == [50]
    assert await heard(1) == [50]
    assert await heard(60) == [50, 80, 100]
    given = {"commitment_id": saved["id"], "size_sqkm": -30, "note": "Returned"}
    await household.operator.op("organizations.admin.commitments.adjust", given)
    assert await heard(1) == [50, 80, 100]  # the freed area went to what was beyond the amount


async def test_what_was_billed_as_not_ordered_covers_nothing_later(household):
    given = {"organization_id": await enterprise(household)}
    await owed(household, "2026-03-05", (60, 120_000))
    first = await household.operator.op("billing.enterprise.mark_invoiced", {**given, "reference": "Own price"})
    saved = await commit(household, 100, 10, *MARCH)
    await household.operator.op("billing.enterprise.mark_invoiced", {**given, "reference": "Take-or-pay"})
    void = {"invoice_id": first["invoice"]["id"], "status": "void"}
    await household.operator.op("billing.admin.invoices.set_status", void)
    lines = (await statement(household, "2026-03"))["lines"]
    assert [(line["credits"], line["commitment_id"], line["billed"]) for line in lines] == [
        (120_000, None, False),
        (100_000, saved["id"], True),
    ]
    again = await household.operator.op("billing.enterprise.mark_invoiced", {**given, "reference": "Once more"})
    assert again["total_aud"] == 1_200.0
