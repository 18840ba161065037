"""The members of a project: added with a role, given another, taken out, and the owner followed by the next."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel
from typing_extensions import TypedDict

from geopera_server.db.pool import Row
from geopera_server.domains.identity.access import project_access, require_project_admin, require_project_read
from geopera_server.domains.projects import store
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, Denied, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.values.ids import ProjectId, is_id, new_id

_EXAMPLE_PROJECT = {"project_id": "0198f1c2-0000-7000-8000-000000000000"}
_EXAMPLE = {**_EXAMPLE_PROJECT, "user_id": "0198f1c2-0000-7000-8000-000000000001"}


class Role(StrEnum):
    OWNER = "owner"
    ADMIN = "admin"
    EDITOR = "editor"
    VIEWER = "viewer"


class AddMemberInput(BaseModel):
    """Whom to add to which project, and as what."""

    project_id: str
    user_id: str
    role: Role = Role.EDITOR


class UpdateMemberInput(BaseModel):
    """Who is to have which role in which project; `owner` hands the project over."""

    project_id: str
    user_id: str
    role: Role


class RemoveMemberInput(BaseModel):
    """Who is to leave which project."""

    project_id: str
    user_id: str


class RemoveMemberOutput(BaseModel):
    """That they have left."""

    ok: bool = True


class MembersListInput(BaseModel):
    """Whose members."""

    project_id: str


class MemberOutput(BaseModel):
    """Somebody's role in a project."""

    id: str
    project_id: str
    user_id: str
    role: str
    email: str | None
    display_name: str | None
    added_by: str | None
    created_at: datetime
    updated_at: datetime


class Member(TypedDict):
    """Somebody's role in a project."""

    id: str
    project_id: str
    user_id: str
    role: str
    email: str | None
    display_name: str | None
    added_by: str | None
    created_at: datetime
    updated_at: datetime


class Inherited(TypedDict):
    """Somebody whose role in the organization opens every project of it."""

    user_id: str
    organization_role: str


class Members(TypedDict):
    """Who may do what in a project, by a role there or in the organization."""

    members: list[Member]
    inherited: list[Inherited]
    total: int


@operation("projects.add_member", effect="compute", scope="projects:write", example={**_EXAMPLE, "role": "editor"})
async def add_member(ctx: Context, given: AddMemberInput) -> MemberOutput:
    """Adds somebody of the organization to a project; again with the same role changes nothing."""
    project_id = await _turn(ctx, given.project_id)
    if given.role is Role.OWNER:
        raise Denied("A project has one owner, who hands it over with projects.update_member. Add somebody as admin first.")
    if not is_id(given.user_id) or not await store.keep_belonging(ctx.conn, ctx.organization_id, given.user_id):
        raise NotFound("member of your organization", detail="Nobody in your organization has this id. Invite them first.")
    found = await store.member(ctx.conn, project_id, given.user_id)
    if found is not None:
        if found["role"] != given.role:
            raise Conflict(f"They are {found['role']} of this project. Change that with projects.update_member.")
        return _reply(found)
    row = {"id": new_id(), "project_id": project_id, "user_id": given.user_id, "role": given.role.value, "at": ctx.now}
    await store.insert_member(ctx.conn, {**row, "added_by": ctx.principal.user_id})
    return _reply(_told(ctx, "member.added", await _member(ctx, project_id, given.user_id)))


@operation("projects.update_member", effect="compute", scope="projects:write", example={**_EXAMPLE, "role": "viewer"})
async def update_member(ctx: Context, given: UpdateMemberInput) -> MemberOutput:
    """Gives a member another role; `owner` hands the project over and leaves its owner as admin."""
    project_id = await _turn(ctx, given.project_id)
    before = await _member(ctx, project_id, given.user_id)
    if before["role"] == given.role:
        return _reply(before)
    if before["role"] == Role.OWNER:
        raise Conflict("This is the project's only owner. Hand the project over first: give somebody else the role owner.")
    if given.role is Role.OWNER:
        await _step_down(ctx, project_id, given.user_id)
    await store.set_role(ctx.conn, project_id, before["user_id"], given.role.value, ctx.now)
    return _reply(await _member(ctx, project_id, given.user_id))


async def _step_down(ctx: Context, project_id: str, heir_id: str) -> None:
    """Makes the present owner, who must be the caller, an admin; of a project that nobody owns any more, anybody may be."""
    if not await store.keep_belonging(ctx.conn, ctx.organization_id, heir_id):
        raise NotFound("member")
    owner = await store.owner(ctx.conn, ctx.organization_id, project_id)
    if owner is None:
        return
    if owner["belongs"] and owner["user_id"] != ctx.principal.user_id:
        raise Denied("Only the project's owner hands it over. Ask them.")
    await store.set_role(ctx.conn, project_id, owner["user_id"], Role.ADMIN, ctx.now)


@operation("projects.remove_member", effect="destructive", scope="projects:write", example=_EXAMPLE)
async def remove_member(ctx: Context, given: RemoveMemberInput) -> RemoveMemberOutput:
    """Takes somebody out of a project; anybody but the owner may leave by themselves."""
    leaves = ctx.principal.user_id is not None and ctx.principal.user_id == given.user_id.lower()
    project_id = await _turn(ctx, given.project_id, reads=leaves)
    row = await _member(ctx, project_id, given.user_id)
    if row["role"] == Role.OWNER:
        raise Conflict("The owner cannot leave. Hand the project over first: give somebody else the role owner.")
    await store.delete_member(ctx.conn, project_id, row["user_id"])
    _told(ctx, "member.removed", row)
    return RemoveMemberOutput()


@operation("projects.members.list", effect="read", scope="projects:read", raw=True, extension=True, example=_EXAMPLE_PROJECT)
async def list_members(ctx: Context, given: MembersListInput) -> Members:
    """Lists who has a role in a project, and whose role in the organization lets them administer it."""
    access = await project_access(ctx.conn, ctx.principal, given.project_id)
    ctx.touch("project", access.id)
    rows = await store.members(ctx.conn, access.id)
    inherited = await store.inherited(ctx.conn, access.organization_id)
    return Members(
        members=[_as_member(row) for row in rows],
        inherited=[Inherited(user_id=row["user_id"], organization_role=row["organization_role"]) for row in inherited],
        total=len(rows),
    )


async def _turn(ctx: Context, given_id: str, *, reads: bool = False) -> ProjectId:
    """Lets the caller in who may change members, or only reads, and keeps others from changing them meanwhile."""
    allowed = require_project_read if reads else require_project_admin
    project_id = await allowed(ctx.conn, ctx.principal, given_id)
    if not await store.lock_members(ctx.conn, ctx.organization_id, project_id):
        raise NotFound("project")
    ctx.touch("project", project_id)
    return project_id


async def _member(ctx: Context, project_id: str, user_id: str) -> Row:
    row = await store.member(ctx.conn, project_id, user_id) if is_id(user_id) else None
    if row is None:
        raise NotFound("member")
    return row


def _told(ctx: Context, event: str, row: Row) -> Row:
    ctx.emit(event, ("project_member", row["id"]), _as_member(row), project_id=row["project_id"])
    return row


def _as_member(row: Row) -> Member:
    return Member(
        id=row["id"],
        project_id=row["project_id"],
        user_id=row["user_id"],
        role=row["role"],
        email=row["email"],
        display_name=row["display_name"],
        added_by=row["added_by"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _reply(row: Row) -> MemberOutput:
    return MemberOutput.model_validate(_as_member(row))
