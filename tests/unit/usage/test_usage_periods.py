"""What a period came to, from rows of every kind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from geopera_server.domains.usage.periods import billable_usage, period_usage
from geopera_server.values.ids import new_id

FEBRUARY = datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)


async def entry(household, bytes_delta: int, at: datetime, **more) -> None:
    row = {"asset_id": new_id(), "kind": "stored" if bytes_delta > 0 else "removed", **more}
    await household.sql(
        "INSERT INTO storage_entry (organization_id, project_id, asset_id, bytes_delta, kind, at) VALUES (%s, %s, %s, %s, %s, %s)",
        household.place.home.organization_id, household.project_id, row["asset_id"], bytes_delta, row["kind"], at,
    )  # fmt: skip


async def counter(household, kind: str, day: str, amount: int, project_id: str | None = None) -> None:
    await household.sql(
        "INSERT INTO usage_day (organization_id, day, kind, project_id, amount) VALUES (%s, %s, %s, %s, %s)",
        household.place.home.organization_id, day, kind, project_id, amount,
    )  # fmt: skip


async def test_counters_belong_to_the_days_of_the_period(household):
    for day in ("2024-01-31", "2024-02-01", "2024-02-29", "2024-03-01"):
        await counter(household, "tile_requests", day, 10)
        await counter(household, "tile_requests", day, 1, household.project_id)
        await counter(household, "shared_tile_requests", day, 3)
        await counter(household, "egress_bytes", day, 1000)
        await counter(household, "sent_bytes", day, 900)
        await counter(household, "api_requests", day, 7)
    async with household.house.pool.connection() as conn:
        usage = await period_usage(conn, household.place.home.organization_id, *FEBRUARY)
        other = await period_usage(conn, household.place.stranger.organization_id, *FEBRUARY)
        billable = await billable_usage(conn, household.place.home.organization_id, *FEBRUARY)
    assert usage["tiles"] == {"requests": 22, "shared_requests": 6, "limit": 10_000}
    assert usage["egress"] == {"bytes": 2000, "sent_bytes": 1800, "limit_bytes": 5_000_000_000}
    assert usage["api"] == {"requests": 14}
    assert other["tiles"]["requests"] == other["egress"]["bytes"] == other["api"]["requests"] == 0
    assert billable == {
        "storage_average_bytes": 0, "storage_peak_bytes": 0, "tile_requests": 22, "shared_tile_requests": 6, "egress_bytes": 2000,
    }  # fmt: skip


async def test_stored_bytes_over_time(household):
    start, end = FEBRUARY
    await entry(household, 1000, start - timedelta(days=10))
    await entry(household, 3000, start + timedelta(days=1, hours=6))
    await entry(household, -3500, start + timedelta(days=1, hours=12))
    await entry(household, 700, end)
    async with household.house.pool.connection() as conn:
        usage = await period_usage(conn, household.place.home.organization_id, start, end)
        billable = await billable_usage(conn, household.place.home.organization_id, start, end)
        before = await period_usage(conn, household.place.home.organization_id, datetime(2023, 12, 1, tzinfo=UTC), start)
        empty = await period_usage(
            conn, household.place.home.organization_id, datetime(2020, 2, 1, tzinfo=UTC), datetime(2020, 3, 1, tzinfo=UTC)
        )
    assert usage["storage"] == {"bytes_used": 500, "bytes_reserved": 0, "bytes_peak": 4000, "bytes_limit": 5_000_000_000}
    byte_hours = 1000 * 30 + 4000 * 6 + 500 * (29 * 24 - 36)
    assert billable["storage_average_bytes"] == byte_hours // (29 * 24)
    assert billable["storage_peak_bytes"] == 4000
    assert before["storage"]["bytes_used"] == before["storage"]["bytes_peak"] == 1000
    assert empty["storage"]["bytes_used"] == empty["storage"]["bytes_peak"] == 0


async def test_the_peak_before_the_first_movement_of_a_period_counts(household):
    start, end = FEBRUARY
    await entry(household, 5000, start - timedelta(days=40))
    await entry(household, -4000, start + timedelta(days=3))
    async with household.house.pool.connection() as conn:
        usage = await period_usage(conn, household.place.home.organization_id, start, end)
    assert usage["storage"]["bytes_peak"] == 5000
    assert usage["storage"]["bytes_used"] == 1000


async def test_credits_by_reason_come_to_the_change_of_the_balance(household):
    grant = {"organization_id": household.place.home.organization_id, "credits": 250, "reason": "Goodwill"}
    await household.operator.op("billing.admin.grant_credits", grant, key="one")
    await household.operator.op("billing.admin.grant_credits", {**grant, "credits": -50}, key="two")
    at = datetime.now(UTC)
    async with household.house.pool.connection() as conn:
        usage = await period_usage(conn, household.place.home.organization_id, at - timedelta(days=1), at + timedelta(days=1))
    balance = (await household.owner.op("billing.credits.balance"))["balance"]
    credits_used = usage["credits"]
    assert sum(credits_used["by_reason"].values()) == balance
    assert credits_used["granted"] == 100_250
    assert credits_used["by_reason"]["correction"] == -50
    assert credits_used["spent"] == credits_used["purchased"] == 0
