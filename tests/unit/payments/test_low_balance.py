"""The alarm that rings once when a balance becomes low."""

from __future__ import annotations

import pytest
from psycopg.types.json import Jsonb

from geopera_server.values.ids import new_id
from support import paying
from support.cards import save_card
from support.house import owner_of
from support.movements import gain, spend, spend_down_to
from support.serving import OPENING_CREDITS


async def alarms(household) -> list[int]:
    """Returns the balances that were told of, oldest first."""
    rows = await household.sql("SELECT data FROM outbox_event WHERE type = 'credits.low' ORDER BY id")
    return [row["data"]["balance"] for row in rows]


async def set_threshold(household, value) -> None:
    await household.sql(
        "UPDATE organization SET settings = %s WHERE id = %s",
        Jsonb({"low_credit_threshold": value}), household.place.home.organization_id,
    )  # fmt: skip


async def test_nothing_is_low_where_nothing_was_bought_or_set(household):
    await spend_down_to(household, 0)
    assert await alarms(household) == []
    assert await household.sql("SELECT 1 FROM wallet") == []


async def test_it_rings_once_under_a_tenth_of_the_last_purchase_and_again_after_it_was_above(household):
    await gain(household, 5_005, "topup")
    await spend_down_to(household, 501)
    assert await alarms(household) == []
    await spend(household, 1)
    await spend(household, 100)
    assert await alarms(household) == [500]
    assert await gain(household, 99) == 499
    await spend(household, 1)
    assert await alarms(household) == [500]
    await gain(household, 3)
    await spend(household, 1)
    assert await alarms(household) == [500, 500]


async def test_it_rings_again_although_nobody_looked_at_what_came_in(household):
    await gain(household, 5_000, "auto_topup")
    await spend_down_to(household, 400)
    await gain(household, 1_000, noticed=False)
    await spend(household, 1_000)
    assert await alarms(household) == [400, 400]


async def test_the_organizations_own_threshold_rings_too_and_tells_the_figures(household):
    await set_threshold(household, 2_000)
    await spend_down_to(household, 2_000)
    assert await alarms(household) == []
    await spend(household, 1)
    [event] = await household.sql("SELECT * FROM outbox_event WHERE type = 'credits.low'")
    organization_id = household.place.home.organization_id
    assert (event["entity_type"], event["entity_id"], event["organization_id"]) == (
        "organization", organization_id, organization_id,
    )  # fmt: skip
    assert event["data"].pop("as_of").endswith("Z")
    assert event["data"] == {
        "organization_id": organization_id, "balance": 1_999, "reserved": 0, "total": 1_999, "balance_aud": 19.99,
        "currency": "AUD", "billing_mode": "prepaid", "threshold_credits": 2_000,
    }  # fmt: skip
    await gain(household, 100_000, "topup")
    await spend_down_to(household, 9_999)
    assert await alarms(household) == [1_999, 9_999]


@pytest.mark.parametrize("value", ["2000", True, None, 1e9 + 0.5, [5], -5])
async def test_a_threshold_that_is_none_sets_nothing(household, value):
    await set_threshold(household, value)
    await spend_down_to(household, 0)
    assert await alarms(household) == []


async def test_a_shortfall_is_no_purchase_to_measure_by(household):
    await gain(household, 10_000, "approval_purchase")
    await gain(household, 60_000, "shortfall_charge")
    await spend_down_to(household, 1_000)
    assert await alarms(household) == []
    await spend(household, 1)
    assert await alarms(household) == [999]


async def test_a_spend_that_tops_up_is_measured_by_what_it_has_bought(household):
    home = household.place.home
    await save_card(household.house, home.organization_id)
    given = {"enabled": True, "threshold_credits": 1, "topup_amount_credits": 100_000}
    await household.owner.op("billing.set_auto_topup", given)
    spent = {"order_id": new_id(), "credits": OPENING_CREDITS + 95_000}
    await paying.run(household.house, owner_of(home), paying.spend, **spent)
    assert await alarms(household) == [5_000]


async def test_a_refused_spend_rings_nothing(household):
    await gain(household, 5_000, "topup")
    with pytest.raises(Exception, match="Not enough credits"):
        await spend(household, 10**9)
    assert await alarms(household) == []
    [wallet] = await household.sql("SELECT low_alerted FROM wallet")
    assert wallet["low_alerted"] is False
