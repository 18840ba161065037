"""Deleting a project for good."""

from __future__ import annotations

from pydantic import BaseModel

from geopera_server.domains.identity.access import require_project_admin
from geopera_server.domains.identity.lineage import project_state
from geopera_server.domains.identity.presenting import as_project_response
from geopera_server.domains.items.erasing import erase_library_of_project
from geopera_server.domains.projects import store
from geopera_server.domains.sharing.ending import erase_shares_of_project
from geopera_server.domains.uploads.ending import end_uploads_of_project
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, NotFound
from geopera_server.kernel.operation import operation


class ProjectDeleteInput(BaseModel):
    """Which project."""

    project_id: str


class ProjectDeleteOutput(BaseModel):
    """What is gone, and how much of the plan's storage that frees."""

    project_id: str
    deleted: bool = True
    storage_freed_bytes: int = 0


@operation(
    "projects.delete",
    effect="destructive",
    scope="projects:write",
    produces=("project",),
    example={"project_id": "0198f1c2-0000-7000-8000-000000000000"},
)
async def delete(ctx: Context, given: ProjectDeleteInput) -> ProjectDeleteOutput:
    """Deletes a project for good, with its items and their files, collections, uploads, share links and members.

    Orders, ledger and audit stay, and the lineage says of everything that it was deleted. Refused while a job runs or an order
    is not delivered yet; open uploads end.
    """
    project_id = await require_project_admin(ctx.conn, ctx.principal, given.project_id)
    before = await store.lock_to_delete(ctx.conn, ctx.organization_id, project_id)
    if before is None:
        raise NotFound("project")
    await _require_idle(ctx, project_id)
    await end_uploads_of_project(ctx, project_id)
    freed_bytes = await erase_library_of_project(ctx, project_id)
    # After what they open: whoever is making a link holds on to its target, and has committed by now.
    await erase_shares_of_project(ctx, project_id)
    await store.remove_members(ctx.conn, project_id)
    after = await store.mark_deleted(ctx.conn, ctx.organization_id, project_id, ctx.now)
    ctx.lineage.event(("project", project_id), before=project_state(before), after=project_state(after))
    ctx.emit("project.deleted", ("project", project_id), as_project_response(after), project_id=project_id)
    return ProjectDeleteOutput(project_id=project_id, storage_freed_bytes=freed_bytes)


async def _require_idle(ctx: Context, project_id: str) -> None:
    if await store.has_undelivered_orders(ctx.conn, ctx.organization_id, project_id):
        raise Conflict(
            "An order in this project is not delivered yet. Wait for it or cancel it, then delete the project.",
            code="resource_busy",
        )
    if await store.open_jobs(ctx.conn, ctx.organization_id, project_id):
        raise Conflict(
            "A job still works in this project. Wait until it has ended, or cancel it, then delete the project.",
            code="resource_busy",
            retry_after_s=10,
        )
