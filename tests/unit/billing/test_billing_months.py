"""What becomes of a closed month: paid whole and once, or owed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from geopera_server.domains.billing.monthly import last_closed
from geopera_server.domains.billing.operations.monthly import collect, suspend_overdue
from geopera_server.kernel.errors import OperationError
from geopera_server.kernel.principal import service
from geopera_server.values.clock import now
from geopera_server.values.periods import Period
from support.cards import check_charges, save_card
from support.house import Caller, owner_of
from support.months import asked_yesterday, been_on, month_before, owing_for
from support.serving import OPENING_CREDITS

RUN = "billing.run_monthly_for_org"
CRON = "billing.run_monthly_cron"
STARTER = 9_900


@pytest.fixture
def organization_id(household):
    return household.place.home.organization_id


@pytest.fixture
def given(organization_id):
    return {"organization_id": organization_id}


@pytest.fixture
def clock(household):
    return Caller(household.house, service())


async def spend(household, database, left: int) -> None:
    """Leaves the home organization with this many credits."""
    balance = (await household.owner.op("billing.credits.balance"))["balance"]
    taken = {"organization_id": household.place.home.organization_id, "credits": left - balance, "reason": "Spent"}
    await household.operator.op("billing.admin.grant_credits", taken, key=f"spend-{left}")


async def entries(household, reason="plan_fee"):
    return await household.sql("SELECT * FROM ledger_entry WHERE reason = %s ORDER BY created_at", reason)


async def test_a_month_is_paid_from_the_balance_once(household, database, organization_id, given):
    period = been_on(database, organization_id, "starter")
    first = await household.owner.op(RUN, given)
    days = (period.end - period.start).days
    assert first["status"] == "billed"
    assert first["period"] == str(period)
    assert first["lines"] == [{"kind": "plan_fee", "quantity": days, "unit": "day", "credits": STARTER}]
    assert (first["total_credits"], first["charged_credits"], first["charged_aud"]) == (STARTER, 0, 0)
    again = await household.owner.op(RUN, given)
    assert again == {**first, "status": "already_billed"}
    [entry] = await entries(household)
    assert (entry["credits"], entry["invoice_id"]) == (-STARTER, first["invoice_id"])
    assert (await household.owner.op("billing.credits.balance"))["balance"] == OPENING_CREDITS - STARTER
    [invoice] = (await household.owner.op("billing.invoices.list"))["invoices"]
    assert (invoice["status"], invoice["period"], invoice["total_credits"]) == ("paid", str(period), STARTER)


async def test_who_was_not_there_owes_nothing(household, given):
    run = await household.owner.op(RUN, given)
    assert (run["status"], run["lines"], run["total_credits"], run["invoice_id"]) == ("nothing_due", [], 0, None)
    assert await household.owner.op(RUN, given) == run


async def test_the_card_pays_what_the_balance_lacks(household, database, organization_id, given):
    been_on(database, organization_id, "starter")
    await spend(household, database, 900)
    await save_card(household.house, organization_id)
    run = await household.owner.op(RUN, given)
    assert (run["status"], run["charged_credits"], run["charged_aud"]) == ("billed", 9_000, 90.0)
    assert (await household.owner.op("billing.credits.balance"))["balance"] == 0
    [charge] = await check_charges(household.sql)
    [row] = await household.sql("SELECT topup_id::text AS topup_id FROM billing_run")
    assert row["topup_id"] == charge["topup_id"]
    assert (await household.owner.op(RUN, given))["status"] == "already_billed"
    assert len(await check_charges(household.sql)) == 1


async def test_many_at_once_bill_once(household, database, organization_id, given):
    been_on(database, organization_id, "starter")
    await spend(household, database, 900)
    await save_card(household.house, organization_id)

    async def run():
        try:
            return (await household.owner.op(RUN, given))["status"]
        except OperationError as refusal:
            return refusal.status

    outcomes = await asyncio.gather(*(run() for _ in range(6)))
    assert outcomes.count("billed") == 1
    assert set(outcomes) <= {"billed", "already_billed", 409}
    assert len(await check_charges(household.sql)) == 1
    assert len(await entries(household)) == 1


@pytest.mark.parametrize("card", [None, "pm_card_visa_chargeDeclined"])
async def test_what_cannot_be_paid_whole_takes_nothing(household, database, organization_id, given, card):
    period = been_on(database, organization_id, "starter")
    await spend(household, database, 900)
    if card is not None:
        await save_card(household.house, organization_id, card)
    run = await household.owner.op(RUN, given)
    assert (run["status"], run["period"], run["total_credits"], run["charged_credits"]) == ("past_due", str(period), STARTER, 0)
    assert (await household.owner.op("billing.credits.balance"))["balance"] == 900
    assert await entries(household) == []
    [row] = await household.sql("SELECT standing, past_due_since FROM organization WHERE id = %s", organization_id)
    assert row["standing"] == "past_due"
    assert row["past_due_since"] is not None
    [kept] = await household.sql("SELECT refusal_code FROM billing_run")
    assert kept["refusal_code"] == ("no_payment_method" if card is None else "card_declined")


async def test_paying_later_restores_the_standing(household, database, organization_id, given):
    been_on(database, organization_id, "starter")
    await spend(household, database, 900)
    await household.owner.op(RUN, given)
    await save_card(household.house, organization_id)
    assert (await household.owner.op(RUN, given))["status"] == "billed"
    [row] = await household.sql("SELECT standing, past_due_since FROM organization WHERE id = %s", organization_id)
    assert (row["standing"], row["past_due_since"]) == ("active", None)


async def test_credits_that_come_in_pay_the_open_month_without_the_card(household, database, organization_id, given):
    been_on(database, organization_id, "starter")
    await spend(household, database, 900)
    await household.owner.op(RUN, given)
    await save_card(household.house, organization_id)
    system = Caller(household.house, service(organization_id=organization_id))
    assert (await system.run(collect, given))["status"] == "past_due"
    assert await check_charges(household.sql) == []
    grant = {**given, "credits": 9_000, "reason": "Paid by transfer"}
    await household.operator.op("billing.admin.grant_credits", grant, key="transfer")
    assert (await system.run(collect, given))["status"] == "billed"
    [row] = await household.sql("SELECT standing FROM organization WHERE id = %s", organization_id)
    assert row["standing"] == "active"


async def test_months_are_paid_in_order(household, database, organization_id, given):
    last = been_on(database, organization_id, "starter")
    before = month_before(last)
    been_on(database, organization_id, "starter", since=before.start)
    assert [(await household.owner.op(RUN, given))["period"] for _ in range(3)] == [str(before), str(last), str(last)]
    assert len(await entries(household)) == 2


async def test_a_change_of_plan_is_charged_by_days(household, database, organization_id, given):
    period = been_on(database, organization_id, "starter")
    days = (period.end - period.start).days
    await household.tamper(
        "INSERT INTO plan_change (organization_id, plan_id, at) VALUES (%s, 'professional', %s)",
        organization_id,
        period.start + timedelta(days=days - 1),
    )
    [line] = (await household.owner.op(RUN, given))["lines"]
    assert line["credits"] == (2 * (STARTER * (days - 1) + 49_900) + days) // (2 * days)


async def test_the_clock_bills_everybody_and_nobody_stops_the_rest(household, database, organization_id, clock):
    been_on(database, organization_id, "starter")
    stranger_id = household.place.stranger.organization_id
    period = been_on(database, stranger_id, "starter")
    await household.sql(f"ALTER TABLE billing_run ADD CONSTRAINT broken CHECK (organization_id <> '{stranger_id}'::uuid)")
    tally = await clock.op(CRON)
    assert {name: tally[name] for name in ("processed", "billed", "nothing_due", "past_due", "failed")} == {
        "processed": 2, "billed": 1, "nothing_due": 0, "past_due": 0, "failed": 1,
    }  # fmt: skip
    assert tally["errors"] == [{"organization_id": stranger_id, "code": "internal_error"}]
    assert tally["period"] == str(period)
    await household.sql("ALTER TABLE billing_run DROP CONSTRAINT broken")
    assert (await clock.op(CRON))["billed"] == 1
    assert (await clock.op(CRON))["processed"] == 0


async def test_an_organization_whose_second_month_breaks_is_one(household, database, organization_id, clock):
    last = last_closed(now())
    been_on(database, organization_id, "starter", since=month_before(last).start)
    await household.sql(f"ALTER TABLE billing_run ADD CONSTRAINT broken CHECK (period <> '{last}')")
    tally = await clock.op(CRON)
    assert {name: tally[name] for name in ("processed", "billed", "failed")} == {"processed": 1, "billed": 1, "failed": 1}


async def test_a_refused_card_is_asked_once_a_day_and_suspends_in_the_end(household, database, organization_id, given, clock):
    been_on(database, organization_id, "starter")
    await spend(household, database, 0)
    await save_card(household.house, organization_id, "pm_card_visa_chargeDeclined")
    assert (await clock.op(CRON))["past_due"] == 1
    assert (await clock.op(CRON))["processed"] == 0
    asked_yesterday(database)
    assert (await clock.op(CRON))["past_due"] == 1
    [attempts] = await household.sql("SELECT count(*) AS made FROM topup")
    assert attempts["made"] == 2
    owing_for(database, organization_id, 13)
    await clock.op(CRON)
    assert (await household.sql("SELECT standing FROM organization WHERE id = %s", organization_id))[0][
        "standing"
    ] == "past_due"
    owing_for(database, organization_id, 15)
    await clock.op(CRON)
    [row] = await household.sql("SELECT standing, suspended_reason FROM organization WHERE id = %s", organization_id)
    assert row["standing"] == "suspended"
    assert "past due" in row["suspended_reason"]
    await save_card(household.house, organization_id)
    assert (await household.owner.op(RUN, given))["status"] == "billed"
    [row] = await household.sql("SELECT standing, suspended_reason FROM organization WHERE id = %s", organization_id)
    assert (row["standing"], row["suspended_reason"]) == ("active", None)
    system = Caller(household.house, service(organization_id=organization_id))
    assert (await system.run(suspend_overdue, given))["suspended"] is False


async def test_who_pays_afterwards_is_invoiced_and_not_debited(household, database, organization_id, given):
    been_on(database, organization_id, "starter")
    await household.sql("UPDATE organization SET billing_mode = 'enterprise' WHERE id = %s", organization_id)
    run = await household.owner.op(RUN, given)
    assert (run["status"], run["charged_credits"]) == ("billed", 0)
    assert await entries(household) == []
    [invoice] = (await household.owner.op("billing.invoices.list"))["invoices"]
    assert (invoice["status"], invoice["total_credits"]) == ("issued", STARTER)


@pytest.mark.parametrize("operation_id", [RUN, "usage.recalculate_storage", "organizations.update"])
async def test_who_only_reads_everywhere_changes_nobody_else(household, operation_id):
    reader = replace(owner_of(household.place.home), scopes=frozenset({"*:read", "*:write", "admin:read"}))
    theirs = {"organization_id": household.place.stranger.organization_id}
    caller = Caller(household.house, reader)
    await caller.op("usage.current", theirs)
    assert await caller.refused(operation_id, theirs) == (404, "not_found")


async def test_only_admins_of_the_organization_and_operators_run_it(household, given):
    assert await household.stranger.refused(RUN, given) == (404, "not_found")
    assert await household.owner.refused(RUN, {"organization_id": "nonsense"}) == (404, "not_found")
    assert (await household.operator.op(RUN, given))["status"] == "nothing_due"
    assert await household.owner.refused(CRON) == (403, "missing_scope")


def test_a_month_is_closed_once_it_is_counted():
    march = Period(2028, 3)
    assert last_closed(march.start) == last_closed(march.start + timedelta(minutes=14)) == Period(2028, 1)
    assert last_closed(march.start + timedelta(minutes=15)) == Period(2028, 2)
    assert last_closed(Period(2028, 1).start + timedelta(days=2)) == Period(2027, 12)


async def test_a_charge_that_waits_for_the_card_holder_stays_the_same_charge(household, database, organization_id, given):
    been_on(database, organization_id, "starter")
    await spend(household, database, 900)
    await save_card(household.house, organization_id, "pm_card_authenticationRequired")
    assert (await household.owner.op(RUN, given))["status"] == "past_due"
    grant = {**given, "credits": 100, "reason": "Meanwhile"}
    await household.operator.op("billing.admin.grant_credits", grant, key="meanwhile")
    assert (await household.owner.op(RUN, given))["status"] == "past_due"
    [topup] = await household.sql("SELECT state, credits FROM topup")
    assert (topup["state"], topup["credits"]) == ("requires_action", 9_000)
    [run] = await household.sql("SELECT refusal_code FROM billing_run")
    assert run["refusal_code"] == "payment_authentication_required"


async def test_credits_charged_for_a_month_and_spent_otherwise_are_charged_anew(household, database, organization_id, given):
    """As when the process died after the charge, the round granted it, and somebody spent it before the month came again."""
    been_on(database, organization_id, "starter")
    await spend(household, database, 900)
    await save_card(household.house, organization_id)
    first = await household.owner.op(RUN, given)
    await household.tamper(
        "UPDATE billing_run SET status = 'computed', charged_credits = 0, invoice_id = NULL, topup_id = NULL"
    )
    await household.tamper("UPDATE ledger_entry SET external_ref = 'something else' WHERE reason = 'plan_fee'")
    await household.tamper("UPDATE invoice SET status = 'void', paid_at = NULL, voided_at = now()")
    again = await household.owner.op(RUN, given)
    assert (first["charged_credits"], again["status"]) == (9_000, "billed")
    purposes = await household.sql("SELECT purpose, credits FROM topup ORDER BY created_at")
    assert [(row["purpose"], row["credits"]) for row in purposes] == [
        (f"month:{first['period']}", 9_000),
        (f"month:{first['period']}:2", 9_900),
    ]
    assert (await household.owner.op("billing.credits.balance"))["balance"] == 0
