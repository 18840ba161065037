"""The members of a project, and its owner."""

from __future__ import annotations

import asyncio

import pytest

from geopera_server.kernel.errors import OperationError
from geopera_server.kernel.principal import Principal
from geopera_server.values.ids import new_id
from support.colleagues import colleague
from support.house import Caller

ADD, UPDATE, REMOVE = "projects.add_member", "projects.update_member", "projects.remove_member"


@pytest.fixture
def project(household) -> dict[str, str]:
    return {"project_id": household.project_id}


async def joined(household, role="editor", organization_role="member") -> Caller:
    caller = await colleague(household, organization_role)
    await household.owner.op(ADD, {"project_id": household.project_id, "user_id": caller.principal.id, "role": role})
    return caller


async def roles(household) -> dict[str, str]:
    found = await household.owner.op("projects.members.list", {"project_id": household.project_id})
    assert found["total"] == len(found["members"])
    return {each["user_id"]: each["role"] for each in found["members"]}


async def events(household) -> list[str]:
    rows = await household.sql("SELECT type FROM outbox_event WHERE entity_type = 'project_member' ORDER BY position")
    return [row["type"] for row in rows]


async def test_a_member_is_added_and_shown(household, project):
    newcomer = (await colleague(household, "member")).principal.id
    found = await household.owner.op(ADD, {**project, "user_id": newcomer})
    assert found == {
        "id": found["id"], "project_id": household.project_id, "user_id": newcomer, "role": "editor",
        "email": found["email"], "display_name": None, "added_by": household.place.home.user_id,
        "created_at": found["created_at"], "updated_at": found["created_at"],
    }  # fmt: skip
    assert found["email"].endswith("@home.example")
    listed = await household.owner.op("projects.members.list", project)
    assert listed["members"][-1] == found
    owner_id = household.place.home.user_id
    assert [(each["user_id"], each["role"]) for each in listed["members"]] == [(owner_id, "owner"), (newcomer, "editor")]
    assert listed["inherited"] == [{"user_id": owner_id, "organization_role": "owner"}]
    assert (await household.owner.op("projects.get", project))["member_count"] == 2
    assert await events(household) == ["member.added"]


async def test_adding_again_changes_nothing(household, project):
    member = {**project, "user_id": (await colleague(household, "member")).principal.id}
    first = await household.owner.op(ADD, {**member, "role": "viewer"})
    assert await household.owner.op(ADD, {**member, "role": "viewer"}) == first
    assert await household.owner.refused(ADD, {**member, "role": "admin"}) == (409, "conflict")
    assert await events(household) == ["member.added"]


async def test_of_many_who_add_the_same_one_each_is_told_the_same(household, project):
    member = {**project, "user_id": (await colleague(household, "member")).principal.id}
    ended = await asyncio.gather(*(household.owner.op(ADD, member) for _ in range(5)))
    assert len({each["id"] for each in ended}) == 1
    assert await events(household) == ["member.added"]


async def test_only_who_belongs_to_the_organization_is_added(household, project):
    for user_id in (household.place.stranger.user_id, household.place.operator_id, new_id(), "nobody"):
        assert await household.owner.refused(ADD, {**project, "user_id": user_id}) == (404, "not_found")
    newcomer = (await colleague(household, "member")).principal.id
    assert await household.owner.refused(ADD, {**project, "user_id": newcomer, "role": "owner"}) == (403, "role_required")
    assert await household.owner.refused(ADD, {**project, "user_id": newcomer, "role": "king"}) == (422, "invalid_input")


async def test_a_role_is_changed(household, project):
    member = await joined(household, "viewer")
    given = {**project, "user_id": member.principal.id, "role": "admin"}
    assert (await household.owner.op(UPDATE, given))["role"] == "admin"
    assert (await household.owner.op(UPDATE, given))["role"] == "admin"
    assert await household.owner.refused(UPDATE, {**given, "role": "king"}) == (422, "invalid_input")
    assert await household.owner.refused(UPDATE, {**given, "user_id": new_id()}) == (404, "not_found")
    assert await household.owner.refused(UPDATE, {**given, "user_id": "nobody"}) == (404, "not_found")


async def test_the_owner_hands_over(household, project):
    heir = await joined(household, "viewer")
    given = {**project, "user_id": heir.principal.id, "role": "owner"}
    assert (await household.owner.op(UPDATE, given))["role"] == "owner"
    assert await roles(household) == {heir.principal.id: "owner", household.place.home.user_id: "admin"}
    back = {**project, "user_id": household.place.home.user_id, "role": "owner"}
    assert await household.owner.refused(UPDATE, back) == (403, "role_required")
    await heir.op(UPDATE, back)
    assert await roles(household) == {heir.principal.id: "admin", household.place.home.user_id: "owner"}


