"""What is counted about a project."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel
from typing_extensions import TypedDict

from geopera_server.domains.identity.access import project_access
from geopera_server.domains.items.figures import figures_of_project
from geopera_server.domains.usage.periods import usage_of_project
from geopera_server.kernel.context import Context
from geopera_server.kernel.operation import operation


class ProjectStatsInput(BaseModel):
    """Which project."""

    project_id: str


class CoveredTime(TypedDict):
    """From the earliest to the latest moment that items show."""

    start: datetime
    end: datetime


class ProjectStats(TypedDict):
    """What a project stores and uses, and what its items show."""

    project_id: str
    storage_bytes: int
    items_by_type: dict[str, int]
    tile_requests_month: int
    credits_month: int
    bbox: list[float] | None
    datetime_range: CoveredTime | None


@operation(
    "projects.stats",
    effect="read",
    scope="projects:read",
    raw=True,
    extension=True,
    snapshot=True,
    example={"project_id": "0198f1c2-0000-7000-8000-000000000000"},
)
async def stats(ctx: Context, given: ProjectStatsInput) -> ProjectStats:
    """Returns what a project stores, what it used in the running UTC month, and where and when its items are."""
    access = await project_access(ctx.conn, ctx.principal, given.project_id)
    ctx.touch("project", access.id)
    figures = await figures_of_project(ctx.conn, access.id)
    tiles, spent = await usage_of_project(ctx.conn, access.organization_id, access.id, ctx.now)
    return ProjectStats(
        project_id=access.id,
        storage_bytes=figures["storage_bytes"],
        items_by_type=figures["items_by_type"],
        tile_requests_month=tiles,
        credits_month=spent,
        bbox=figures["bbox"],
        datetime_range=figures["datetime_range"],
    )
