"""What budgets.check says is what a spend then meets."""

from __future__ import annotations

import dataclasses
import random

import pytest

from geopera_server.kernel.errors import OperationError, PaymentRequired
from geopera_server.kernel.principal import Principal
from geopera_server.values.ids import new_id
from support.house import Caller
from support.serving import OPENING_CREDITS
from support.spending import spend


async def key_caller(household) -> Caller:
    home = household.place.home
    [key] = await household.sql("SELECT id FROM api_key WHERE organization_id = %s", home.organization_id)
    scopes = frozenset({"*:read", "*:write"})
    return Caller(household.house, Principal(kind="api_key", id=key["id"], organization_id=home.organization_id, scopes=scopes))


async def goes_through(caller: Caller, body: dict) -> bool:
    try:
        await caller.run(spend, body)
    except PaymentRequired:
        return False
    return True


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("mode", ["prepaid", "enterprise"])
async def test_a_check_agrees_with_the_spend(household, mode, seed):
    draw = random.Random(seed)
    home, key = household.place.home, await key_caller(household)
    subjects = [
        {"subject_type": "organization"},
        {"subject_type": "project", "subject_id": household.project_id},
        {"subject_type": "api_key", "subject_id": key.principal.id},
        {"subject_type": "user", "subject_id": home.user_id},
    ]
    for subject in draw.sample(subjects, draw.randint(0, 4)):
        budget = {"limit_credits": draw.choice([0, 100, 1_000, 40_000]), "mode": draw.choice(["block", "block", "warn"])}
        budget |= {"period": draw.choice(["day", "month", "total"]), "active": draw.random() < 0.8}
        await household.owner.op("budgets.save", {**subject, **budget})
    settings = '{"require_key_budget": true}' if seed % 3 == 2 else "{}"
    await household.sql(
        "UPDATE organization SET billing_mode = %s, settings = %s::jsonb WHERE id = %s", mode, settings, home.organization_id
    )
    verdicts = set()
    for _ in range(25):
        caller = draw.choice([household.owner, key])
        project = {"project_id": household.project_id} if draw.random() < 0.5 else {}
        exactly = (await caller.op("budgets.check", {"credits": 1, **project}))["remaining_credits"]
        wanted = draw.choice([0, 1, 60, 500, 30_000, OPENING_CREDITS, exactly or 0, (exactly or 0) + 1])
        said = await caller.op("budgets.check", {"credits": wanted, **project})
        assert said["allowed"] == await goes_through(caller, {"credits": wanted, **project}), (wanted, said)
        if exactly is not None:
            assert said["remaining_credits"] == exactly
        verdicts.add(said["allowed"])
    assert verdicts == {True, False} or mode == "enterprise"


async def test_a_check_tells_what_is_in_the_way(household):
    made = await household.owner.op("budgets.save", {"subject_type": "organization", "limit_credits": 400})
    said = await household.owner.op("budgets.check", {"credits": 401})
    assert said == {
        "allowed": False, "remaining_credits": 400, "limiting_budget_id": made["id"], "approval_required": False,
        "balance": OPENING_CREDITS, "shortfall_credits": 0,
    }  # fmt: skip
    await household.owner.op("budgets.delete", {"budget_id": made["id"]})
    said = await household.owner.op("budgets.check", {"credits": OPENING_CREDITS + 5})
    assert (said["allowed"], said["shortfall_credits"], said["limiting_budget_id"]) == (False, 5, None)


async def test_whose_spend_may_be_asked_about(household):
    key, home = await key_caller(household), household.place.home
    check = {"credits": 5, "api_key_id": key.principal.id}
    assert (await key.op("budgets.check", check))["allowed"]
    assert (await household.owner.op("budgets.check", check))["allowed"]
    assert await household.stranger.refused("budgets.check", check) == (404, "not_found")
    assert await key.refused("budgets.check", {"credits": 5, "api_key_id": new_id()}) == (404, "not_found")
    member = Principal(
        kind="user", id=new_id(), organization_id=home.organization_id, organization_role="member", scopes=frozenset({"*:read"})
    )
    assert await Caller(household.house, member).refused("budgets.check", check) == (404, "not_found")
    assert await household.owner.refused("budgets.check", {"credits": 5, "project_id": new_id()}) == (404, "not_found")
    assert await household.owner.refused("budgets.check", {"credits": -1}) == (422, "invalid_input")


async def test_a_key_without_a_budget_spends_nothing_where_one_is_demanded(household):
    key, home = await key_caller(household), household.place.home
    await household.sql(
        "UPDATE organization SET settings = settings || '{\"require_key_budget\": true}' WHERE id = %s", home.organization_id
    )
    assert await goes_through(household.owner, {"credits": 5})
    with pytest.raises(PaymentRequired, match=r"budgets\.save") as refused:
        await key.run(spend, {"credits": 5})
    assert (refused.value.code, refused.value.members["budget_id"]) == ("budget_exceeded", None)
    assert (await key.op("budgets.check", {"credits": 5}))["allowed"] is False
    own = {"subject_type": "api_key", "subject_id": key.principal.id, "limit_credits": 5}
    await household.owner.op("budgets.save", own)
    assert await goes_through(key, {"credits": 5})
    assert not await goes_through(key, {"credits": 1})


@pytest.mark.parametrize("standing", ["past_due", "suspended", "pending_deletion"])
async def test_nothing_is_allowed_that_the_standing_refuses(household, standing):
    assert (await household.owner.op("budgets.check", {"credits": 5}))["allowed"] is True
    owner = Caller(household.house, dataclasses.replace(household.owner.principal, standing=standing))
    with pytest.raises(OperationError):
        await owner.run(spend, {"credits": 5})
    assert (await owner.op("budgets.check", {"credits": 5}))["allowed"] is False
