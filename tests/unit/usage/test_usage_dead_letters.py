"""Refused counts are told in groups and recorded once their reason is gone."""

from __future__ import annotations

import asyncio

import pytest

from geopera_server.domains.usage.metering import Meter
from geopera_server.values.ids import new_id


@pytest.fixture
def refuse(household):
    async def made(kind: str, amount: int, project_id: str) -> None:
        meter = Meter(household.house.pool.connection)
        meter.count(None, kind, amount, project_id)
        assert await meter.flush()

    return made


@pytest.fixture
def bring(household):
    async def made(project_id: str) -> None:
        home = household.place.home.organization_id
        await household.sql(
            "INSERT INTO project (id, organization_id, name, region, storage_prefix, created_at, updated_at)"
            " VALUES (%s, %s, %s, 'au', 'x', now(), now())",
            project_id, home, project_id,
        )  # fmt: skip

    return made


async def amounts(household) -> dict[str, int]:
    return {row["kind"]: row["amount"] for row in await household.sql("SELECT kind, amount FROM usage_day")}


async def test_waiting_counts_are_told_in_groups(household, refuse):
    assert await household.operator.op("billing.dlq.list_pending") == {"groups": [], "total": 0}
    for kind in ("sent_bytes", "tile_requests", "sent_bytes"):
        await refuse(kind, 5, new_id())
    told = await household.operator.op("billing.dlq.list_pending")
    assert told["total"] == 3
    assert [(each["storage_type"], each["source"], each["count"]) for each in told["groups"]] == [
        ("usage_day", "sent_bytes", 2), ("usage_day", "tile_requests", 1),
    ]  # fmt: skip
    assert told["groups"][0]["oldest_at"] < told["groups"][1]["oldest_at"]
    assert (await household.owner.refused("billing.dlq.list_pending"))[0] == 403


async def test_replay_goes_from_old_to_new_and_keeps_what_is_refused_again(household, refuse, bring):
    projects = [new_id() for _ in range(4)]
    for number, project_id in enumerate(projects):
        await refuse("sent_bytes", 10**number, project_id)
    for known in projects[1:]:
        await bring(known)
    first = await household.operator.op("billing.dlq.replay", {"batch_size": 2})
    assert first == {"attempted": 2, "resolved": 1, "failed": 1, "remaining": 3}
    assert (await amounts(household)) == {"sent_bytes": 10}
    second = await household.operator.op("billing.dlq.replay")
    assert second == {"attempted": 3, "resolved": 2, "failed": 1, "remaining": 1}
    third = await household.operator.op("billing.dlq.replay")
    assert third == {"attempted": 1, "resolved": 0, "failed": 1, "remaining": 1}
    [waiting] = await household.sql("SELECT attempts, project_id FROM usage_dead_letter WHERE resolved_at IS NULL")
    assert waiting == {"attempts": 3, "project_id": projects[0]}
    await bring(projects[0])
    assert (await household.operator.op("billing.dlq.replay"))["resolved"] == 1
    rows = await household.sql("SELECT sum(amount)::bigint AS amount FROM usage_day")
    assert rows == [{"amount": 1111}]


async def test_replays_at_once_record_everything_once(household, refuse, bring):
    projects = [new_id() for _ in range(12)]
    for project_id in projects:
        await refuse("sent_bytes", 7, project_id)
        await bring(project_id)
    outcomes = await asyncio.gather(*(household.operator.op("billing.dlq.replay") for _ in range(4)))
    assert sum(outcome["resolved"] for outcome in outcomes) == 12
    rows = await household.sql("SELECT count(*) AS days, sum(amount)::bigint AS amount FROM usage_day")
    assert rows == [{"days": 12, "amount": 84}]


async def test_a_replay_that_is_broken_off_keeps_what_it_has_recorded(household, refuse, bring, monkeypatch):
    from geopera_server.domains.usage.store import counters

    projects = [new_id() for _ in range(3)]
    for project_id in projects:
        await refuse("sent_bytes", 7, project_id)
        await bring(project_id)
    plain, calls = counters.add, 0

    async def breaks(conn, counts):
        nonlocal calls
        calls += 1
        await plain(conn, counts)
        if calls == 2:
            raise RuntimeError("the process is gone")

    monkeypatch.setattr(counters, "add", breaks)
    with pytest.raises(RuntimeError):
        await household.operator.op("billing.dlq.replay")
    monkeypatch.undo()
    assert await household.operator.op("billing.dlq.replay") == {"attempted": 2, "resolved": 2, "failed": 0, "remaining": 0}
    rows = await household.sql("SELECT sum(amount)::bigint AS amount FROM usage_day")
    assert rows == [{"amount": 21}]
