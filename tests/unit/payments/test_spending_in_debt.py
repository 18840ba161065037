"""Spends of an organization that owes: its card pays the debt and the spend, in one charge."""

from __future__ import annotations

import pytest

from geopera_server.kernel.errors import PaymentRequired
from geopera_server.values.ids import new_id
from support import paying
from support.cards import check_charges, save_card
from support.house import owner_of
from support.serving import OPENING_CREDITS


async def spend(household, credits_needed: int):
    owner = owner_of(household.place.home)
    return await paying.run(household.house, owner, paying.spend, order_id=new_id(), credits=credits_needed)


@pytest.mark.parametrize("debt", [1, 300])
async def test_is_charged_once(household, debt):
    home = household.place.home.organization_id
    await save_card(household.house, home)
    given = {"organization_id": home, "credits": -OPENING_CREDITS - debt, "reason": "Too much was given", "force": True}
    await household.operator.op("billing.admin.grant_credits", given, key="debt")
    foreseen = await household.owner.op("budgets.check", {"credits": 500})
    assert (foreseen["allowed"], foreseen["shortfall_credits"]) == (True, 500 + debt)
    assert (await spend(household, 500))["mode"] == "card"
    [charge] = await check_charges(household.sql)
    assert charge["amount_cents"] == 500 + debt
    assert await paying.differences_in(household.house) == []


async def test_is_refused_without_card(household):
    home = household.place.home.organization_id
    given = {"organization_id": home, "credits": -OPENING_CREDITS - 300, "reason": "Too much was given", "force": True}
    await household.operator.op("billing.admin.grant_credits", given, key="debt")
    with pytest.raises(PaymentRequired) as refused:
        await spend(household, 500)
    assert refused.value.members["shortfall_credits"] == 800
