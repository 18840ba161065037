"""Topping up by itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from geopera_server.domains.payments import charging
from geopera_server.domains.payments.auto_topup import Plan, auto_topup_size, plan
from geopera_server.domains.payments.jobs import top_up
from geopera_server.kernel.errors import InvalidInput
from geopera_server.kernel.jobs import JobRun, TryAgain, put_back
from geopera_server.kernel.principal import Principal
from geopera_server.values.clock import now
from geopera_server.values.ids import new_id
from support.cards import check_charges, save_card
from support.charges import confirm, resolve_all
from support.colleagues import colleague, key_of_home
from support.house import Caller
from support.movements import spend, spend_down_to
from support.serving import OPENING_CREDITS

SET, GET = "billing.set_auto_topup", "billing.auto_topup.get"
WANTED = {"enabled": True, "threshold_credits": 5_000, "topup_amount_credits": 2_000}


@pytest.fixture
async def carded(household):
    """The household with a card that pays."""
    await save_card(household.house, household.place.home.organization_id)
    return household


async def jobs(household, states=("queued",)):
    return await household.sql(
        "SELECT * FROM job WHERE kind = 'billing.auto_topup' AND state = ANY(%s) ORDER BY created_at", list(states)
    )


async def claimed(household, *, failures=0) -> JobRun:
    """Takes the queued job as a worker does, due or not."""
    [row] = await household.sql(
        "UPDATE job SET state = 'running', attempt = attempt + 1, leased_until = now() + interval '1 minute'"
        " WHERE kind = 'billing.auto_topup' AND state = 'queued' RETURNING *"
    )
    return JobRun(
        id=row["id"], kind=row["kind"], organization_id=row["organization_id"], entity_id=row["entity_id"],
        payload=row["payload"], attempt=row["attempt"], failures=failures, max_attempts=5, kernel=household.house.kernel,
    )  # fmt: skip


async def work(household) -> None:
    await top_up(await claimed(household))


async def balance(household) -> int:
    return (await household.owner.op("billing.credits.balance"))["balance"]


async def wallet(household):
    [row] = await household.sql("SELECT * FROM wallet")
    return row


async def move_to_yesterday(household) -> None:
    await household.tamper("UPDATE topup SET created_at = created_at - interval '1 day'")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"threshold_credits": 0}, "threshold_credits"),
        ({"topup_amount_credits": 0}, "topup_amount_credits"),
        ({"topup_amount_credits": 499}, "topup_amount_credits"),
        ({"topup_amount_credits": 10**9}, "topup_amount_credits"),
        ({"daily_charge_cap_aud": 19.99}, "daily_charge_cap_aud"),
        ({"daily_charge_cap_aud": 100.005}, "daily_charge_cap_aud"),
        ({"daily_charge_cap_aud": 0}, "daily_charge_cap_aud"),
        ({"topup_amount_credits": 100_001}, "daily_charge_cap_aud"),
    ],
)
async def test_what_cannot_be_set(carded, change, field):
    with pytest.raises(InvalidInput) as refused:
        await carded.owner.op(SET, {**WANTED, **change})
    assert refused.value.issues[0]["loc"] == ["body", field]
    assert await carded.sql("SELECT 1 FROM wallet") == []


async def test_it_is_set_and_read_back(carded):
    never = await carded.owner.op(GET)
    assert never == {
        "enabled": False, "threshold_credits": None, "topup_amount_credits": None, "daily_charge_cap_aud": None,
        "charged_today_aud": 0.0, "payment_method": None, "last_topup_at": None, "last_error": None,
    }  # fmt: skip
    assert await carded.owner.op(SET, {**WANTED, "daily_charge_cap_aud": 20.1}) == WANTED
    seen = await carded.owner.op(GET)
    assert seen["payment_method"]["last4"] == "4242"
    assert {**seen, "payment_method": None} == {
        **never, "enabled": True, "threshold_credits": 5_000, "topup_amount_credits": 2_000, "daily_charge_cap_aud": 20.1,
    }  # fmt: skip
    assert (await wallet(carded))["daily_cap_credits"] == 2_010
    await (await key_of_home(carded)).op(SET, {**WANTED, "enabled": False})
    seen = await carded.owner.op(GET)
    assert (seen["enabled"], seen["daily_charge_cap_aud"]) == (False, None)
    assert await carded.stranger.op(GET) == never


async def test_who_may_set_it_and_with_what(household):
    assert await household.owner.refused(SET, WANTED) == (402, "no_payment_method")
    await household.owner.op(SET, {**WANTED, "enabled": False})
    for role in ("viewer", "member"):
        assert await (await colleague(household, role)).refused(SET, {**WANTED, "enabled": False}) == (403, "missing_scope")
    await (await colleague(household, "billing")).op(SET, {**WANTED, "enabled": False})


async def test_a_debit_under_the_threshold_is_topped_up_once(carded):
    await carded.owner.op(SET, WANTED)
    await spend_down_to(carded, 5_000)
    assert await jobs(carded) == []
    await asyncio.gather(*(spend(carded, 500) for _ in range(3)))
    assert len(await jobs(carded)) == 1
    await work(carded)
    # 3,500 and one multiple of the amount.
    assert await balance(carded) == 5_500
    assert await jobs(carded) == []
    [charge] = await check_charges(carded.sql)
    assert charge["amount_cents"] == 2_000
    [entry] = await carded.sql("SELECT reason, credits, note FROM ledger_entry WHERE topup_id IS NOT NULL")
    assert entry == {"reason": "auto_topup", "credits": 2_000, "note": "Automatic top-up"}
    seen = await carded.owner.op(GET)
    assert (seen["charged_today_aud"], seen["last_error"]) == (20.0, None)
    assert seen["last_topup_at"] is not None
    await spend(carded, 3_000)
    await work(carded)
    assert await balance(carded) == 6_500


async def test_setting_it_while_the_balance_is_under_tops_up_at_once(carded):
    await spend_down_to(carded, 1_000)
    await carded.owner.op(SET, WANTED)
    await work(carded)
    # Whole multiples, as many as it takes.
    assert await balance(carded) == 5_000
    assert len(await check_charges(carded.sql)) == 1


async def test_nothing_is_bought_once_it_is_turned_off(carded):
    await carded.owner.op(SET, WANTED)
    await spend_down_to(carded, 0)
    await carded.owner.op(SET, {**WANTED, "enabled": False})
    await work(carded)
    assert (await balance(carded), await jobs(carded)) == (0, [])
    assert await check_charges(carded.sql) == []


async def test_the_cap_of_the_day_is_never_passed(carded):
    await carded.owner.op(SET, {**WANTED, "daily_charge_cap_aud": 59.99})
    await spend_down_to(carded, 0)
    await work(carded)
    assert await balance(carded) == 4_000
    # Under the threshold still: looked at again when the next day begins.
    [waiting] = await jobs(carded)
    assert waiting["run_after"] == datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    await work(carded)
    assert await balance(carded) == 4_000
    await move_to_yesterday(carded)
    await work(carded)
    assert (await balance(carded), await jobs(carded)) == (6_000, [])
    assert len(await check_charges(carded.sql)) == 2


async def test_a_higher_cap_is_used_at_once(carded):
    await carded.owner.op(SET, {**WANTED, "daily_charge_cap_aud": 20})
    await spend_down_to(carded, 0)
    await work(carded)
    await carded.owner.op(SET, WANTED)
    [waiting] = await jobs(carded)
    assert waiting["run_after"] <= now()
    await work(carded)
    assert await balance(carded) == 6_000


async def test_two_that_decide_at_once_do_not_both_get_past_the_cap(carded):
    """A spend that buys what it lacks, and the job, each sees room for itself alone; the first to begin its charge has it."""
    await carded.owner.op(SET, {**WANTED, "daily_charge_cap_aud": 60})
    await spend_down_to(carded, 0)
    organization_id = carded.place.home.organization_id
    async with carded.house.pool.connection() as conn:
        assert await auto_topup_size(conn, organization_id, 3_000, now()) == 4_000
        assert await auto_topup_size(conn, organization_id, 6_001, now()) is None
    charge, others = charging.charge, []

    async def overtaken(purchase, outside, **how):
        theirs = charging.Purchase(organization_id=organization_id, kind="auto", credits=4_000, purpose="order:1")
        await charge(theirs, outside)
        others.append(theirs)
        await charge(purchase, outside, **how)

    run = await claimed(carded)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(charging, "charge", overtaken)
        await top_up(run)
    assert len(others) == 1
    # What the other one has bought is on its way and not there.
    assert await balance(carded) == 2_000
    await resolve_all(carded)
    assert sorted(row["amount_cents"] for row in await check_charges(carded.sql)) == [2_000, 4_000]


async def test_a_declined_card_is_left_alone_for_an_hour_and_given_up_after_three_times(carded):
    await save_card(carded.house, carded.place.home.organization_id, "pm_card_chargeDeclinedInsufficientFunds")
    await carded.owner.op(SET, WANTED)
    await spend_down_to(carded, 0)
    for failures in (1, 2):
        before = now()
        await work(carded)
        row = await wallet(carded)
        assert (row["failures_in_a_row"], row["auto_topup"]) == (failures, True)
        assert "insufficient_funds" in row["last_error"]
        [waiting] = await jobs(carded)
        assert waiting["run_after"] == row["retry_after"]
        assert before + timedelta(hours=1) <= row["retry_after"] <= now() + timedelta(hours=1)
        # Early, as when a debit wakes it: nothing is asked of the card.
        await work(carded)
        assert len(await carded.sql("SELECT 1 FROM topup")) == failures
        assert (await jobs(carded))[0]["run_after"] == row["retry_after"]
        async with carded.house.pool.connection() as conn:
            assert await auto_topup_size(conn, row["organization_id"], 1, now()) is None
        await carded.sql("UPDATE wallet SET retry_after = now()")
    await work(carded)
    row = await wallet(carded)
    assert (row["auto_topup"], row["retry_after"], await jobs(carded)) == (False, None, [])
    [event] = await carded.sql("SELECT * FROM outbox_event WHERE type = 'topup.failed' AND entity_type = 'organization'")
    assert (event["entity_id"], event["data"]["failure_code"]) == (carded.place.home.organization_id, "insufficient_funds")
    assert "3 times in a row" in event["data"]["message"]
    seen = await carded.owner.op(GET)
    assert (seen["enabled"], seen["threshold_credits"]) == (False, 5_000)
    assert "insufficient_funds" in seen["last_error"]
    assert await check_charges(carded.sql) == []


async def test_success_ends_a_row_of_failures(carded):
    declined = await save_card(carded.house, carded.place.home.organization_id, "pm_card_chargeDeclined")
    await carded.owner.op(SET, WANTED)
    await spend_down_to(carded, 4_000)
    await work(carded)
    await carded.sql("UPDATE wallet SET retry_after = now()")
    await carded.sql("UPDATE payment_method SET is_default = false")
    await carded.sql("UPDATE payment_method SET is_default = true WHERE id <> %s", declined)
    await work(carded)
    row = await wallet(carded)
    assert (row["failures_in_a_row"], row["last_error"], row["retry_after"]) == (0, None, None)
    assert await balance(carded) == 6_000


async def test_setting_it_again_begins_anew_after_failures(carded):
    await save_card(carded.house, carded.place.home.organization_id, "pm_card_chargeDeclined")
    await carded.owner.op(SET, WANTED)
    await spend_down_to(carded, 4_000)
    await work(carded)
    await save_card(carded.house, carded.place.home.organization_id, "pm_card_mastercard")
    await carded.owner.op(SET, WANTED)
    row = await wallet(carded)
    assert (row["failures_in_a_row"], row["last_error"], row["retry_after"]) == (0, None, None)
    [waiting] = await jobs(carded)
    assert waiting["run_after"] <= now()
    await work(carded)
    assert await balance(carded) == 6_000


async def test_a_card_that_wants_its_holder_is_a_failure_and_may_still_be_paid(carded):
    await save_card(carded.house, carded.place.home.organization_id, "pm_card_authenticationRequired")
    await carded.owner.op(SET, WANTED)
    await spend_down_to(carded, 4_000)
    await work(carded)
    row = await wallet(carded)
    assert row["failures_in_a_row"] == 1
    assert "confirm" in row["last_error"]
    await confirm(carded)
    await resolve_all(carded)
    row = await wallet(carded)
    assert (row["failures_in_a_row"], row["last_error"], await balance(carded)) == (0, None, 6_000)
    await work(carded)
    assert len(await check_charges(carded.sql)) == 1


async def test_without_a_card_it_fails_too(carded):
    await carded.owner.op(SET, WANTED)
    await carded.sql("UPDATE payment_method SET is_default = false")
    await spend_down_to(carded, 0)
    await work(carded)
    assert (await wallet(carded))["failures_in_a_row"] == 1


async def test_a_silent_processor_is_asked_again_and_charges_once(carded):
    """The first answer is lost after the card was charged; the job is put back and finds its charge."""
    await save_card(carded.house, carded.place.home.organization_id, "pm_test_lostReply")
    await carded.owner.op(SET, WANTED)
    await spend_down_to(carded, 0)
    run = await claimed(carded)
    try:
        await top_up(run)
    except TryAgain as again:
        async with carded.house.pool.connection() as conn:
            await put_back(conn, run, str(again))
        await work(carded)
    assert await balance(carded) == 6_000
    assert (await wallet(carded))["failures_in_a_row"] == 0
    assert len(await check_charges(carded.sql)) == 1


async def test_a_processor_that_is_away_is_nobodys_failure(carded):
    await save_card(carded.house, carded.place.home.organization_id, "pm_test_down")
    await carded.owner.op(SET, WANTED)
    await spend_down_to(carded, 0)
    run = await claimed(carded)
    with pytest.raises(TryAgain):
        await top_up(run)
    async with carded.house.pool.connection() as conn:
        await put_back(conn, run, "away")
    await top_up(await claimed(carded, failures=4))
    row = await wallet(carded)
    assert (row["auto_topup"], row["failures_in_a_row"], row["retry_after"]) == (True, 0, None)
    [waiting] = await jobs(carded)
    assert waiting["run_after"] > now()
    assert waiting["id"] != run.id


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("moment", ["before it is recorded", "before it is granted"])
async def test_a_worker_that_dies_after_charging_charges_nothing_twice(carded, monkeypatch, moment):
    await carded.owner.op(SET, WANTED)
    await spend_down_to(carded, 0)
    name = "record" if moment == "before it is recorded" else "granted"

    async def dies(*_, **__):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(charging, name, dies)
        with pytest.raises(Killed):
            await top_up(await claimed(carded))
    await carded.sql("UPDATE job SET state = 'queued', leased_until = NULL WHERE state = 'running'")
    await carded.sql("UPDATE topup SET held_until = now()")
    await work(carded)
    assert await balance(carded) == 6_000
    assert len(await check_charges(carded.sql)) == 1
    assert await jobs(carded) == []


async def test_a_refusal_that_was_seen_is_not_tried_again_by_the_same_job(carded, monkeypatch):
    await save_card(carded.house, carded.place.home.organization_id, "pm_card_chargeDeclined")
    await carded.owner.op(SET, WANTED)
    await spend_down_to(carded, 0)
    run = await claimed(carded)
    with monkeypatch.context() as patched:
        patched.setattr("geopera_server.domains.payments.jobs._refuse", _dies)
        with pytest.raises(Killed):
            await top_up(run)
    await carded.sql("UPDATE job SET state = 'queued', leased_until = NULL WHERE state = 'running'")
    await work(carded)
    assert len(await carded.sql("SELECT 1 FROM topup")) == 1
    assert (await wallet(carded))["failures_in_a_row"] == 1


async def _dies(*_, **__):
    raise Killed


async def test_a_debit_while_the_card_is_charged_is_not_forgotten(carded, monkeypatch):
    await carded.owner.op(SET, WANTED)
    await spend_down_to(carded, 4_000)
    charge = charging.charge

    async def spent_meanwhile(purchase, outside, **how):
        await charge(purchase, outside, **how)
        await spend(carded, 3_500)

    with monkeypatch.context() as patched:
        patched.setattr(charging, "charge", spent_meanwhile)
        await work(carded)
    assert await balance(carded) == 2_500
    [waiting] = await jobs(carded)
    assert waiting["run_after"] <= now()
    await work(carded)
    assert await balance(carded) == 6_500


def row(**more):
    return {
        "auto_topup": True, "may_charge": True, "threshold_credits": 1_000, "topup_amount_credits": 600, "retry_after": None,
        "cap_credits": 10_000, "committed_credits": 0, "coming_credits": 0, **more,
    }  # fmt: skip


AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("wallet_row", "balance_credits", "planned"),
    [
        (row(), 1_000, Plan()),
        (row(), 999, Plan(credits=600)),
        (row(), 400, Plan(credits=600)),
        (row(), 399, Plan(credits=1_200)),
        (row(), -5_000, Plan(credits=6_000)),
        (row(coming_credits=600), 400, Plan(look_at=AT + timedelta(minutes=10))),
        (row(coming_credits=600), 399, Plan(credits=600)),
        (row(committed_credits=9_000), 0, Plan(credits=600)),
        (row(committed_credits=9_401), 0, Plan(look_at=datetime(2026, 3, 2, tzinfo=UTC))),
        (row(retry_after=AT), 0, Plan(credits=1_200)),
        (row(retry_after=AT + timedelta(seconds=1)), 0, Plan(look_at=AT + timedelta(seconds=1))),
        (row(auto_topup=False), 0, Plan()),
        (row(may_charge=False), 0, Plan()),
    ],
)
def test_what_is_planned(wallet_row, balance_credits, planned):
    assert plan(wallet_row, balance_credits, AT) == planned


async def test_purchases_are_listed_newest_first_by_status(carded):
    await carded.owner.op("billing.topup", {"credits": 1_100})
    await save_card(carded.house, carded.place.home.organization_id, "pm_card_chargeDeclined")
    assert (await carded.owner.refused("billing.topup", {"credits": 2_000}))[0] == 402
    await save_card(carded.house, carded.place.home.organization_id, "pm_card_authenticationRequired")
    assert (await carded.owner.refused("billing.topup", {"credits": 3_000}))[0] == 402
    listed = await carded.owner.op("billing.topups.list")
    assert [(row["credits"], row["status"]) for row in listed["topups"]] == [
        (3_000, "requires_action"), (2_000, "failed"), (1_100, "succeeded"),
    ]  # fmt: skip
    bought = listed["topups"][2]
    assert bought == {
        "id": bought["id"], "kind": "manual", "credits": 1_100, "amount_aud": 11.0, "tax_aud": 1.0, "status": "succeeded",
        "payment_intent_id": bought["payment_intent_id"], "receipt_url": bought["receipt_url"],
        "created_at": bought["created_at"], "failure_code": None,
    }  # fmt: skip
    assert bought["payment_intent_id"] is not None
    for status, found in (("succeeded", 1), ("pending", 0), ("requires_action", 1), ("failed", 1), ("canceled", 0)):
        some = await carded.owner.op("billing.topups.list", {"status": status})
        assert (some["total"], len(some["topups"])) == (found, found)
    page = await carded.owner.op("billing.topups.list", {"limit": 1, "offset": 1})
    assert (page["total"], page["limit"], page["offset"], page["topups"]) == (3, 1, 1, listed["topups"][1:2])
    assert await carded.owner.refused("billing.topups.list", {"status": "paid"}) == (422, "unknown_field_value")
    assert (await carded.stranger.op("billing.topups.list"))["topups"] == []
    assert await balance(carded) == OPENING_CREDITS + 1_100


async def test_nothing_is_charged_by_itself_that_could_not_be_charged_at_once(household):
    await save_card(household.house, household.place.home.organization_id)
    big = {"enabled": True, "threshold_credits": 1, "topup_amount_credits": 500_001, "daily_charge_cap_aud": 9_000}
    assert await household.owner.refused("billing.set_auto_topup", big) == (402, "approval_required")
    assert (await household.owner.op("billing.set_auto_topup", {**big, "topup_amount_credits": 500_000}))["enabled"]


async def test_a_key_raises_no_daily_cap(household):
    await save_card(household.house, household.place.home.organization_id)
    key = Caller(
        household.house,
        Principal(
            kind="api_key",
            id=new_id(),
            organization_id=household.place.home.organization_id,
            scopes=frozenset({"billing:write"}),
        ),
    )
    body = {"enabled": True, "threshold_credits": 1, "topup_amount_credits": 500}
    assert await key.refused("billing.set_auto_topup", {**body, "daily_charge_cap_aud": 1_000.01}) == (403, "human_required")
    assert (await key.op("billing.set_auto_topup", {**body, "daily_charge_cap_aud": 1_000}))["enabled"]