async def test_only_the_owner_hands_over(household, project):
    heir, admin = await joined(household, "viewer"), await joined(household, "admin")
    key = Caller(
        household.house,
        Principal(
            kind="api_key", id=new_id(), organization_id=household.place.home.organization_id, scopes=frozenset({"*:write"})
        ),
    )
    given = {**project, "user_id": heir.principal.id, "role": "owner"}
    for caller in (admin, key, await colleague(household, "admin")):
        assert await caller.refused(UPDATE, given) == (403, "role_required")


async def test_an_owner_cannot_just_go(household, project):
    owner_id = household.place.home.user_id
    for role in ("admin", "editor", "viewer"):
        assert await household.owner.refused(UPDATE, {**project, "user_id": owner_id, "role": role}) == (409, "conflict")
    assert await household.owner.refused(REMOVE, {**project, "user_id": owner_id}) == (409, "conflict")


async def test_a_project_that_nobody_owns_any_more_gets_an_owner(household, project):
    heir, admin = await joined(household, "viewer"), await joined(household, "admin")
    await household.sql("DELETE FROM membership WHERE user_id = %s", household.place.home.user_id)
    await admin.op(UPDATE, {**project, "user_id": heir.principal.id, "role": "owner"})
    rows = await household.sql(
        "SELECT user_id FROM project_member WHERE role = 'owner' AND project_id = %s", household.project_id
    )
    assert [row["user_id"] for row in rows] == [heir.principal.id]


async def test_handing_over_to_two_at_once_leaves_one_owner(household, project):
    heirs = [await joined(household) for _ in range(3)]
    ended = await asyncio.gather(
        *(household.owner.op(UPDATE, {**project, "user_id": heir.principal.id, "role": "owner"}) for heir in heirs),
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in ended) == ["Denied", "Denied", "dict"]
    assert list((await roles(household)).values()).count("owner") == 1


async def test_a_member_is_taken_out(household, project):
    member = {**project, "user_id": (await joined(household)).principal.id}
    assert await household.owner.op(REMOVE, member) == {"ok": True}
    assert await household.owner.refused(REMOVE, member) == (404, "not_found")
    assert await household.owner.refused(REMOVE, {**project, "user_id": "nobody"}) == (404, "not_found")
    assert await events(household) == ["member.added", "member.removed"]


@pytest.mark.parametrize("role", ["viewer", "editor", "admin"])
async def test_everybody_else_may_leave(household, project, role):
    member = await joined(household, role)
    assert await member.op(REMOVE, {**project, "user_id": member.principal.id.upper()}) == {"ok": True}
    assert member.principal.id not in await roles(household)


async def test_of_two_who_take_the_same_one_out_one_does(household, project):
    member = {**project, "user_id": (await joined(household)).principal.id}
    ended = await asyncio.gather(*(household.owner.op(REMOVE, member) for _ in range(3)), return_exceptions=True)
    assert [each.status for each in ended if isinstance(each, OperationError)] == [404, 404]
    assert await events(household) == ["member.added", "member.removed"]


@pytest.mark.parametrize("role", ["viewer", "editor"])
async def test_members_without_that_right_change_nobody(household, project, role):
    caller, other = await joined(household, role), await joined(household, "viewer")
    newcomer = await colleague(household, "member")
    calls = [
        (ADD, {**project, "user_id": newcomer.principal.id}),
        (UPDATE, {**project, "user_id": other.principal.id, "role": "editor"}),
        (UPDATE, {**project, "user_id": caller.principal.id, "role": "admin"}),
        (REMOVE, {**project, "user_id": other.principal.id}),
    ]
    for operation_id, given in calls:
        assert await caller.refused(operation_id, given) == (403, "role_required")
    assert (await caller.op("projects.members.list", project))["total"] == 3


@pytest.mark.parametrize("operation_id", [ADD, UPDATE, REMOVE, "projects.members.list", "projects.stats"])
async def test_strangers_know_of_no_project(household, project, operation_id):
    member = await joined(household)
    for user_id in (member.principal.id, household.place.stranger.user_id):
        given = {"user_id": user_id, "role": "viewer"}
        assert await household.stranger.refused(operation_id, {**given, **project}) == (404, "not_found")
        for unknown in (new_id(), "nothing"):
            assert await household.owner.refused(operation_id, {**given, "project_id": unknown}) == (404, "not_found")


async def test_operators_read_and_do_not_change(household, project):
    assert (await household.operator.op("projects.members.list", project))["total"] == 1
    member = {**project, "user_id": (await joined(household)).principal.id}
    assert await household.operator.refused(REMOVE, member) == (403, "role_required")
