"""The access rules that other domains name: who may see and change what.

Whoever may not know of a thing gets NotFound, as for an unknown id; whoever may see it and not change it gets Denied.
"""

from __future__ import annotations

from dataclasses import dataclass

from geopera_server.db.pool import Connection
from geopera_server.domains.identity.rules import RIGHTS, Right, Standing, right_in_project
from geopera_server.domains.identity.store import organizations, projects
from geopera_server.kernel.errors import Conflict, Denied, NotFound
from geopera_server.kernel.principal import Principal
from geopera_server.values.ids import OrganizationId, ProjectId, is_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectAccess:
    """A project that the caller may at least read, and the strongest right it has there."""

    id: ProjectId
    organization_id: OrganizationId
    is_archived: bool
    role: str | None
    right: Right

    def allows(self, right: Right) -> bool:
        return RIGHTS.index(self.right) >= RIGHTS.index(right)


async def project_access(conn: Connection, principal: Principal, project_id: str, *, keep: bool = False) -> ProjectAccess:
    """Returns the project and the caller's right in it; raises NotFound for what the caller may not know of.

    With `keep` the project cannot be archived or deleted before the caller's transaction ends.
    """
    if not is_id(project_id):
        raise NotFound("project")
    everywhere = reads_everywhere(principal)
    row = await projects.project_and_role(
        conn,
        project_id,
        organization_id=principal.organization_id,
        user_id=principal.user_id,
        everywhere=everywhere,
        keep=keep,
    )
    if row is None:
        raise NotFound("project")
    right = right_in_project(
        Standing(
            same_organization=row["organization_id"] == principal.organization_id,
            is_human=principal.kind == "user",
            organization_role=principal.organization_role,
            project_role=row["role"],
            reads_everywhere=everywhere,
        )
    )
    if right is None:
        raise NotFound("project")
    return ProjectAccess(
        id=ProjectId(row["id"]),
        organization_id=OrganizationId(row["organization_id"]),
        is_archived=row["is_archived"],
        role=row["role"],
        right=right,
    )


async def require_project_read(conn: Connection, principal: Principal, project_id: str) -> ProjectId:
    """P-READ: members of the project's organization, its keys, operators. Raises NotFound for everybody else."""
    return (await project_access(conn, principal, project_id)).id


async def require_project_write(
    conn: Connection, principal: Principal, project_id: str, *, new_data: bool = False
) -> ProjectId:
    """P-WRITE: project owner, admin, editor; organization owner, admin; its keys. Raises NotFound or Denied.

    With `new_data` an archived project raises Conflict: it takes no new data, orders and jobs.
    """
    found = await project_access(conn, principal, project_id, keep=new_data)
    if not found.allows("write"):
        raise Denied("You may read this project. To change what is in it, ask its owner for the role editor.")
    if new_data and found.is_archived:
        raise Conflict(
            "This project is archived and takes nothing new. Un-archive it with projects.archive, is_archived false.",
            code="illegal_state",
        )
    return found.id


async def require_project_admin(conn: Connection, principal: Principal, project_id: str) -> ProjectId:
    """P-ADMIN: project owner, admin; organization owner, admin; its keys. Raises NotFound or Denied."""
    found = await project_access(conn, principal, project_id)
    if not found.allows("admin"):
        raise Denied("Only owners and admins of the project or the organization do this. Ask one of them.")
    return found.id


def reads_everywhere(principal: Principal) -> bool:
    """Says whether the caller reads across organizations, as operators and the platform's services do."""
    return principal.kind == "service" or "admin:read" in principal.scopes


async def own_organization(
    conn: Connection, principal: Principal, given_id: str | None, *, to_change: bool = False
) -> OrganizationId:
    """Returns the organization that an `organization_id` input means; none given means the caller's own.

    Raises NotFound for any other one, existing or not; operators may name every existing one. With `to_change` those who only
    read across organizations may not.
    """
    if given_id is None or given_id == principal.organization_id:
        if principal.organization_id is None:
            raise Denied("This account belongs to no organization yet. Create one with organizations.create.")
        return OrganizationId(principal.organization_id)
    goes_everywhere = principal.is_operator if to_change else reads_everywhere(principal)
    if not goes_everywhere or not is_id(given_id):
        raise NotFound("organization")
    if await organizations.organization_of(conn, given_id) is None:
        raise NotFound("organization")
    return OrganizationId(given_id)


def is_org_admin(principal: Principal) -> bool:
    """Says whether ORG-ADMIN holds: organization owner or admin, a key (its scope is checked before), an operator."""
    return (
        principal.kind in {"api_key", "service"} or principal.organization_role in {"owner", "admin"} or principal.is_operator
    )


def is_org_billing(principal: Principal) -> bool:
    """Says whether ORG-BILLING holds: ORG-ADMIN, or the role billing."""
    return is_org_admin(principal) or principal.organization_role == "billing"


def require_org_admin(principal: Principal) -> None:
    """Raises Denied unless ORG-ADMIN holds."""
    if not is_org_admin(principal):
        raise Denied("Only owners and admins of the organization do this. Ask one of them.")


def require_org_billing(principal: Principal) -> None:
    """Raises Denied unless ORG-BILLING holds."""
    if not is_org_billing(principal):
        raise Denied("Only owners, admins and billing members of the organization do this. Ask one of them.")


def require_human(principal: Principal) -> str:
    """Returns the id of the human who calls; raises Denied for keys and services."""
    if principal.kind != "user" or principal.id is None:
        raise Denied("This is for people, not for API keys. Sign in with your own account.", code="human_required")
    return principal.id


def require_operator(principal: Principal) -> None:
    """Raises Denied unless the caller operates this deployment."""
    if not principal.is_operator:
        raise Denied("Only operators of this deployment do this.")
