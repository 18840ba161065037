"""How much more may be stored: what is stored and reserved against what the plan includes."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from geopera_server.domains.usage.quota import require_storage
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import PaymentRequired
from geopera_server.kernel.operation import operation
from support.stored import stored_asset


class Wanted(BaseModel):
    """So many bytes."""

    more_bytes: int


class Reserved(TypedDict):
    """So many bytes."""

    more_bytes: int


@operation("test.reserve", effect="compute", scope="items:write", raw=True)
async def reserve(ctx: Context, given: Wanted) -> Reserved:
    """Reserves bytes as uploads do."""
    await require_storage(ctx.conn, ctx.organization_id, given.more_bytes)
    await ctx.conn.execute(
        "UPDATE storage_total SET reserved_bytes = reserved_bytes + %s WHERE organization_id = %s",
        (given.more_bytes, ctx.organization_id),
    )
    return Reserved(more_bytes=given.more_bytes)


async def plan(household, included, overage=0):
    await household.sql(
        "UPDATE plan SET included = included || jsonb_build_object('storage_bytes', %s::bigint),"
        " overage = overage || jsonb_build_object('storage_gb_month_credits', %s::bigint)",
        included,
        overage,
    )


async def refused(household, more_bytes):
    with pytest.raises(PaymentRequired) as caught:
        await household.owner.run(reserve, {"more_bytes": more_bytes})
    assert caught.value.code == "storage_quota_exceeded"
    return caught.value


async def test_stored_and_reserved_bytes_count(household):
    await plan(household, 1_000)
    await stored_asset(household.sql, household.place.home.organization_id, household.project_id, 600)
    await household.owner.run(reserve, {"more_bytes": 300})
    error = await refused(household, 101)
    assert error.members == {"limit_bytes": 1_000, "taken_bytes": 900, "needed_bytes": 101}
    await household.owner.run(reserve, {"more_bytes": 100})
    await refused(household, 1)


async def test_nothing_more_is_always_allowed(household):
    await plan(household, 1_000)
    await stored_asset(household.sql, household.place.home.organization_id, household.project_id, 2_000)
    await household.owner.run(reserve, {"more_bytes": 0})
    await refused(household, 1)


@pytest.mark.parametrize(("included", "overage"), [(None, 0), (10, 5)])
async def test_plans_without_limit_or_with_more_for_sale_are_open(household, included, overage):
    await plan(household, included, overage)
    await household.owner.run(reserve, {"more_bytes": 10**15})


async def test_an_organization_without_a_plan_of_the_deployment_has_no_limit(household):
    await household.sql("UPDATE organization SET plan_id = 'none' WHERE id = %s", household.place.home.organization_id)
    await household.owner.run(reserve, {"more_bytes": 10**15})


async def test_others_do_not_count(household):
    await plan(household, 1_000)
    await stored_asset(household.sql, household.place.stranger.organization_id, household.place.stranger.project_id, 1_000)
    await household.owner.run(reserve, {"more_bytes": 1_000})


async def test_many_at_once_never_pass_the_limit(household):
    await plan(household, 1_000)
    answers = await asyncio.gather(
        *(household.owner.run(reserve, {"more_bytes": 150}) for _ in range(12)), return_exceptions=True
    )
    assert sum(isinstance(answer, dict) for answer in answers) == 6
    [row] = await household.sql(
        "SELECT reserved_bytes FROM storage_total WHERE organization_id = %s", household.place.home.organization_id
    )
    assert row["reserved_bytes"] == 900
