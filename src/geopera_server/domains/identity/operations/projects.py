"""Projects: where an organization's orders, uploads and items live."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints
from typing_extensions import TypedDict

from geopera_server.db.pool import Row
from geopera_server.domains.billing.limits import require_room
from geopera_server.domains.identity.access import project_access, require_project_admin
from geopera_server.domains.identity.bootstrap import create_project
from geopera_server.domains.identity.lineage import project_state
from geopera_server.domains.identity.presenting import ProjectRow, as_project_response
from geopera_server.domains.identity.store import organizations, projects
from geopera_server.domains.projects.work import open_jobs
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.kernel.paging import MAX_LIMIT, clamped

EXAMPLE_ID = "0198f1c2-0000-7000-8000-000000000000"

ProjectName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]
Description = Annotated[str, StringConstraints(max_length=10_000)]


class GcsRegion(StrEnum):
    SYDNEY = "australia-southeast1"
    SINGAPORE = "asia-southeast1"
    OREGON = "us-west1"
    BELGIUM = "europe-west1"


class ProjectCreate(BaseModel):
    name: ProjectName
    description: Description | None = None
    gcs_region: GcsRegion = GcsRegion.SYDNEY


class ProjectUpdateInput(BaseModel):
    project_id: str
    name: ProjectName | None = None
    description: Description | None = Field(None, description="null clears it")
    is_archived: bool | None = None


class ProjectArchiveInput(BaseModel):
    project_id: str
    is_archived: bool | None = Field(None, description="default true; false un-archives")
    name: ProjectName | None = None
    description: Description | None = Field(None, description="null clears it")


class ProjectResponse(BaseModel):
    id: str
    organization_id: str
    name: str
    description: str | None = None
    gcs_bucket_name: str | None = None
    gcs_region: GcsRegion | None = None
    is_archived: bool = False
    created_at: datetime
    updated_at: datetime


class ProjectListInput(BaseModel):
    is_archived: bool | None = Field(False, description="null lists both")
    search: str | None = Field(None, max_length=255)
    limit: int = Field(100, ge=1, description=f"at most {MAX_LIMIT}; more is clamped")
    offset: int = Field(0, ge=0, le=2**53)


class ProjectGetInput(BaseModel):
    project_id: str


class ProjectListRow(ProjectRow):
    role: str | None
    member_count: int
    item_count: int
    storage_bytes: int


class ProjectFull(ProjectListRow):
    collection_count: int
    open_orders: int
    running_jobs: int


class Projects(TypedDict):
    projects: list[ProjectListRow]
    total: int
    limit: int
    offset: int


@operation(
    "projects.create",
    effect="compute",
    scope="projects:write",
    produces=("project",),
    idempotent=True,
    example={"name": "Port expansion", "description": "Monthly imagery of the new berths"},
)
async def create(ctx: Context, given: ProjectCreate) -> ProjectResponse:
    """Makes a project; a human becomes its owner, for an API key the organization's owner does."""
    used = await projects.live_project_count(ctx.conn, ctx.organization_id)
    await require_room(ctx.conn, ctx.organization_id, "projects", used)
    owner_id = ctx.principal.user_id or await organizations.first_owner(ctx.conn, ctx.organization_id)
    row = await create_project(
        ctx.conn,
        organization_id=ctx.organization_id,
        name=given.name,
        description=given.description,
        region=given.gcs_region.value,
        owner_id=owner_id,
        at=ctx.now,
    )
    ctx.lineage.edge(("project", row["id"]), state=project_state(row))
    ctx.emit("project.created", ("project", row["id"]), as_project_response(row), project_id=row["id"])
    return ProjectResponse.model_validate(as_project_response(row))


@operation(
    "projects.update",
    effect="compute",
    scope="projects:write",
    produces=("project",),
    example={"project_id": EXAMPLE_ID, "description": "Weekly from March on"},
)
async def update(ctx: Context, given: ProjectUpdateInput) -> ProjectResponse:
    """Changes the name, the description or the archived state of a project; what is left out stays as it is."""
    return await _change(ctx, given, is_archived=given.is_archived)


