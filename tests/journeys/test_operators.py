"""What operators may see and do across organizations, signed in as they are: without an organization of their own."""

from __future__ import annotations

import pytest

from support.cards import save_card


@pytest.mark.parametrize(
    "operation_id",
    [
        "usage.current",
        "usage.history",
        "billing.status.get",
        "organizations.get",
        "organizations.commitments.statement",
        "billing.run_monthly_for_org",
        "billing.reconciliation.detect_drift",
    ],
)
async def test_they_name_any_organization(server, operation_id):
    operator = await server.operator()
    answered = await operator.op(operation_id, {"organization_id": server.place.home.organization_id})
    assert answered.get("organization_id", answered.get("id")) == server.place.home.organization_id
    for unknown in ("nonsense", "00000000-0000-7000-8000-0000000000ff"):
        assert await operator.refused(operation_id, {"organization_id": unknown}) == (404, "not_found")


async def test_they_have_no_wallet_of_their_own(server):
    operator = await server.operator()
    assert (await operator.refused("billing.topup", {"credits": 500}))[0] == 403
    assert (await operator.refused("billing.credits.balance"))[0] == 403


async def test_a_deletion_that_they_schedule_is_theirs_to_cancel(server):
    operator, owner = await server.operator(), await server.signed_in(server.place.home.email)
    home = {"organization_id": server.place.home.organization_id}
    await operator.op("billing.admin.schedule_deletion", {**home, "days": 10})
    assert await owner.refused("organizations.deletion.cancel") == (403, "role_required")
    assert await owner.refused("organizations.deletion.request", {"days": 300}) == (403, "role_required")
    await operator.op("billing.admin.cancel_deletion", home)
    await owner.op("organizations.deletion.request", {"days": 300})
    await owner.op("organizations.deletion.cancel")


async def test_the_clock_asks_no_card_of_whoever_is_suspended(server):
    home = server.place.home.organization_id
    await save_card(server.house, home)
    operator = await server.operator()
    await server.sql(
        "INSERT INTO billing_run (id, organization_id, period, status, lines, total_credits, created_at, updated_at)"
        " SELECT gen_random_uuid(), %s, to_char(now() - interval '1 month', 'YYYY-MM'), 'computed',"
        ' \'[{"kind": "plan_fee", "quantity": "30", "unit": "day", "credits": 200000}]\', 200000, now(), now()',
        home,
    )
    await operator.op("billing.admin.suspend", {"organization_id": home, "reason": "Unpaid"})
    await server.sql("UPDATE organization SET created_at = now() - interval '40 days' WHERE id = %s", home)
    runs = await operator.op("billing.run_monthly_cron")
    assert runs["past_due"] == 1
    assert await server.sql("SELECT 1 FROM topup") == []
    owner = await server.signed_in(server.place.home.email)
    assert (await owner.op("billing.run_monthly_for_org", {"organization_id": home}))["status"] == "billed"
