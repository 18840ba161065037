"""What runs by the clock, and holds that nobody ended."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from geopera_server.domains.billing import crons, holds
from geopera_server.domains.billing.crons import CRONS, Cron, next_monthly_run, run_due
from geopera_server.kernel.principal import service
from geopera_server.ledger.postings import Cause, reserve, settle
from geopera_server.values.clock import now
from geopera_server.values.ids import new_id
from support.house import Caller
from support.months import been_on
from support.serving import OPENING_CREDITS

SETTLE = "billing.jobs.settle_unsettled"


async def test_each_due_time_is_run_once_by_whoever_comes_first(household):
    house = household.house
    await asyncio.gather(*(run_due(house.kernel, house.registry) for _ in range(4)))
    runs = await household.sql("SELECT operation_id, count(*) AS made FROM audit_event WHERE principal_type = 'service'"
                               " AND operation_id = ANY(%s) GROUP BY 1", [cron.name for cron in CRONS])  # fmt: skip
    assert {row["operation_id"]: row["made"] for row in runs} == {cron.name: 1 for cron in CRONS}
    await run_due(house.kernel, house.registry)
    assert len(await household.sql("SELECT * FROM cron_run WHERE done_at IS NOT NULL")) == len(CRONS)
    assert len(await household.sql("SELECT * FROM audit_event WHERE operation_id = %s", CRONS[0].name)) == 1


async def test_the_clock_catches_up_with_what_was_missed(household, database):
    home = household.place.home.organization_id
    been_on(database, home, "starter")
    await household.sql(
        "UPDATE organization SET free_tier = 'approved' WHERE id = %s", household.place.stranger.organization_id
    )
    await run_due(household.house.kernel, household.house.registry)
    fees = await household.sql(
        "SELECT organization_id, reason FROM ledger_entry WHERE reason <> 'operator_grant' ORDER BY reason"
    )
    assert [row["reason"] for row in fees] == ["monthly_grant", "plan_fee", "signup_grant"]


async def test_what_failed_is_tried_again_later(household, monkeypatch):
    house, cron = household.house, Cron(name="billing.no_such", every=timedelta(days=1), offset=timedelta(0))
    monkeypatch.setattr(crons, "CRONS", (cron,))

    async def tries() -> int:
        await run_due(house.kernel, house.registry)
        [row] = await household.sql("SELECT tries, done_at, outcome, next_try_at > now() AS waits FROM cron_run")
        assert (row["done_at"], row["waits"]) == (None, True)
        assert row["outcome"]
        return row["tries"]

    assert [await tries(), await tries()] == [1, 1]
    await household.sql("UPDATE cron_run SET next_try_at = now() - interval '1 second'")
    assert [await tries(), await tries()] == [2, 2]


def test_the_latest_due_time():
    daily = Cron(name="d", every=timedelta(days=1), offset=timedelta(minutes=30))
    hourly = Cron(name="h", every=timedelta(hours=1), offset=timedelta(minutes=10))
    at = datetime(2028, 3, 1, 0, 29, 59, tzinfo=UTC)
    assert daily.latest_due(at) == datetime(2028, 2, 29, 0, 30, tzinfo=UTC)
    assert daily.latest_due(at + timedelta(seconds=1)) == datetime(2028, 3, 1, 0, 30, tzinfo=UTC)
    assert hourly.latest_due(at) == datetime(2028, 3, 1, 0, 10, tzinfo=UTC)
    assert hourly.latest_due(at.replace(minute=9)) == datetime(2028, 2, 29, 23, 10, tzinfo=UTC)
    assert next_monthly_run(at) == datetime(2028, 4, 1, 0, 30, tzinfo=UTC)
    assert next_monthly_run(datetime(2028, 12, 31, 23, tzinfo=UTC)) == datetime(2029, 1, 1, 0, 30, tzinfo=UTC)


async def held(household, job_id: str, credits_held: int, *, age_s: int = 3_600) -> str:
    cause = Cause(
        organization_id=household.place.home.organization_id,
        invocation_id=new_id(),
        at=now() - timedelta(seconds=age_s),
    )
    async with household.house.pool.connection() as conn, conn.transaction():
        return str((await reserve(conn, cause, credits_held=credits_held, job_id=job_id))["hold_id"])


async def background_job(household, state: str) -> str:
    job_id = new_id()
    await household.sql(
        "INSERT INTO job (id, kind, organization_id, entity_id, state, leased_until, run_after, invocation_id, created_at)"
        " VALUES (%s, 'test', %s, %s, %s, CASE WHEN %s = 'running' THEN now() END, now(), %s, now())",
        job_id, household.place.home.organization_id, new_id(), state, state, new_id(),
    )  # fmt: skip
    return job_id


async def test_what_jobs_that_are_over_hold_is_given_back(household):
    for state in ("queued", "running", "failed", "done"):
        await held(household, await background_job(household, state), 100)
    await held(household, new_id(), 1_000)
    await held(household, new_id(), 10_000, age_s=0)
    assert await household.operator.op(SETTLE) == {
        "scanned": 5, "settled": 0, "released": 3, "registered_items": 0, "failed": 0, "errors": [],
    }  # fmt: skip
    balance = await household.owner.op("billing.credits.balance")
    assert (balance["balance"], balance["reserved"]) == (OPENING_CREDITS - 10_200, 10_200)
    assert (await household.operator.op(SETTLE))["released"] == 0


async def test_a_domain_says_how_its_own_jobs_end(household, monkeypatch):
    completed, broken, running = new_id(), new_id(), new_id()
    holds_of = {job_id: await held(household, job_id, 500) for job_id in (completed, broken, running)}

    class Jobs:
        async def ends(self, _conn, job_ids):
            known = {completed: "completed", broken: "completed", running: "running"}
            return {job_id: known[job_id] for job_id in job_ids if job_id in known}

        async def settle(self, ctx, job_id):
            if job_id == broken:
                raise RuntimeError("its files are not there")
            cause = Cause(organization_id=ctx.organization_id, invocation_id=ctx.invocation_id, at=ctx.now)
            await settle(ctx.conn, cause, hold_id=holds_of[job_id], job_id=job_id, credits_settled=500, external_ref=job_id)
            return 2

    monkeypatch.setattr(holds, "_SOURCES", [*holds._SOURCES])
    holds.register(Jobs())
    ended = await household.operator.op(SETTLE, {"organization_id": household.place.home.organization_id})
    assert ended == {
        "scanned": 3, "settled": 1, "released": 0, "registered_items": 2, "failed": 1,
        "errors": [{"job_id": broken, "code": "internal_error"}],
    }  # fmt: skip
    elsewhere = {"organization_id": household.place.stranger.organization_id}
    assert (await household.operator.op(SETTLE, elsewhere))["scanned"] == 0
    assert await household.operator.refused(SETTLE, {"organization_id": "nonsense"}) == (404, "not_found")


@pytest.mark.parametrize("limit", [0, -1])
async def test_a_limit_is_a_number_of_holds(household, limit):
    assert await household.operator.refused(SETTLE, {"limit": limit}) == (422, "invalid_input")
    assert (await Caller(household.house, service()).op(SETTLE, {"limit": 10**9}))["scanned"] == 0