@operation(
    "projects.archive",
    effect="compute",
    scope="projects:write",
    produces=("project",),
    example={"project_id": EXAMPLE_ID},
)
async def archive(ctx: Context, given: ProjectArchiveInput) -> ProjectResponse:
    """Archives a project, or takes it back into use with is_archived false.

    An archived project stays readable and takes no new data, orders or jobs.
    """
    return await _change(ctx, given, is_archived=True if given.is_archived is None else given.is_archived)


@operation("projects.list", effect="read", scope="projects:read", raw=True, extension=True, example={"limit": 20})
async def list_projects(ctx: Context, given: ProjectListInput) -> Projects:
    """Lists the organization's projects, newest first."""
    limit = clamped(given.limit)
    rows = await projects.projects_page(
        ctx.conn,
        ctx.organization_id,
        user_id=ctx.principal.user_id,
        is_archived=given.is_archived,
        search=given.search or None,
        limit=limit,
        offset=given.offset,
    )
    total = await projects.projects_total(
        ctx.conn, ctx.organization_id, is_archived=given.is_archived, search=given.search or None
    )
    return {"projects": [_list_row(row) for row in rows], "total": total, "limit": limit, "offset": given.offset}


@operation("projects.get", effect="read", scope="projects:read", raw=True, extension=True, example={"project_id": EXAMPLE_ID})
async def get(ctx: Context, given: ProjectGetInput) -> ProjectFull:
    """Returns a project with what is counted about it."""
    access = await project_access(ctx.conn, ctx.principal, given.project_id)
    row = await projects.project_in_full(ctx.conn, access.organization_id, access.id, user_id=ctx.principal.user_id)
    if row is None:
        raise NotFound("project")
    ctx.touch("project", row["id"])
    return {
        **_list_row(row),
        "collection_count": row["collection_count"],
        "open_orders": row["open_orders"],
        "running_jobs": await open_jobs(ctx.conn, access.organization_id, access.id),
    }


async def _change(
    ctx: Context, given: ProjectUpdateInput | ProjectArchiveInput, *, is_archived: bool | None
) -> ProjectResponse:
    """Applies a merge patch: an absent key leaves the value, a null clears what can be empty."""
    project_id = await require_project_admin(ctx.conn, ctx.principal, given.project_id)
    before = await projects.lock_project(ctx.conn, ctx.organization_id, project_id)
    if before is None:
        raise NotFound("project")
    patched: dict[str, Any] = {
        "name": before["name"] if given.name is None else given.name,
        "description": given.description if "description" in given.model_fields_set else before["description"],
        "is_archived": before["is_archived"] if is_archived is None else is_archived,
    }
    archives = patched["is_archived"] and not before["is_archived"]
    if await projects.name_is_taken(ctx.conn, ctx.organization_id, patched["name"], besides=project_id):
        raise Conflict("Your organization has a project of this name. Choose another name.")
    if archives and await projects.has_open_tasking(ctx.conn, ctx.organization_id, project_id):
        raise Conflict("A tasking order in this project is still open. Cancel it or wait for it, then archive.")
    after = await projects.update_project(ctx.conn, ctx.organization_id, project_id, {**patched, "at": ctx.now})
    ctx.lineage.event(("project", project_id), before=project_state(before), after=project_state(after))
    if archives:
        ctx.emit("project.archived", ("project", project_id), as_project_response(after), project_id=project_id)
    return ProjectResponse.model_validate(as_project_response(after))


def _list_row(row: Row) -> ProjectListRow:
    return {
        **as_project_response(row),
        "role": row["role"],
        "member_count": row["member_count"],
        "item_count": row["item_count"],
        "storage_bytes": row["storage_bytes"],
    }
