"""More people and keys in the home organization."""

from __future__ import annotations

from geopera_server.domains.identity.bootstrap import create_user
from geopera_server.domains.identity.scopes import OF_ROLE, OrganizationRole
from geopera_server.kernel.principal import Principal
from geopera_server.values.clock import now
from geopera_server.values.ids import new_id
from support.house import Caller, Household
from support.serving import PASSWORD


async def colleague(household: Household, role: OrganizationRole, *, active: bool = True) -> Caller:
    """Adds a person with a role to the home organization and returns them as they call with that role's scopes."""
    organization_id = household.place.home.organization_id
    async with household.house.pool.connection() as conn, conn.transaction():
        user = await create_user(conn, email=f"{new_id()}@home.example", password=PASSWORD, at=now())
        await conn.execute(
            "INSERT INTO membership (organization_id, user_id, role, created_at) VALUES (%s, %s, %s, %s)",
            (organization_id, user["id"], role, now()),
        )
        if not active:
            await conn.execute("UPDATE app_user SET status = 'disabled' WHERE id = %s", (user["id"],))
    principal = Principal(
        kind="user", id=user["id"], organization_id=organization_id, organization_role=role, scopes=OF_ROLE[role]
    )
    return Caller(household.house, principal)


async def key_of_home(household: Household) -> Caller:
    """Returns the home organization's API key as it calls."""
    organization_id = household.place.home.organization_id
    [key] = await household.sql("SELECT id FROM api_key WHERE organization_id = %s", organization_id)
    scopes = frozenset({"billing:read", "billing:write"})
    return Caller(household.house, Principal(kind="api_key", id=key["id"], organization_id=organization_id, scopes=scopes))
