"""The price book as customers read it and operators keep it."""

from __future__ import annotations

import asyncio

import pytest

from geopera_server.values.ids import new_id

SAVE = "pricing.admin.save"


def rule(organization_id, **more):
    return {"organization_id": organization_id, "vendor": "acme", "resolution": "0.5m", "price_per_sqkm": 10, **more}


async def prices(caller, vendor="acme"):
    listed = await caller.op("pricing.list", {"vendor": vendor})
    return sorted((one["resolution"], one["min_area"], one["price_per_sqkm"], one["source"]) for one in listed["rules"])


async def test_negotiated_prices_replace_the_list(household):
    home = household.place.home.organization_id
    await household.operator.op(SAVE, rule("platform", price_per_sqkm=20, max_area=100))
    await household.operator.op(SAVE, rule("platform", price_per_sqkm=15, min_area=100))
    await household.operator.op(SAVE, rule("platform", resolution="0.3m", price_per_sqkm=30))
    assert await prices(household.owner) == [("0.3m", 0, 30, "list"), ("0.5m", 0, 20, "list"), ("0.5m", 100, 15, "list")]
    await household.operator.op(SAVE, rule(home, price_per_sqkm=12.5))
    assert await prices(household.owner) == [("0.3m", 0, 30, "list"), ("0.5m", 0, 12.5, "negotiated")]
    assert len(await prices(household.stranger)) == 3
    await household.operator.op(SAVE, rule(home, resolution="any", price_per_sqkm=9))
    assert await prices(household.owner) == [("0.5m", 0, 12.5, "negotiated"), ("any", 0, 9, "negotiated")]


async def test_list_tells_licences_and_filters(household):
    listed = await household.owner.op("pricing.list", {"capture_type": "tasking"})
    assert (listed["rules"], listed["currency"]) == ([], "AUD")
    assert listed["license_factors"] == {"extended": 1.5, "open": 0.0, "public_display": 2.0, "standard": 1.0}
    assert (await household.owner.refused("pricing.list", {"capture_type": "other"}))[0] == 422


async def test_bands_never_overlap(household):
    saved = await household.operator.op(SAVE, rule("platform", min_area=10, max_area=100))
    for overlap in ({}, {"min_area": 99}, {"max_area": 10.5}, {"min_area": 20, "max_area": 30}):
        assert await household.operator.refused(SAVE, rule("platform", **overlap)) == (409, "conflict")
    await household.operator.op(SAVE, rule("platform", min_area=100))
    changed = await household.operator.op(SAVE, rule("platform", id=saved["id"], min_area=5, max_area=100))
    assert (changed["id"], changed["min_area"], changed["created_at"]) == (saved["id"], 5, saved["created_at"])
    assert changed["updated_by"] == household.place.operator_id
    twins = await asyncio.gather(
        *(attempt(household, rule("platform", resolution="1m", price_per_sqkm=price)) for price in (1, 2, 3))
    )
    assert sorted(twins) == [200, 409, 409]


async def attempt(household, given) -> int:
    try:
        return (await household.operator.refused(SAVE, given))[0]
    except AssertionError:
        return 200


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"organization_id": new_id()}, 404),
        ({"organization_id": "nobody"}, 404),
        ({"id": new_id()}, 404),
        ({"id": "nothing"}, 404),
        ({"price_per_sqkm": -1}, 422),
        ({"price_per_sqkm": 1e12}, 422),
        ({"min_area": 5, "max_area": 5}, 422),
        ({"vendor": ""}, 422),
    ],
)
async def test_what_cannot_be_saved(household, change, refusal):
    before = await household.sql("SELECT count(*) AS rules FROM price_rule")
    assert (await household.operator.refused(SAVE, rule("platform") | change))[0] == refusal
    assert await household.sql("SELECT count(*) AS rules FROM price_rule") == before


async def test_rules_are_listed_and_removed(household):
    home = household.place.home.organization_id
    saved = await household.operator.op(SAVE, rule(home))
    listed = await household.operator.op("pricing.admin.list", {"organization_id": home})
    assert (listed["rules"], listed["total"]) == ([saved], 1)
    assert await household.operator.op("pricing.admin.delete", {"id": saved["id"]}) == {"id": saved["id"], "ok": True}
    assert await household.operator.refused("pricing.admin.delete", {"id": saved["id"]}) == (404, "not_found")
    assert await household.operator.refused("pricing.admin.list", {"organization_id": new_id()}) == (404, "not_found")
    for operation_id, given in (("pricing.admin.list", {"organization_id": home}), (SAVE, rule(home))):
        assert await household.owner.refused(operation_id, given) == (403, "missing_scope")
