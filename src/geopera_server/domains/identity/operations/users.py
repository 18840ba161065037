"""Who calls, and what the roles and scopes mean."""

from __future__ import annotations

import functools

from pydantic import BaseModel
from typing_extensions import TypedDict

from geopera_server.domains.identity import rules, scopes
from geopera_server.domains.identity.operations.organizations import OrganizationSummary, organizations_of
from geopera_server.domains.identity.profiles import human_of
from geopera_server.kernel.context import Context
from geopera_server.kernel.operation import operation
from geopera_server.kernel.registry import load

DOMAINS = "geopera_server.domains"


class UserMeInput(BaseModel):
    pass


class Me(TypedDict):
    principal_id: str | None
    principal_type: str
    sub: str | None
    email: str | None
    display_name: str | None
    organization_id: str | None
    organization_role: str | None
    scopes: list[str]
    organizations: list[OrganizationSummary]
    mfa: bool
    locale: str
    timezone: str


class RoleListInput(BaseModel):
    pass


class OrganizationRole(TypedDict):
    name: str
    scopes: list[str]


class ProjectRole(TypedDict):
    name: str
    abilities: list[str]


class Scope(TypedDict):
    name: str
    description: str
    operations: list[str]


class Roles(TypedDict):
    organization_roles: list[OrganizationRole]
    project_roles: list[ProjectRole]
    scopes: list[Scope]


@operation("users.me", effect="read", scope="users:read", raw=True, extension=True, example={})
async def me(ctx: Context, given: UserMeInput) -> Me:  # noqa: ARG001
    """Says who calls, in which organization, and with which scopes; API keys may ask too."""
    principal = ctx.principal
    human = await human_of(ctx.conn, principal)
    return {
        "principal_id": principal.id,
        "principal_type": principal.kind,
        "sub": principal.id,
        "email": None if human is None else human["email"],
        "display_name": None if human is None else human["display_name"],
        "organization_id": principal.organization_id,
        "organization_role": principal.organization_role,
        "scopes": sorted(principal.scopes),
        "organizations": await organizations_of(ctx),
        "mfa": False,
        "locale": "en" if human is None else human["locale"],
        "timezone": "UTC" if human is None else human["timezone"],
    }


@operation("roles.list", effect="read", scope="users:read", raw=True, extension=True, example={})
async def list_roles(ctx: Context, given: RoleListInput) -> Roles:  # noqa: ARG001
    """Lists what each role may do and which operations each scope opens; operator scopes to operators only."""
    listed = scopes.ALL if ctx.principal.is_operator else scopes.CUSTOMER
    opened = operations_by_scope()
    return {
        "organization_roles": [
            {"name": role, "scopes": sorted(scopes.OF_ROLE[role] | scopes.OF_EVERY_HUMAN)} for role in scopes.ORGANIZATION_ROLES
        ],
        "project_roles": [{"name": role, "abilities": list(abilities)} for role, abilities in rules.ABILITIES.items()],
        "scopes": [
            {"name": scope, "description": scopes.DESCRIPTIONS[scope], "operations": list(opened.get(scope, ()))}
            for scope in sorted(listed)
        ],
    }


@functools.cache
def operations_by_scope() -> dict[str, tuple[str, ...]]:
    """Returns the ids of the operations that each scope opens."""
    opened: dict[str, list[str]] = {}
    for each in load(DOMAINS):
        if not each.internal:
            opened.setdefault(each.scope, []).append(each.id)
    return {scope: tuple(ids) for scope, ids in opened.items()}
