"""Keys, organizations and projects, called as operations."""

from __future__ import annotations

import asyncio
import re

import pytest

from geopera_server.domains.identity import scopes
from geopera_server.domains.identity.lineage import artifact_states
from geopera_server.kernel.lineage import digest
from geopera_server.values.ids import new_id


def told(response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


class TestKeys:
    async def test_the_standard_set(self, realms):
        owner = await realms.as_human(realms.email)
        made = (await realms.op("api_keys.create", {"name": "  Nightly  "}, token=owner)).json()
        assert made.keys() == {"id", "name", "prefix", "permissions", "created_at", "expires_at", "key"}
        assert made["name"] == "Nightly"
        assert re.fullmatch(r"gpra_[\w-]{43}", made["key"])
        assert made["prefix"] == made["key"][:12]
        assert set(made["permissions"]) == scopes.STANDARD_FOR_KEYS
        assert await realms.works(made["key"])
        stored = str(await realms.sql("SELECT api_key.*, secret_hash::text FROM api_key"))
        assert made["key"] not in stored
        assert [row["type"] for row in await realms.sql("SELECT type FROM outbox_event")] == ["api_key.created"]

    async def test_scopes_are_permissions(self, realms):
        owner = await realms.as_human(realms.email)
        made = (await realms.op("api_keys.create", {"name": "narrow", "scopes": ["billing:read"]}, token=owner)).json()
        assert made["permissions"] == ["billing:read"]

    async def test_wildcards_become_concrete(self, realms):
        owner = await realms.as_human(realms.email)
        made = (
            await realms.op("api_keys.create", {"name": "x", "permissions": ["orders:*", "users:read"]}, token=owner)
        ).json()
        assert made["permissions"] == ["orders:read", "orders:write", "users:read"]
        wide = (await realms.op("api_keys.create", {"name": "x", "permissions": ["*"]}, token=owner)).json()
        assert set(wide["permissions"]) == scopes.CUSTOMER

    @pytest.mark.parametrize("permission", ["admin:read", "admin:*"])
    async def test_customers_grant_no_operator_scope(self, realms, permission):
        owner = await realms.as_human(realms.email)
        refused = await realms.op("api_keys.create", {"name": "x", "permissions": [permission]}, token=owner)
        assert told(refused) == (403, "missing_scope")

    async def test_a_key_grants_only_what_it_holds(self, realms):
        minting = await realms.key_with("api_keys:write", "catalog:read")
        for permissions in (["catalog:write"], ["catalog:read", "orders:read"], ["*"], []):
            refused = await realms.op("api_keys.create", {"name": "x", "permissions": permissions}, token=minting)
            assert refused.status_code in {403, 422}
        made = await realms.op("api_keys.create", {"name": "x", "permissions": ["catalog:read"]}, token=minting)
        assert made.json()["permissions"] == ["catalog:read"]

    @pytest.mark.parametrize(
        ("body", "loc"),
        [
            ({"name": "x", "permissions": ["users:read", "orders:fly"]}, ["body", "permissions", 1]),
            ({"name": "   "}, ["body", "name"]),
            ({"name": "x" * 201}, ["body", "name"]),
            ({"name": "x", "rate_limit": 0}, ["body", "rate_limit"]),
            ({"name": "x", "expires_in_days": 0}, ["body", "expires_in_days"]),
            ({"name": "x", "rate_limit": 10**12}, ["body", "rate_limit"]),
            ({}, ["body", "name"]),
        ],
    )
    async def test_bad_input(self, realms, body, loc):
        refused = await realms.op("api_keys.create", body, token=await realms.as_human(realms.email))
        assert refused.status_code == 422
        assert refused.json()["detail"][0]["loc"] == loc

    async def test_a_secret_is_not_shown_twice(self, realms):
        owner = await realms.as_human(realms.email)
        made = await realms.op("api_keys.create", {"name": "x"}, token=owner, Idempotency_Key="one")
        again = await realms.op("api_keys.create", {"name": "x"}, token=owner, Idempotency_Key="one")
        assert told(again) == (409, "conflict")
        assert made.json()["id"] in again.json()["detail"]
        assert made.json()["key"] not in again.text

    async def test_who_makes_and_who_lists(self, realms):
        tokens = {role: await realms.as_role(role) for role in ("admin", "billing", "member", "viewer")}
        made = {role: (await realms.op("api_keys.create", {"name": "x"}, token=t)).status_code for role, t in tokens.items()}
        assert made == {"admin": 200, "billing": 403, "member": 403, "viewer": 403}
        listed = {role: (await realms.op("api_keys.list", token=t)).status_code for role, t in tokens.items()}
        assert listed == {"admin": 200, "billing": 200, "member": 403, "viewer": 403}

    async def test_the_list(self, realms):
        owner = await realms.as_human(realms.email)
        for name in ("first", "second"):
            await realms.op("api_keys.create", {"name": name, "expires_in_days": 1}, token=owner)
        await realms.sql("UPDATE api_key SET expires_at = now() - interval '89 days' WHERE name = 'first'")
        reply = (await realms.op("api_keys.list", token=owner)).json()
        assert reply["total"] == 3
        assert [(key["name"], key["status"]) for key in reply["api_keys"]] == [
            ("second", "active"), ("first", "expired"), ("scripts", "active"),
        ]  # fmt: skip
        assert reply["api_keys"][0].keys() == {
            "id", "name", "prefix", "permissions", "rate_limit", "status", "created_by", "created_at", "expires_at",
            "last_used_at", "revoked_at",
        }  # fmt: skip
        assert reply["api_keys"][0]["created_by"] == realms.owner_id
        await realms.sql("UPDATE api_key SET expires_at = now() - interval '91 days' WHERE name = 'first'")
        assert (await realms.op("api_keys.list", token=owner)).json()["total"] == 2

    async def test_revoking(self, realms):
        owner = await realms.as_human(realms.email)
        for _ in range(2):
            reply = await realms.op("api_keys.revoke", {"id": realms.api_key_id}, token=owner)
            assert reply.json() == {"id": realms.api_key_id, "ok": True}
        assert not await realms.works(realms.api_key)
        [listed] = (await realms.op("api_keys.list", token=owner)).json()["api_keys"]
        assert listed["status"] == "revoked"
        assert [row["type"] for row in await realms.sql("SELECT type FROM outbox_event")] == ["api_key.revoked"]

    async def test_a_key_may_revoke_itself(self, realms):
        key = await realms.key_with("api_keys:read", "api_keys:write", "users:read")
        keys = (await realms.op("api_keys.list", token=key)).json()["api_keys"]
        own = next(each["id"] for each in keys if each["prefix"] == key[:12])
        assert (await realms.op("api_keys.revoke", {"key_id": own}, token=key)).status_code == 200
        assert not await realms.works(key)

    async def test_a_foreign_key_is_an_unknown_one(self, realms):
        other = (await realms.other_organization()).organization["id"]
        stranger = await realms.key_with("api_keys:write", organization_id=other)
        for key_id in (realms.api_key_id, new_id(), "nonsense"):
            assert told(await realms.op("api_keys.revoke", {"key_id": key_id}, token=stranger)) == (404, "not_found")
        assert await realms.works(realms.api_key)

    async def test_the_plan_limits_keys(self, realms):
        await realms.sql(
            "INSERT INTO plan VALUES ('free', 'Free', '', 0, %s::jsonb, '{}', '{}', '[]', true, 1)"
            " ON CONFLICT (id) DO UPDATE SET included = EXCLUDED.included", '{"api_keys": 2, "projects": 1}',
        )  # fmt: skip
        owner = await realms.as_human(realms.email)
        made = await asyncio.gather(*(realms.op("api_keys.create", {"name": "x"}, token=owner) for _ in range(4)))
        assert sorted(each.status_code for each in made) == [200, 402, 402, 402]
        assert told(await realms.op("projects.create", {"name": "x"}, token=owner)) == (402, "plan_limit_reached")

    async def test_the_organization_bounds_the_life_of_keys(self, realms):
        await realms.sql("""UPDATE organization SET settings = '{"key_max_days": 30}'""")
        owner = await realms.as_human(realms.email)
        assert (await realms.op("api_keys.create", {"name": "x", "expires_in_days": 31}, token=owner)).status_code == 422
        assert (await realms.op("api_keys.create", {"name": "x"}, token=owner)).json()["expires_at"] is not None


class TestOrganizations:
    @pytest.fixture
    async def newcomer(self, realms):
        """A human without any organization."""
        await realms.human("new@comer.example")
        return await realms.as_human("new@comer.example")

    async def test_a_newcomer_makes_one(self, realms, newcomer):
        assert told(await realms.op("projects.list", token=newcomer)) == (403, "missing_scope")
        reply = (
            await realms.op("organizations.create", {"name": "Harbour Survey", "enterprise_billing": True}, token=newcomer)
        ).json()
        assert reply.keys() == {
            "id", "name", "slug", "enterprise_billing", "enterprise_billing_requested", "role", "default_project_id", "created_at",
        }  # fmt: skip
        assert (reply["slug"], reply["role"]) == ("harbour-survey-2", "owner")
        assert (reply["enterprise_billing"], reply["enterprise_billing_requested"]) == (False, True)
        [project] = (await realms.op("projects.list", token=newcomer)).json()["projects"]
        assert (project["id"], project["name"], project["role"]) == (reply["default_project_id"], "Default", "owner")
        assert await realms.sql("SELECT balance FROM ledger_account WHERE organization_id = %s", reply["id"]) == [
            {"balance": 0}
        ]
        records = await realms.sql("SELECT organization_id, entity_id FROM lineage_record")
        assert records == [{"organization_id": reply["id"], "entity_id": reply["default_project_id"]}]
        [event] = await realms.sql("SELECT organization_id, type FROM outbox_event")
        assert event == {"organization_id": reply["id"], "type": "project.created"}

    async def test_what_the_profile_holds(self, realms, newcomer):
        profile = {
            "name": "Reef Watch", "website": "https://reef.example", "country": "au", "abn": "51 824 753 556", "industry": " ",
            "billing_address": {"city": "Cairns"}, "billing_admin_id": realms.owner_id,
        }  # fmt: skip
        made = (await realms.op("organizations.create", profile, token=newcomer)).json()
        got = (await realms.op("organizations.get", token=newcomer)).json()
        assert (got["id"], got["country"], got["abn"], got["industry"]) == (made["id"], "AU", "51824753556", None)
        assert (got["billing_email"], got["billing_address"]) == ("new@comer.example", {"city": "Cairns"})
        assert (got["plan"], got["standing"], got["member_count"]) == ("free", "active", 2)
        assert got["settings"]["approval_threshold_credits"] == 500_000

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("website", "javascript:alert(1)"), ("abn", "51 824 753 557"), ("billing_admin_id", "0198f1c2-0000-7000-8000-000000000000"),
            ("billing_admin_id", "nonsense"), ("country", "Australia"), ("billing_email", "nobody"), ("name", " "),
        ],
    )  # fmt: skip
    async def test_bad_profiles(self, realms, newcomer, field, value):
        refused = await realms.op("organizations.create", {"name": "Reef Watch", field: value}, token=newcomer)
        assert refused.status_code == 422
        assert refused.json()["detail"][0]["loc"] == ["body", field]
        assert await realms.sql("SELECT 1 FROM organization WHERE name = 'Reef Watch'") == []

    async def test_one_of_a_name_per_owner(self, realms):
        owner = await realms.as_human(realms.email)
        assert told(await realms.op("organizations.create", {"name": "HARBOUR survey"}, token=owner)) == (409, "conflict")

    async def test_two_at_once_get_two_slugs(self, realms):
        people = [f"p{number}@survey.example" for number in range(4)]
        for email in people:
            await realms.human(email)
        tokens = [await realms.as_human(email) for email in people]
        made = await asyncio.gather(*(realms.op("organizations.create", {"name": "Twin"}, token=each) for each in tokens))
        assert sorted(each.json()["slug"] for each in made) == ["twin", "twin-2", "twin-3", "twin-4"]

    async def test_keys_make_none(self, realms):
        key = await realms.key_with("organizations:write")
        assert told(await realms.op("organizations.create", {"name": "x"}, token=key)) == (403, "human_required")

    async def test_operators_switch_enterprise_billing_on(self, realms):
        await realms.human("operator@survey.example", operator=True)
        operator = await realms.as_human("operator@survey.example")
        made = (await realms.op("organizations.create", {"name": "Big", "enterprise_billing": True}, token=operator)).json()
        assert (made["enterprise_billing"], made["enterprise_billing_requested"]) == (True, False)

    async def test_lists(self, realms):
        by_key = (await realms.op("organizations.list")).json()
        assert by_key["total"] == 1
        assert by_key["organizations"][0]["role"] is None
        by_human = (await realms.op("organizations.list", token=await realms.as_human(realms.email))).json()
        assert by_human["organizations"] == [
            {
                "id": realms.organization_id, "name": "Harbour Survey", "slug": "harbour-survey", "role": "owner", "plan": "free",
                "standing": "active", "enterprise_billing": False,
            }
        ]  # fmt: skip

    async def test_tax_and_address_are_for_those_who_see_bills(self, realms):
        seen = {}
        for role in ("admin", "billing", "member", "viewer"):
            seen[role] = "abn" in (await realms.op("organizations.get", token=await realms.as_role(role))).json()
        assert seen == {"admin": True, "billing": True, "member": False, "viewer": False}

    async def test_another_organization_is_unknown(self, realms):
        other = (await realms.other_organization()).organization["id"]
        for organization_id in (other, new_id(), "nonsense"):
            assert told(await realms.op("organizations.get", {"organization_id": organization_id})) == (404, "not_found")
        await realms.human("operator@survey.example", operator=True, organization_id=realms.organization_id)
        operator = await realms.as_human("operator@survey.example")
        assert (await realms.op("organizations.get", {"organization_id": other}, token=operator)).json()["id"] == other


