"""Keys for tiles: what they open, and when they no longer do."""

from __future__ import annotations

from datetime import timedelta

import pytest

from geopera_server.domains.sharing.entry import ticket_holder
from geopera_server.kernel import tickets
from geopera_server.kernel.errors import Gone, NotFound
from geopera_server.values.clock import iso, now
from geopera_server.values.ids import new_id
from support.colleagues import colleague
from support.deliveries import asset, deliver, item
from support.sharing import delivered, everything_stored, link_to, opening


async def key_for(household, **target):
    return await household.owner.op("items.tile_keys.create", {"name": "Site map", **target})


async def holder_of(household, text, at=None):
    async with household.house.pool.connection() as conn:
        return await ticket_holder(conn, household.house.links, text, at or now())


async def test_a_key_is_shown_once_and_lets_its_holder_see_tiles_of_its_item_only(household):
    made = await delivered(household)
    key = await key_for(household, item_id=made["id"])
    assert key["tile_url"].startswith(f"http://house.test/api/v1/items/{made['id']}/tiles/k/{key['key']}/{{z}}/{{x}}/{{y}}.")
    assert (key["item_id"], key["collection_id"], key["status"]) == (made["id"], None, "active")
    holder = await holder_of(household, key["key"])
    assert holder.organization_id == household.place.home.organization_id
    assert holder.only == tickets.TILE_OPERATIONS
    assert (holder.kind, holder.id, holder.target) == ("guest", key["id"], ("item", made["id"]))
    assert key["key"] not in await everything_stored(household)
    [listed] = (await household.owner.op("items.tile_keys.list"))["tile_keys"]
    assert listed == {name: value for name, value in key.items() if name not in {"key", "tile_url"}}


async def test_a_key_for_a_collection_reaches_its_items(household):
    given = {"item": item(household.project_id), "assets": [asset()], "collection_for": new_id()}
    made = await household.owner.run(deliver, given)
    key = await key_for(household, collection_id=made["collection_id"])
    holder = await holder_of(household, key["key"])
    assert holder.reaches(made["id"], made["collection_id"])
    assert not holder.reaches(made["id"], None)
    assert "/items/{item_id}/tiles/k/" in key["tile_url"]


async def test_a_key_ends_when_revoked_expired_or_without_its_target(household):
    made = await delivered(household)
    key = await key_for(household, item_id=made["id"], expires_at=iso(now() + timedelta(hours=1)))
    for ends, comes_back in (
        ("UPDATE organization SET standing = 'suspended'", "UPDATE organization SET standing = 'active'"),
        ("UPDATE item SET deleted_at = now()", "UPDATE item SET deleted_at = NULL"),
        ("UPDATE project SET deleted_at = now()", "UPDATE project SET deleted_at = NULL"),
    ):
        await household.sql(ends)
        with pytest.raises(Gone):
            await holder_of(household, key["key"])
        await household.sql(comes_back)
    with pytest.raises(Gone):
        await holder_of(household, key["key"], now() + timedelta(minutes=61))
    await holder_of(household, key["key"])
    for _ in range(2):
        await household.owner.op("items.tile_keys.revoke", {"key_id": key["id"]})
    with pytest.raises(Gone):
        await holder_of(household, key["key"])
    await household.sql("DELETE FROM tile_key")
    with pytest.raises(Gone):
        await holder_of(household, key["key"])


async def test_a_read_ticket_needs_no_row_and_a_share_ticket_is_for_shares(household, visitor):
    made = await delivered(household)
    read = tickets.issue(
        household.house.links,
        kind="read",
        organization_id=household.place.home.organization_id,
        item_id=made["id"],
        collection_id=None,
        expires_at=now() + timedelta(hours=1),
    )
    assert (await holder_of(household, read)).target == ("item", made["id"])
    link = await household.owner.op("share.link.create", link_to(made["id"]))
    shown = (await visitor.op("share.link.validate", opening(link)))["target"]
    for other in (shown["tilejson_url"].partition("token=")[2].partition("&")[0], "nonsense", link["token"]):
        with pytest.raises(NotFound):
            await holder_of(household, other)


async def test_only_who_may_change_the_project_makes_and_ends_keys(household):
    made = await delivered(household)
    member, viewer = await colleague(household, "member"), await colleague(household, "viewer")
    given = {"name": "Site map", "item_id": made["id"]}
    assert await viewer.refused("items.tile_keys.create", given) == (403, "missing_scope")
    assert await member.refused("items.tile_keys.create", given) == (403, "role_required")
    key = await key_for(household, item_id=made["id"])
    assert await member.refused("items.tile_keys.revoke", {"key_id": key["id"]}) == (403, "role_required")
    for target in ({"item_id": made["id"]}, {"item_id": new_id()}, {"item_id": "no id"}, {"collection_id": new_id()}):
        refused = await household.stranger.refused("items.tile_keys.create", {"name": "Site map", **target})
        assert refused == (404, "not_found")
    for key_id in (key["id"], new_id(), "no id"):
        assert await household.stranger.refused("items.tile_keys.revoke", {"key_id": key_id}) == (404, "not_found")
    for given in ({}, {"target_id": made["id"]}, {"target_id": "no id"}):
        assert (await household.stranger.op("items.tile_keys.list", given))["total"] == 0
    assert (await household.owner.op("items.tile_keys.list", {"target_id": made["id"]}))["total"] == 1
    assert (await household.owner.op("items.tile_keys.list", {"target_id": new_id()}))["total"] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"item_id": new_id(), "collection_id": new_id()},
        {"item_id": new_id(), "name": " "},
        {"item_id": new_id(), "expires_at": "2020-01-01T00:00:00Z"},
        {"item_id": new_id(), "expires_at": "2099-01-01T00:00:00Z"},
    ],
)
async def test_input_that_breaks_a_rule_makes_no_key(household, wrong):
    given = {"name": "Site map", **wrong}
    assert await household.owner.refused("items.tile_keys.create", given) == (422, "invalid_input")
    assert await household.sql("SELECT 1 FROM tile_key") == []


async def test_a_repeat_with_the_same_key_shows_no_second_tile_key(household):
    given = {"name": "Site map", "item_id": (await delivered(household))["id"]}
    await household.owner.op("items.tile_keys.create", given, key="once")
    assert await household.owner.refused("items.tile_keys.create", given, key="once") == (409, "conflict")
    assert len(await household.sql("SELECT 1 FROM tile_key")) == 1
