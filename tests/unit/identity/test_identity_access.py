"""Who is admitted, for which organization, and what they may see and change."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from geopera_server.domains.identity import access
from geopera_server.domains.identity.bootstrap import create_project
from geopera_server.kernel.errors import Conflict, Denied, NotFound
from geopera_server.kernel.policy import RateCaps
from geopera_server.kernel.principal import Credential, Principal, service
from geopera_server.settings import Settings
from geopera_server.values.clock import now
from geopera_server.values.ids import new_id


def human(organization_id, role="member", user_id=None, scopes=()):
    return Principal(
        kind="user",
        id=user_id or new_id(),
        organization_id=organization_id,
        organization_role=role,
        scopes=frozenset(scopes),
    )


@pytest.fixture
async def foreign(realms):
    """A project of another organization."""
    return (await realms.other_organization()).default_project["id"]


@asynccontextmanager
async def connected(realms):
    async with realms.realm.pool.connection() as conn:
        yield conn


RULES = (access.require_project_read, access.require_project_write, access.require_project_admin)


async def outcomes(realms, principal, project_id) -> list[str]:
    """Returns what reading, writing and administering a project end in."""
    ended = []
    async with connected(realms) as conn:
        for rule in RULES:
            try:
                assert await rule(conn, principal, project_id) == project_id
                ended.append("yes")
            except (NotFound, Denied) as refusal:
                ended.append(str(refusal.status))
    return ended


async def in_project(realms, role) -> str:
    user_id = await realms.human(f"{role}@survey.example", organization_id=realms.organization_id)
    await realms.sql(
        "INSERT INTO project_member (project_id, user_id, role, created_at, updated_at) VALUES (%s, %s, %s, now(), now())",
        realms.project_id, user_id, role,
    )  # fmt: skip
    return user_id


@pytest.mark.parametrize(
    ("project_role", "ends"),
    [("viewer", ["yes", "403", "403"]), ("editor", ["yes", "yes", "403"]), ("admin", ["yes", "yes", "yes"])],
)
async def test_project_roles(realms, project_role, ends):
    user_id = await in_project(realms, project_role)
    assert await outcomes(realms, human(realms.organization_id, "viewer", user_id), realms.project_id) == ends


@pytest.mark.parametrize("role", ["owner", "admin"])
async def test_organization_admins_run_every_project(realms, role):
    assert await outcomes(realms, human(realms.organization_id, role), realms.project_id) == ["yes"] * 3


@pytest.mark.parametrize("role", ["billing", "member", "viewer"])
async def test_members_read_every_project(realms, role):
    assert await outcomes(realms, human(realms.organization_id, role), realms.project_id) == ["yes", "403", "403"]


async def test_keys_and_services_of_the_organization(realms):
    key = Principal(kind="api_key", id=realms.api_key_id, organization_id=realms.organization_id)
    assert await outcomes(realms, key, realms.project_id) == ["yes"] * 3
    worker = service(organization_id=realms.organization_id)
    assert await outcomes(realms, worker, realms.project_id) == ["yes"] * 3


async def test_a_foreign_project_is_an_unknown_one(realms, foreign):
    for principal in (
        human(realms.organization_id, "owner"),
        Principal(kind="api_key", id=realms.api_key_id, organization_id=realms.organization_id),
    ):
        for project_id in (foreign, new_id(), "not-an-id", ""):
            assert await outcomes(realms, principal, project_id) == ["404"] * 3


async def test_a_role_in_a_project_ends_at_the_organizations_border(realms):
    user_id = await in_project(realms, "admin")
    elsewhere = (await realms.other_organization()).organization["id"]
    assert await outcomes(realms, human(elsewhere, "owner", user_id), realms.project_id) == ["404"] * 3


async def test_operators_read_everywhere_and_change_nothing(realms, foreign):
    operator = human(realms.organization_id, "viewer", scopes=("admin:read", "admin:write"))
    assert await outcomes(realms, operator, foreign) == ["yes", "403", "403"]
    async with connected(realms) as conn:
        found = await access.project_access(conn, operator, foreign)
    assert found.organization_id != realms.organization_id


async def test_a_deleted_project_is_gone(realms):
    await realms.sql("UPDATE project SET deleted_at = now()")
    assert await outcomes(realms, human(realms.organization_id, "owner"), realms.project_id) == ["404"] * 3


async def test_an_archived_project_takes_nothing_new(realms):
    await realms.sql("UPDATE project SET is_archived = true")
    owner = human(realms.organization_id, "owner")
    async with connected(realms) as conn:
        assert await access.require_project_write(conn, owner, realms.project_id) == realms.project_id
        with pytest.raises(Conflict) as refusal:
            await access.require_project_write(conn, owner, realms.project_id, new_data=True)
    assert refusal.value.code == "illegal_state"


async def test_own_organization(realms):
    other = (await realms.other_organization()).organization["id"]
    member = human(realms.organization_id)
    operator = human(realms.organization_id, scopes=("admin:read",))
    async with connected(realms) as conn:
        assert await access.own_organization(conn, member, None) == realms.organization_id
        assert await access.own_organization(conn, member, realms.organization_id) == realms.organization_id
        assert await access.own_organization(conn, operator, other) == other
        for principal, given in ((member, other), (member, new_id()), (member, "x"), (operator, new_id()), (operator, "x")):
            with pytest.raises(NotFound):
                await access.own_organization(conn, principal, given)
        with pytest.raises(Denied):
            await access.own_organization(conn, human(None, None), None)


def refused_for(rule, principals) -> list[bool]:
    def refuses(principal) -> bool:
        try:
            rule(principal)
        except Denied:
            return True
        return False

    return [refuses(principal) for principal in principals]


def test_rules_within_the_organization():
    people = [human("o", role) for role in ("owner", "admin", "billing", "member", "viewer")]
    key = Principal(kind="api_key", id="k", organization_id="o")
    operator = human("o", "viewer", scopes=("admin:read", "admin:write"))
    everybody = [*people, key, operator]
    assert refused_for(access.require_org_admin, everybody) == [False, False, True, True, True, False, False]
    assert refused_for(access.require_org_billing, everybody) == [False, False, False, True, True, False, False]
    assert refused_for(access.require_operator, everybody) == [True] * 6 + [False]
    assert refused_for(access.require_human, everybody) == [False] * 5 + [True, False]
    assert access.require_human(people[0]) == people[0].id


async def test_a_human_chooses_among_own_organizations(realms):
    second = (await realms.other_organization("Second")).organization["id"]
    third = (await realms.other_organization("Third")).organization["id"]
    await realms.sql("INSERT INTO membership VALUES (%s, %s, 'viewer', now())", second, realms.owner_id)
    token = await realms.as_human(realms.email)
    assert (await realms.op("users.me", token=token)).json()["organization_id"] == realms.organization_id
    there = (await realms.op("users.me", token=token, X_Organization_Id=second)).json()
    assert (there["organization_id"], there["organization_role"]) == (second, "viewer")
    assert "orders:write" not in there["scopes"]
    answers = [await realms.op("users.me", token=token, X_Organization_Id=each) for each in (third, new_id(), "nonsense")]
    assert [(each.status_code, each.json()["code"]) for each in answers] == [(404, "not_found")] * 3
    assert len({each.json()["detail"] for each in answers}) == 1


async def test_a_key_acts_for_its_own_organization_alone(realms):
    other = (await realms.other_organization()).organization["id"]
    assert (await realms.op("users.me", X_Organization_Id=realms.organization_id)).status_code == 200
    assert (await realms.op("users.me", X_Organization_Id=other)).status_code == 404


async def test_leaving_the_organization_of_a_token_leads_to_none(realms):
    second = (await realms.other_organization("Second")).organization["id"]
    await realms.sql("INSERT INTO membership VALUES (%s, %s, 'owner', now())", second, realms.owner_id)
    token = await realms.as_human(realms.email)
    await realms.sql("DELETE FROM membership WHERE organization_id = %s", realms.organization_id)
    me = (await realms.op("users.me", token=token)).json()
    assert me["organization_id"] is None
    assert me["scopes"] == ["organizations:write", "users:read", "users:write"]


async def test_a_new_role_counts_with_the_next_call(realms):
    token = await realms.as_human(realms.email)
    await realms.sql("UPDATE membership SET role = 'viewer'")
    assert "orders:write" not in (await realms.op("users.me", token=token)).json()["scopes"]


async def test_operators_hold_operator_scopes(realms):
    await realms.human("operator@survey.example", operator=True)
    me = (await realms.op("users.me", token=await realms.as_human("operator@survey.example"))).json()
    assert {"admin:read", "admin:write"} <= set(me["scopes"])


async def test_last_use_is_noted_once_a_minute(realms):
    async def last_used():
        [row] = await realms.sql("SELECT last_used_at FROM api_key")
        return row["last_used_at"]

    assert await last_used() is None
    await realms.op("users.me")
    first = await last_used()
    await realms.op("users.me")
    assert await last_used() == first
    await realms.sql("UPDATE api_key SET last_used_at = last_used_at - interval '2 minutes'")
    await realms.sql("UPDATE credential_epoch SET epoch = epoch + 1")  # else the minute-old look-up is used again
    await realms.op("users.me")
    assert await last_used() > first


async def test_calls_that_see_a_change_together_are_all_answered(realms):
    for _ in range(5):
        await realms.op("users.me")
        await realms.sql("UPDATE credential_epoch SET epoch = epoch + 1")
        replies = await asyncio.gather(*(realms.op("users.me") for _ in range(8)))
        assert {reply.status_code for reply in replies} == {200}


async def test_a_use_that_is_being_noted_is_not_waited_for(realms):
    async with realms.realm.transaction() as conn:
        await conn.execute("UPDATE api_key SET last_used_at = now()")
        assert (await realms.op("users.me")).status_code == 200


async def test_only_the_keys_own_cap_counts_by_key(realms):
    await realms.sql("UPDATE api_key SET rate_limit = 2")
    statuses = [(await realms.op("users.me")).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]


class TestLimited:
    @pytest.fixture
    def caps(self) -> RateCaps:
        return RateCaps(default=2, public=10_000)

    async def test_the_organization_shares_its_cap(self, realms):
        token = await realms.as_human(realms.email)
        statuses = [(await realms.op("users.me", token=each)).status_code for each in (None, token, None, token)]
        assert statuses == [200, 200, 429, 429]


class TestPublishedKey:
    @pytest.fixture
    def settings(self, settings) -> Settings:
        return settings.model_copy(update={"token_algorithm": "ES256", "secret": SecretStr("another secret, long enough " * 2)})

    async def test_es256_tokens_are_taken_too(self, realms):
        token = (await realms.signed_in())["access_token"]
        assert await realms.works(token)
        assert await realms.works(token)
        await realms.sql("UPDATE auth_session SET ended_at = now()")
        assert not await realms.works(token)


async def test_an_unknown_credential_leaves_nothing_behind(realms):
    async with connected(realms) as conn:
        assert await realms.kernel._authenticate(conn, Credential(token="gpra_unknown"), "default") is None
    assert await realms.sql("SELECT 1 FROM rate_window") == []


async def test_names_of_projects_are_free_again_after_deletion(realms):
    await realms.sql("UPDATE project SET deleted_at = now()")
    async with realms.realm.transaction() as conn:
        await create_project(conn, organization_id=realms.organization_id, name="Default", owner_id=None, at=now())