class TestProjects:
    async def create(self, realms, name="Berths", token=None, **more):
        response = await realms.op("projects.create", {"name": name, **more}, token=token)
        assert response.status_code == 200, response.text
        return response.json()

    async def test_created(self, realms):
        made = await self.create(realms, description="Monthly", gcs_region="europe-west1")
        assert made.keys() == {
            "id", "organization_id", "name", "description", "gcs_bucket_name", "gcs_region", "is_archived", "created_at", "updated_at",
        }  # fmt: skip
        assert (made["organization_id"], made["gcs_region"], made["is_archived"]) == (
            realms.organization_id,
            "europe-west1",
            False,
        )
        assert await realms.sql("SELECT user_id, role FROM project_member WHERE project_id = %s", made["id"]) == [
            {"user_id": realms.owner_id, "role": "owner"}
        ]
        assert await self.live_digest(realms, made["id"]) == await self.recorded_digest(realms, made["id"])

    async def live_digest(self, realms, project_id) -> str:
        async with realms.realm.pool.connection() as conn:
            state = await artifact_states["project"](conn, realms.organization_id, project_id)
        assert state is not None
        return digest(state)

    async def recorded_digest(self, realms, project_id) -> str:
        rows = await realms.sql(
            "SELECT digest_after FROM lineage_record WHERE entity_id = %s ORDER BY id DESC LIMIT 1", project_id
        )
        return rows[0]["digest_after"]

    async def test_a_member_owns_what_they_make(self, realms):
        member = await realms.as_role("member")
        made = await self.create(realms, token=member)
        assert (await realms.op("projects.get", {"id": made["id"]}, token=member)).json()["role"] == "owner"
        assert (
            await realms.op("projects.update", {"project_id": made["id"], "name": "Quays"}, token=member)
        ).status_code == 200
        assert told(await realms.op("projects.update", {"project_id": realms.project_id, "name": "x"}, token=member)) == (
            403, "role_required",
        )  # fmt: skip

    async def test_viewers_make_none(self, realms):
        assert told(await realms.op("projects.create", {"name": "x"}, token=await realms.as_role("viewer"))) == (
            403,
            "missing_scope",
        )

    async def test_a_name_is_taken_once(self, realms):
        await self.create(realms)
        assert told(await realms.op("projects.create", {"name": "berths"})) == (409, "conflict")
        assert told(await realms.op("projects.update", {"project_id": realms.project_id, "name": "BERTHS"})) == (
            409,
            "conflict",
        )
        racing = await asyncio.gather(*(realms.op("projects.create", {"name": "Race"}) for _ in range(3)))
        assert sorted(each.status_code for each in racing) == [200, 409, 409]

    @pytest.mark.parametrize(
        "body", [{}, {"name": ""}, {"name": "  "}, {"name": "x" * 256}, {"name": "x", "gcs_region": "mars"}]
    )
    async def test_bad_input(self, realms, body):
        assert told(await realms.op("projects.create", body)) == (422, "invalid_input")

    async def test_a_merge_patch(self, realms):
        made = await self.create(realms, description="Monthly")
        body = {"project_id": made["id"]}
        renamed = (await realms.op("projects.update", {**body, "name": "Quays"})).json()
        assert (renamed["name"], renamed["description"]) == ("Quays", "Monthly")
        cleared = (await realms.op("projects.update", {**body, "description": None, "name": None})).json()
        assert (cleared["name"], cleared["description"]) == ("Quays", None)
        assert await self.live_digest(realms, made["id"]) == await self.recorded_digest(realms, made["id"])

    async def test_archiving_is_reversible_and_idempotent(self, realms):
        made = await self.create(realms)
        body = {"project_id": made["id"]}
        for _ in range(2):
            assert (await realms.op("projects.archive", body)).json()["is_archived"] is True
        listed = (await realms.op("projects.list")).json()["projects"]
        assert [each["name"] for each in listed] == ["Default"]
        archived = (await realms.op("projects.list", {"is_archived": True})).json()["projects"]
        assert [each["name"] for each in archived] == ["Berths"]
        assert (await realms.op("projects.archive", {**body, "is_archived": False, "name": "Quays"})).json()[
            "is_archived"
        ] is False
        kinds = [row["type"] for row in await realms.sql("SELECT type FROM outbox_event ORDER BY position")]
        assert kinds == ["project.created", "project.archived"]
        assert await self.live_digest(realms, made["id"]) == await self.recorded_digest(realms, made["id"])

    async def test_open_tasking_keeps_a_project_open(self, realms):
        await realms.sql(
            "INSERT INTO orders (id, organization_id, project_id, type, status, display_name, billing_mode, total_credits,"
            " license_type, created_by_type, created_at, updated_at) VALUES (%s, %s, %s, 'tasking', 'processing', 'x', 'credit', 0,"
            " 'internal', 'user', now(), now())", new_id(), realms.organization_id, realms.project_id,
        )  # fmt: skip
        for operation_id, body in (("projects.archive", {}), ("projects.update", {"is_archived": True})):
            assert told(await realms.op(operation_id, {"project_id": realms.project_id, **body})) == (409, "conflict")

    async def test_the_list_pages_and_searches(self, realms):
        for number in range(5):
            await self.create(realms, f"Berth {number}", description="100% tide" if number == 3 else None)
        everything = (await realms.op("projects.list", {"limit": 5_000})).json()
        assert (everything["total"], everything["limit"], everything["offset"]) == (6, 1000, 0)
        ids = [each["id"] for each in everything["projects"]]
        paged = [
            each["id"]
            for offset in (0, 2, 4)
            for each in (await realms.op("projects.list", {"limit": 2, "offset": offset})).json()["projects"]
        ]
        assert paged == ids
        found = (await realms.op("projects.list", {"search": "BERTH"})).json()
        assert (found["total"], len(found["projects"])) == (5, 5)
        assert (await realms.op("projects.list", {"search": "100%"})).json()["total"] == 1
        assert (await realms.op("projects.list", {"search": "_"})).json()["total"] == 0

    async def test_get(self, realms):
        got = (await realms.op("projects.get", {"project_id": realms.project_id})).json()
        counted = {
            name: got[name] for name in ("member_count", "item_count", "storage_bytes", "collection_count", "open_orders")
        }
        assert counted == {"member_count": 1, "item_count": 0, "storage_bytes": 0, "collection_count": 0, "open_orders": 0}
        assert (got["role"], got["running_jobs"]) == (None, 0)

    async def test_a_foreign_project_is_an_unknown_one(self, realms):
        foreign = (await realms.other_organization()).default_project["id"]
        for operation_id in ("projects.get", "projects.update", "projects.archive"):
            answers = [await realms.op(operation_id, {"project_id": each}) for each in (foreign, new_id(), "nonsense")]
            assert [told(each) for each in answers] == [(404, "not_found")] * 3
            assert len({each.json()["detail"] for each in answers}) == 1

    async def test_a_suspended_organization_only_reads(self, realms):
        await realms.sql("UPDATE organization SET standing = 'suspended'")
        assert (await realms.op("projects.list")).status_code == 200
        assert told(await realms.op("projects.create", {"name": "x"})) == (403, "org_suspended")


