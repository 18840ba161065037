"""The free tier: granted once at approval, and once a month."""

from __future__ import annotations

import pytest

from geopera_server.kernel.principal import service
from support.house import Caller
from support.serving import OPENING_CREDITS

APPROVE, REVOKE, GRANT_ALL = "billing.free_tier.approve", "billing.free_tier.revoke", "billing.free_tier.grant_all"


@pytest.fixture
def given(household):
    return {"organization_id": household.place.home.organization_id}


async def grants(household):
    return await household.sql(
        "SELECT reason, credits, principal_id FROM ledger_entry WHERE reason IN ('signup_grant', 'monthly_grant')"
        " ORDER BY number"
    )


async def test_approval_grants_at_once_and_once(household, given):
    waiting = await household.operator.op("billing.free_tier.list_pending")
    assert [row["owner_email"] for row in waiting["organizations"]] == ["owner@home.example", "owner@stranger.example"]
    assert waiting["total"] == 2
    approved = await household.operator.op(APPROVE, given)
    assert approved == {
        **given, "free_tier": "approved", "granted_credits": 1_500, "balance": OPENING_CREDITS + 1_500,
    }  # fmt: skip
    assert (await household.operator.op(APPROVE, given))["granted_credits"] == 0
    assert [(row["reason"], row["credits"]) for row in await grants(household)] == [
        ("signup_grant", 1_000),
        ("monthly_grant", 500),
    ]
    assert (await household.operator.op("billing.free_tier.list_pending"))["total"] == 1


async def test_a_service_names_the_human_it_acts_for(household, given):
    human = household.place.operator_id
    await Caller(household.house, service()).op(APPROVE, {**given, "admin_user_id": human})
    assert {row["principal_id"] for row in await grants(household)} == {human}


async def test_the_round_gives_what_is_missing_and_nothing_twice(household, given):
    await household.sql("UPDATE organization SET free_tier = 'approved'")
    await household.operator.op(APPROVE, given)
    reply = await household.operator.op(GRANT_ALL)
    assert {name: reply[name] for name in ("granted_signup", "granted_monthly", "total_credits")} == {
        "granted_signup": 1, "granted_monthly": 1, "total_credits": 1_500,
    }  # fmt: skip
    again = await household.operator.op(GRANT_ALL)
    assert (again["granted_monthly"], again["total_credits"], again["skipped"]) == (0, 0, again["organizations"])
    await household.tamper(
        "UPDATE ledger_entry SET external_ref = organization_id || ':2000-01' WHERE reason = 'monthly_grant' AND number = 3"
    )
    assert (await household.operator.op(GRANT_ALL))["granted_monthly"] == 2


async def test_zero_in_the_terms_is_no_grant(household, given):
    await household.sql("UPDATE billing_terms SET signup_grant_credits = 0")
    assert (await household.operator.op(APPROVE, given))["granted_credits"] == 500
    assert [row["reason"] for row in await grants(household)] == ["monthly_grant"]


async def test_revoking_stops_grants_and_takes_nothing_back(household, given):
    assert await household.operator.refused(REVOKE, given) == (409, "illegal_state")
    await household.operator.op(APPROVE, given)
    assert await household.operator.op(REVOKE, given) == {**given, "free_tier": "revoked"}
    await household.sql("UPDATE billing_terms SET monthly_grant_credits = 7")
    assert (await household.operator.op(GRANT_ALL))["organizations"] == 0
    assert len(await grants(household)) == 2
    assert (await household.operator.op(APPROVE, given))["granted_credits"] == 0


@pytest.mark.parametrize(
    "change", ["plan_id = 'starter'", "plan_id = 'enterprise'", "billing_mode = 'enterprise'"], ids=str.split
)
async def test_who_pays_is_not_in_it(household, given, change):
    await household.sql("UPDATE organization SET " + change)
    assert await household.operator.refused(APPROVE, given) == (409, "illegal_state")
    await household.sql("UPDATE organization SET free_tier = 'approved'")
    assert (await household.operator.op(GRANT_ALL))["total_credits"] == 0


async def test_a_suspended_organization_waits(household, given):
    await household.operator.op(APPROVE, given)
    await household.tamper(
        "UPDATE ledger_entry SET external_ref = organization_id || ':2000-01' WHERE reason = 'monthly_grant'"
    )
    await household.operator.op("billing.admin.suspend", given)
    assert (await household.operator.op(GRANT_ALL))["skipped"] == 1
    await household.operator.op("billing.admin.unsuspend", given)
    assert (await household.operator.op(GRANT_ALL))["granted_monthly"] == 1


async def test_unknown_organizations_and_customers(household, given):
    for unknown in ("nonsense", "0192d3c4-0000-7000-8000-00000000dead"):
        for operation_id in (APPROVE, REVOKE):
            assert await household.operator.refused(operation_id, {"organization_id": unknown}) == (404, "not_found")
    for operation_id in (APPROVE, REVOKE, GRANT_ALL, "billing.free_tier.list_pending"):
        assert await household.owner.refused(operation_id, given) == (403, "missing_scope")
