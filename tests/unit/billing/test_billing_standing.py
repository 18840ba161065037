"""What operators change about organizations, and what that lets them do."""

from __future__ import annotations

import pytest

from support.months import been_on
from support.serving import OPENING_CREDITS

SUSPEND, UNSUSPEND, SET_PLAN = "billing.admin.suspend", "billing.admin.unsuspend", "billing.admin.set_plan"


@pytest.fixture
def given(household):
    return {"organization_id": household.place.home.organization_id}


async def organization(household):
    [row] = await household.sql("SELECT * FROM organization WHERE id = %s", household.place.home.organization_id)
    return row


async def test_a_suspension_begins_once_and_ends_once(household, given):
    assert await household.operator.refused(UNSUSPEND, given) == (409, "illegal_state")
    assert await household.operator.op(SUSPEND, {**given, "reason": "Disputed"}) == {**given, "standing": "suspended"}
    assert await household.operator.refused(SUSPEND, given) == (409, "illegal_state")
    status = await household.owner.op("billing.status.get", given)
    assert (status["standing"], status["suspended_reason"]) == ("suspended", "Disputed")
    assert await household.operator.op(UNSUSPEND, given) == {**given, "standing": "active"}
    assert (await organization(household))["suspended_reason"] is None


async def test_who_still_owes_is_past_due_after_a_suspension(household, given):
    await household.sql("UPDATE organization SET standing = 'past_due' WHERE id = %s", given["organization_id"])
    await household.operator.op(SUSPEND, given)
    await household.sql("UPDATE organization SET past_due_since = past_due_since - interval '20 days'")
    assert await household.operator.op(UNSUSPEND, given) == {**given, "standing": "past_due"}
    assert (await household.operator.op("billing.run_monthly_cron"))["failed"] == 0
    assert (await organization(household))["standing"] == "past_due"


async def test_the_word_and_the_facts_agree(household):
    for standing in ("past_due", "pending_deletion", "suspended", "active", "pending_deletion", "active"):
        await household.sql("UPDATE organization SET standing = %s", standing)
        row = await organization(household)
        assert row["standing"] == standing
        if standing == "active":
            assert [row[name] for name in ("past_due_since", "suspended_at", "deletion_due_at")] == [None] * 3


async def test_a_plan_is_taken_at_once_and_noted(household, given):
    assert await household.operator.op(SET_PLAN, {**given, "plan": "starter"}) == {**given, "plan": "starter"}
    await household.operator.op(SET_PLAN, {**given, "plan": "starter"})
    changes = await household.sql(
        "SELECT plan_id FROM plan_change WHERE organization_id = %s ORDER BY id", given["organization_id"]
    )
    assert [row["plan_id"] for row in changes] == ["free", "starter"]
    assert (await household.owner.op("billing.status.get", given))["plan"]["id"] == "starter"
    assert await household.operator.refused(SET_PLAN, {**given, "plan": "none"}) == (404, "not_found")


async def test_a_plan_that_is_too_small_needs_force(household, given):
    await household.operator.op(SET_PLAN, {**given, "plan": "starter"})
    for number in range(3):
        await household.owner.op("projects.create", {"name": f"Project {number}"})
    assert await household.operator.refused(SET_PLAN, {**given, "plan": "free"}) == (409, "illegal_state")
    assert (await organization(household))["plan_id"] == "starter"
    await household.operator.op(SET_PLAN, {**given, "plan": "free", "force": True})
    assert await household.owner.refused("projects.create", {"name": "One more"}) == (402, "plan_limit_reached")


async def test_operators_find_organizations(household, given):
    everybody = await household.operator.op("billing.admin.organizations.list")
    assert everybody["total"] == len(everybody["organizations"]) >= 2
    [home] = (await household.operator.op("billing.admin.organizations.list", {"search": "HOME map"}))["organizations"]
    assert home["id"] == given["organization_id"]
    assert home["name"] == "Home Mapping"
    assert home["slug"] == "home-mapping"
    assert (home["plan"], home["billing_mode"], home["standing"]) == ("free", "prepaid", "active")
    assert (home["balance"], home["accrued_aud"], home["storage_bytes"], home["member_count"]) == (OPENING_CREDITS, 0, 0, 1)
    pages = [
        (await household.operator.op("billing.admin.organizations.list", {"limit": 1, "offset": offset}))["organizations"]
        for offset in range(everybody["total"])
    ]
    assert [row["id"] for page in pages for row in page] == [row["id"] for row in everybody["organizations"]]
    await household.operator.op(SUSPEND, given)
    for wanted, found in (
        ({"standing": "suspended"}, 1),
        ({"standing": "suspended", "plan": "starter"}, 0),
        ({"plan": "free"}, 2),
        ({"billing_mode": "enterprise"}, 0),
        ({"search": "%"}, 0),
    ):
        assert (await household.operator.op("billing.admin.organizations.list", wanted))["total"] == found
    assert await household.operator.refused("billing.admin.organizations.list", {"standing": "odd"}) == (422, "invalid_input")


async def test_the_status_tells_the_whole_account(household, database, given):
    been_on(database, given["organization_id"], "starter")
    status = await household.owner.op("billing.status.get", given)
    assert status["plan"]["id"] == "starter"
    assert (status["billing_mode"], status["standing"], status["free_tier"]) == ("prepaid", "active", "pending")
    assert status["has_payment_method"] is False
    assert status["current_period"]["end"] < status["next_run_at"]
    assert status["usage"]["period"] == status["current_period"]
    assert status["usage"]["credits"]["granted"] == OPENING_CREDITS
    assert await household.stranger.refused("billing.status.get", given) == (404, "not_found")


@pytest.mark.parametrize("operation_id", [SUSPEND, UNSUSPEND, SET_PLAN])
async def test_unknown_organizations_and_customers(household, given, operation_id):
    more = {"plan": "starter"} if operation_id == SET_PLAN else {}
    for unknown in ("nonsense", "0192d3c4-0000-7000-8000-00000000dead"):
        assert await household.operator.refused(operation_id, {"organization_id": unknown, **more}) == (404, "not_found")
    assert await household.owner.refused(operation_id, {**given, **more}) == (403, "missing_scope")
    platform = {"organization_id": "00000000-0000-7000-8000-000000000001", **more}
    assert await household.operator.refused(operation_id, platform) == (409, "illegal_state")