class TestUsers:
    async def test_me_as_human(self, realms):
        me = (await realms.op("users.me", token=await realms.as_human(realms.email))).json()
        assert me.keys() == {
            "principal_id", "principal_type", "sub", "email", "display_name", "organization_id", "organization_role", "scopes",
            "organizations", "mfa", "locale", "timezone",
        }  # fmt: skip
        assert (me["principal_id"], me["sub"], me["email"]) == (realms.owner_id, realms.owner_id, realms.email)
        assert (me["display_name"], me["organization_role"]) == ("Ona Owner", "owner")
        assert [each["role"] for each in me["organizations"]] == ["owner"]

    async def test_me_as_key_over_get(self, realms):
        headers = {"X-API-Key": realms.api_key}
        me = (await realms.http.get("/v1/op/users.me", headers=headers)).json()
        assert (me["principal_type"], me["email"], me["organization_role"]) == ("api_key", None, None)
        assert set(me["scopes"]) == scopes.STANDARD_FOR_KEYS
        assert [each["id"] for each in me["organizations"]] == [realms.organization_id]

    async def test_me_without_organization(self, realms):
        await realms.human("new@comer.example")
        me = (await realms.op("users.me", token=await realms.as_human("new@comer.example"))).json()
        assert (me["organization_id"], me["organizations"]) == (None, [])

    async def test_roles(self, realms):
        reply = (await realms.op("roles.list")).json()
        assert [role["name"] for role in reply["organization_roles"]] == ["owner", "admin", "billing", "member", "viewer"]
        assert [role["name"] for role in reply["project_roles"]] == ["owner", "admin", "editor", "viewer"]
        opened = {scope["name"]: scope["operations"] for scope in reply["scopes"]}
        assert {"projects.create", "projects.update"} <= set(opened["projects:write"])
        assert "admin:read" not in opened
        await realms.human("operator@survey.example", operator=True)
        operator = await realms.as_human("operator@survey.example")
        assert "admin:read" in {scope["name"] for scope in (await realms.op("roles.list", token=operator)).json()["scopes"]}
