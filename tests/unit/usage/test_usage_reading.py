"""What organizations read about their own use, and about nobody else's."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from support.house import Caller, owner_of
from support.stored import stored_asset

GB = 1_000_000_000


@pytest.fixture
def home(household) -> str:
    return household.place.home.organization_id


async def test_the_running_month(household, home):
    await stored_asset(household.sql, home, household.project_id, GB)
    await household.sql(
        "INSERT INTO usage_day (organization_id, day, kind, project_id, amount) VALUES (%s, current_date, 'tile_requests', %s, 2500)",
        home, household.project_id,
    )  # fmt: skip
    usage = await household.owner.op("usage.current", {"organization_id": home})
    at = datetime.now(UTC)
    assert usage["period"]["start"] == f"{at:%Y-%m}-01T00:00:00.000Z"
    assert usage["plan"] == "free"
    assert usage["storage"] == {"bytes_used": GB, "bytes_reserved": 0, "bytes_peak": GB, "bytes_limit": 5 * GB}
    assert usage["tiles"] == {"requests": 2500, "shared_requests": 0, "limit": 10_000}
    assert usage["percent"] == {"storage": 20.0, "tiles": 25.0, "egress": 0.0}
    assert usage["projects"] == [
        {"project_id": household.project_id, "name": usage["projects"][0]["name"], "storage_bytes": GB, "tile_requests": 2500, "credits": 0}
    ]  # fmt: skip
    assert usage["jobs"] == {"total": 0, "completed": 0, "failed": 0, "running": 0, "credits": 0}


async def test_plans_without_limits_have_no_percent(household, home):
    await household.sql("UPDATE organization SET plan_id = 'enterprise' WHERE id = %s", home)
    await household.sql("UPDATE plan SET included = '{\"storage_bytes\": 0}' WHERE id = 'enterprise'")
    usage = await household.owner.op("usage.current", {"organization_id": home})
    assert usage["percent"] == {"storage": 0.0, "tiles": None, "egress": None}
    assert (usage["tiles"]["limit"], usage["egress"]["limit_bytes"]) == (None, None)


async def test_history_is_whole_and_oldest_first(household, home):
    for day, amount in (("2000-01-01", 9), ("now", 4)):
        await household.sql(
            "INSERT INTO usage_day (organization_id, day, kind, amount) VALUES (%s, %s, 'tile_requests', %s)", home, day, amount
        )
    months = (await household.owner.op("usage.history", {"organization_id": home, "months": 36}))["months"]
    assert len(months) == 36
    starts = [month["period"]["start"] for month in months]
    assert starts == sorted(starts)
    assert [month["period"]["end"] for month in months[:-1]] == starts[1:]
    assert [month["tile_requests"] for month in months] == [0] * 35 + [4]
    assert months[0]["peak_storage_bytes"] == 0
    assert months[0]["credits"] == {"spent": 0, "granted": 0, "purchased": 0, "by_reason": {}}
    assert months[-1]["credits"]["granted"] == 100_000
    assert len((await household.owner.op("usage.history", {"organization_id": home}))["months"]) == 3
    for wrong in (0, 37, -1, "many"):
        refused = await household.owner.refused("usage.history", {"organization_id": home, "months": wrong})
        assert refused == (422, "invalid_input")


async def test_others_learn_nothing(household, home):
    for operation_id in ("usage.current", "usage.history", "usage.recalculate_storage"):
        for unknown in (home, "nonsense", "0192d3c4-0000-7000-8000-000000000000"):
            assert await household.stranger.refused(operation_id, {"organization_id": unknown}) == (404, "not_found")
    assert (await household.operator.op("usage.current", {"organization_id": home}))["organization_id"] == home
    assert await household.operator.refused("usage.current", {"organization_id": "nonsense"}) == (404, "not_found")


async def test_members_read_and_do_not_recalculate(household, home):
    principal = owner_of(household.place.home)
    member = Caller(household.house, type(principal)(
        kind="user", id=principal.id, organization_id=home, organization_role="billing", scopes=principal.scopes
    ))  # fmt: skip
    assert (await member.op("usage.current", {"organization_id": home}))["organization_id"] == home
    assert await member.refused("usage.recalculate_storage", {"organization_id": home}) == (403, "role_required")
