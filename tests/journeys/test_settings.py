"""An organization's profile and settings, and what they decide about money."""

from __future__ import annotations

import pytest

from support.cards import save_card


async def test_a_patch_changes_what_is_sent_and_nothing_else(server):
    owner = await server.signed_in(server.place.home.email)
    before = await owner.op("organizations.get")
    patch = {
        "description": "Coastal mapping",
        "country": "au",
        "billing_address": {"city": "Hobart"},
        "settings": {"low_credit_threshold": 7},
    }
    changed = await owner.op("organizations.update", patch)
    assert changed == await owner.op("organizations.get")
    expected = {**patch, "country": "AU", "settings": {**before["settings"], "low_credit_threshold": 7}}
    assert changed == {**before, **expected}
    cleared = await owner.op(
        "organizations.update",
        {"description": None, "billing_address": None, "country": " ", "settings": {"low_credit_threshold": None}},
    )
    assert cleared == before


@pytest.mark.parametrize(
    ("patch", "status"),
    [
        ({"name": None}, 422),
        ({"name": "  "}, 422),
        ({"website": "javascript:alert(1)"}, 422),
        ({"country": "AUS"}, 422),
        ({"abn": "12345678901"}, 422),
        ({"settings": {"four_eyes": "maybe"}}, 422),
        ({"settings": {"approval_threshold_credits": -1}}, 422),
        ({"settings": {"approval_threshold_credits": 1.5}}, 422),
        ({"settings": {"billing_mode": "enterprise"}}, 422),
        ({"settings": {"allowed_email_domains": ["a@b.example"]}}, 422),
        ({"organization_id": "nonsense"}, 404),
    ],
)
async def test_bad_patches_change_nothing(server, patch, status):
    owner = await server.signed_in(server.place.home.email)
    before = await owner.op("organizations.get")
    assert (await owner.refused("organizations.update", {"description": "Never", **patch}))[0] == status
    assert await owner.op("organizations.get") == before


async def test_whose_settings_they_are(server):
    owner = await server.signed_in(server.place.home.email)
    foreign = {"organization_id": server.place.stranger.organization_id, "description": "Mine now"}
    assert await owner.refused("organizations.update", foreign) == (404, "not_found")
    key = await owner.op("api_keys.create", {"name": "agent", "permissions": ["organizations:write"]})
    agent = type(owner)(server.http, key["key"])
    assert (await agent.op("organizations.update", {"description": "By a key"}))["description"] == "By a key"
    lifted = {"settings": {"approval_threshold_credits": 10**9}}
    assert await agent.refused("organizations.update", lifted) == (403, "human_required")


async def test_a_name_is_taken_once(server):
    owner = await server.signed_in(server.place.home.email)
    await owner.op("organizations.create", {"name": "Second"})
    assert await owner.refused("organizations.update", {"name": "second"}) == (409, "conflict")


async def test_the_threshold_is_obeyed(server):
    await save_card(server.house, server.place.home.organization_id)
    owner = await server.signed_in(server.place.home.email)
    assert (await owner.op("organizations.get"))["settings"]["approval_threshold_credits"] == 500_000
    await owner.op("organizations.update", {"settings": {"approval_threshold_credits": 600}})
    assert await owner.refused("billing.topup", {"credits": 601}) == (402, "approval_required")
    assert (await owner.post("billing.topup", {"credits": 600})).status_code == 201
    await owner.op("organizations.update", {"settings": {"approval_threshold_credits": None}})
    assert (await owner.post("billing.topup", {"credits": 601})).status_code == 201


@pytest.mark.parametrize("odd", [True, "25", 1.5])
async def test_only_whole_numbers_are_money(server, odd):
    owner, operator = await server.signed_in(server.place.home.email), await server.operator()
    grant = {"organization_id": server.place.home.organization_id, "credits": odd, "reason": "odd"}
    assert (await operator.refused("billing.admin.grant_credits", grant, Idempotency_Key="odd"))[0] == 422
    budget = {"subject_type": "organization", "period": "day", "limit_credits": odd}
    assert (await owner.refused("budgets.save", budget))[0] == 422
    assert (await owner.refused("billing.approvals.request", {"credits": odd}))[0] == 422
