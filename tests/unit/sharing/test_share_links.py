"""Making share links, looking after them, and ending them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import BaseModel

from geopera_server.domains.sharing.ending import end_shares_of, erase_shares_of_project
from geopera_server.kernel.context import Context
from geopera_server.kernel.operation import operation
from geopera_server.values.clock import iso, now
from geopera_server.values.ids import new_id
from support.colleagues import colleague
from support.house import Caller
from support.sharing import SHARE_PASSWORD, Visitor, delivered, everything_stored, link_to, opening

OVER = (410, "share_expired")


class Ending(BaseModel):
    """What goes away."""

    target_type: str = "item"
    target_ids: list[str] = []
    project_id: str | None = None


@operation("test.ends.delete", effect="compute", scope="items:write", raw=True)
async def end(ctx: Context, given: Ending) -> dict[str, int]:
    """Ends shares as whoever deletes their targets does."""
    if given.project_id is not None:
        return {"ended": await erase_shares_of_project(ctx, given.project_id)}
    return {"ended": await end_shares_of(ctx, given.target_type, given.target_ids)}


async def test_the_token_is_shown_once_and_only_digests_are_kept(household):
    item = await delivered(household)
    made = await household.owner.op("share.link.create", link_to(item["id"]))
    assert len(made["token"]) == 43
    assert made["created_by"] == household.place.home.user_id
    assert (made["target_type"], made["target_id"], made["permission"]) == ("item", item["id"], "view")
    assert (made["access_count"], made["last_accessed_at"], made["revoked_at"]) == (0, None, None)
    got = await household.owner.op("share.link.get", {"id": made["id"]})
    assert got["share_link"] == {**without(made, "token"), "token_prefix": made["token"][:6], "status": "active"}
    assert (got["accesses"], got["tile_requests"], got["egress_bytes"]) == ([], 0, 0)
    await household.house.kernel.reads_audit.flush()
    stored = await everything_stored(household)
    assert made["id"] in stored
    assert made["token"] not in stored
    assert SHARE_PASSWORD not in stored
    [row] = await household.sql("SELECT password_hash FROM share_link")
    assert row["password_hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_what_is_recorded_of_a_link(household):
    item = await delivered(household)
    made = await household.owner.op("share.link.create", link_to(item["id"]))
    [event] = await household.sql("SELECT * FROM outbox_event WHERE type = 'share_link.created'")
    assert event["entity_id"] == made["id"]
    assert event["project_id"] == household.project_id
    assert event["data"].keys() == {*without(made, "token"), "token_prefix", "status"}
    await household.owner.op("share.link.revoke", {"link_id": made["id"]})
    await household.seal()
    told = await household.sql(
        "SELECT kind, parents FROM lineage_record WHERE entity_type = 'share_link' AND entity_id = %s ORDER BY seq", made["id"]
    )
    assert [record["kind"] for record in told] == ["edge", "event"]
    assert told[0]["parents"] == [{"entity_type": "item", "entity_id": item["id"]}]
    await require_true_story(household, made["id"], matches_live_row=True)
    assert len(await household.sql("SELECT 1 FROM outbox_event WHERE type = 'share_link.revoked'")) == 1


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"password": "seven77"}, "password"),
        ({"password": "ä" * 37}, "password"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": iso(now() + timedelta(days=366))}, "expires_at"),
        ({"expires_at": "2026-12-31T00:00:00"}, "expires_at"),
        ({"permission": "edit"}, "permission"),
        ({"target_type": "project"}, "target_type"),
    ],
)
async def test_input_that_breaks_a_rule_makes_nothing(household, wrong, field):
    item = await delivered(household)
    before = await changed_tables(household)
    visitor = Caller(household.house, household.owner.principal)
    assert (await visitor.refused("share.link.create", link_to(item["id"], **wrong)))[0] == 422
    assert await changed_tables(household) == before
    assert field in wrong


async def test_only_who_may_change_the_project_shares_what_is_in_it(household):
    item = await delivered(household)
    viewer = await colleague(household, "viewer")
    member = await colleague(household, "member")
    assert await viewer.refused("share.link.create", link_to(item["id"])) == (403, "missing_scope")
    assert await member.refused("share.link.create", link_to(item["id"])) == (403, "role_required")
    made = await household.owner.op("share.link.create", link_to(item["id"]))
    assert await member.refused("share.link.revoke", {"link_id": made["id"]}) == (403, "role_required")
    assert (await member.op("share.link.get", {"link_id": made["id"]}))["share_link"]["id"] == made["id"]


async def test_strangers_links_answer_like_unknown_ones(household):
    item = await delivered(household)
    made = await household.owner.op("share.link.create", link_to(item["id"]))
    for target_id in (item["id"], new_id(), "no id"):
        assert await household.stranger.refused("share.link.create", link_to(target_id)) == (404, "not_found")
    for operation_id in ("share.link.get", "share.link.revoke"):
        for link_id in (made["id"], new_id(), "no id"):
            assert await household.stranger.refused(operation_id, {"link_id": link_id}) == (404, "not_found")
    for given in ({}, {"target_id": item["id"]}, {"target_id": "no id"}, {"target_id": new_id()}):
        listed = await household.stranger.op("share.link.list", given)
        assert (listed["share_links"], listed["total"]) == ([], 0)
    for project_id in (household.project_id, new_id(), "no id"):
        assert await household.stranger.refused("share.link.list", {"project_id": project_id}) == (404, "not_found")


async def test_a_list_is_complete_and_can_be_narrowed(household, later):
    one, other = await delivered(household), await delivered(household, stac_id="SCENE_2")
    links = [await household.owner.op("share.link.create", link_to(one["id"])) for _ in range(3)]
    short = link_to(other["id"], expires_at=iso(now() + timedelta(hours=1)))
    links.append(await household.owner.op("share.link.create", short))
    await household.owner.op("share.link.revoke", {"link_id": links[0]["id"]})

    async def ids(**given):
        found, offset = [], 0
        while page := (await household.owner.op("share.link.list", {**given, "limit": 2, "offset": offset}))["share_links"]:
            found += [link["id"] for link in page]
            offset += 2
        return found

    newest_first = [link["id"] for link in reversed(links)]
    assert await ids() == newest_first
    assert await ids(project_id=household.project_id) == newest_first
    assert await ids(target_type="collection") == []
    assert await ids(target_id=other["id"]) == [links[3]["id"]]
    assert await ids(status="revoked") == [links[0]["id"]]
    later(timedelta(hours=2))
    assert await ids(status="expired") == [links[3]["id"]]
    assert await ids(status="active") == [links[2]["id"], links[1]["id"]]
    listed = await household.owner.op("share.link.list", {"limit": 1})
    assert (listed["total"], listed["limit"], listed["offset"]) == (4, 1, 0)
    assert "token" not in listed["share_links"][0]


async def test_a_key_sent_again_makes_no_second_link_and_shows_no_token(household):
    item = await delivered(household)
    given = link_to(item["id"])
    made = await household.owner.op("share.link.create", given, key="once")
    assert await household.owner.refused("share.link.create", given, key="once") == (409, "conflict")
    other = {**given, "permission": "download"}
    assert await household.owner.refused("share.link.create", other, key="once") == (409, "idempotency_mismatch")
    assert (await household.owner.op("share.link.list"))["total"] == 1
    assert made["token"] not in await everything_stored(household)


async def test_a_plan_may_limit_links_and_many_at_once_do_not_pass_it(household):
    item = await delivered(household)
    await household.sql("UPDATE plan SET limits = limits || '{\"share_links\": 2}' WHERE id = 'free'")
    calls = [household.owner.op("share.link.create", link_to(item["id"])) for _ in range(5)]
    made = [call for call in await asyncio.gather(*calls, return_exceptions=True) if isinstance(call, dict)]
    assert len(made) == 2
    assert await household.owner.refused("share.link.create", link_to(item["id"])) == (402, "plan_limit_reached")
    await household.owner.op("share.link.revoke", {"link_id": made[0]["id"]})
    await household.owner.op("share.link.create", link_to(item["id"]))


async def test_revoking_is_for_good_and_may_be_repeated(household, visitor):
    item = await delivered(household)
    link = await household.owner.op("share.link.create", link_to(item["id"]))
    await visitor.op("share.link.validate", opening(link))
    for _ in range(2):
        assert await household.owner.op("share.link.revoke", {"link_id": link["id"]}) == {"id": link["id"], "ok": True}
    assert await visitor.refused("share.link.validate", opening(link)) == OVER
    assert (await household.owner.op("share.link.get", {"link_id": link["id"]}))["share_link"]["status"] == "revoked"


async def test_what_has_expired_is_not_shared(household):
    item = await delivered(household)
    await household.sql("UPDATE item SET lifecycle_state = 'expired' WHERE id = %s", item["id"])
    assert await household.owner.refused("share.link.create", link_to(item["id"])) == (410, "retention_expired")


async def test_targets_that_go_take_their_links_with_them(household, visitor):
    one, other = await delivered(household), await delivered(household, stac_id="SCENE_2")
    gone = [await household.owner.op("share.link.create", link_to(one["id"])) for _ in range(2)]
    kept = await household.owner.op("share.link.create", link_to(other["id"]))
    await household.owner.op("share.link.revoke", {"link_id": gone[1]["id"]})
    assert await household.owner.run(end, {"target_ids": [one["id"]]}) == {"ended": 1}
    assert await household.owner.run(end, {"target_ids": []}) == {"ended": 0}
    assert await visitor.refused("share.link.validate", opening(gone[0])) == OVER
    await visitor.op("share.link.validate", opening(kept))
    assert len(await household.sql("SELECT 1 FROM outbox_event WHERE type = 'share_link.revoked'")) == 2
    await household.seal()
    await require_true_story(household, gone[0]["id"], matches_live_row=True)


async def test_a_project_that_is_erased_leaves_no_link_behind(household, visitor):
    item = await delivered(household)
    link = await household.owner.op("share.link.create", link_to(item["id"], permission="download"))
    await visitor.op("share.link.validate", opening(link))
    await visitor.refused("share.link.validate", opening(link, password="wrong and wrong"))
    await household.owner.op("items.tile_keys.create", {"name": "map", "item_id": item["id"]})
    assert await household.owner.run(end, {"project_id": household.project_id}) == {"ended": 1}
    for table in ("share_link", "share_use", "share_access", "share_attempt", "tile_key"):
        assert await household.sql(f'SELECT 1 FROM "{table}"') == [], table
    assert await visitor.refused("share.link.validate", opening(link)) == (404, "not_found")
    await household.seal()
    await require_true_story(household, link["id"], matches_live_row=None)


@pytest.mark.parametrize(
    ("ends", "comes_back"),
    [
        ("UPDATE organization SET standing = 'suspended'", "UPDATE organization SET standing = 'active'"),
        ("UPDATE organization SET purge_started_at = now()", None),
        ("UPDATE item SET deleted_at = now()", "UPDATE item SET deleted_at = NULL"),
        ("UPDATE project SET deleted_at = now()", "UPDATE project SET deleted_at = NULL"),
        ("UPDATE share_link SET expires_at = now()", None),
        ("UPDATE share_link SET revoked_at = now()", None),
    ],
)
async def test_a_share_ends_with_all_that_it_hangs_on_its_tickets_included(household, visitor, ends, comes_back):
    item = await delivered(household)
    link = await household.owner.op("share.link.create", link_to(item["id"], permission="download"))
    shown = (await visitor.op("share.link.validate", opening(link)))["target"]
    file = {"token": ticket_in(shown["assets"][0]["url"]), "asset_id": shown["assets"][0]["id"]}
    await visitor.op("share.file.open", file)
    await household.sql(ends)
    for given in (opening(link), {"token": file["token"]}):
        assert await visitor.refused("share.link.validate", given) == OVER
    assert await visitor.refused("share.file.open", file) == OVER
    if comes_back is not None:
        await household.sql(comes_back)
        await visitor.op("share.file.open", file)


async def test_a_suspended_organization_shares_nothing_new(household):
    item = await delivered(household)
    suspended = Caller(household.house, replace(household.owner.principal, standing="suspended"))
    assert await suspended.refused("share.link.create", link_to(item["id"])) == (403, "org_suspended")


async def require_true_story(household, link_id: str, *, matches_live_row: bool | None) -> None:
    told = await household.owner.op("provenance.verify", {"entity_type": "share_link", "entity_id": link_id})
    assert (told["ok"], told["digest_matches"]) == (True, matches_live_row), told


def ticket_in(url: str) -> str:
    return url.partition("/shares/")[2].partition("/")[0]


def without(values: dict, *names: str) -> dict:
    return {name: value for name, value in values.items() if name not in names}


async def changed_tables(household) -> dict[str, int]:
    """Returns how many rows each table holds that a refused call must not add to."""
    tables = ("share_link", "share_use", "outbox_event", "lineage_record", "idempotency_record", "tile_key", "job")
    return {table: len(await household.sql(f'SELECT 1 FROM "{table}"')) for table in tables}


async def test_visitors_at_other_addresses_are_no_strangers(household, visitor):
    item = await delivered(household)
    link = await household.owner.op("share.link.create", link_to(item["id"]))
    for _ in range(5):
        await visitor.refused("share.link.validate", opening(link, password="wrong and wrong"))
    assert await visitor.refused("share.link.validate", opening(link)) == (429, "too_many_attempts")
    await Visitor(household.house, "198.51.100.1").op("share.link.validate", opening(link))
