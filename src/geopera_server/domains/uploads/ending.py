"""What becomes of a project's uploads when the project is deleted."""

from __future__ import annotations

from geopera_server.domains.uploads.closing import PROCESS, close_failed, erase_later
from geopera_server.domains.uploads.store import sessions
from geopera_server.kernel.context import Context
from geopera_server.kernel.jobs import cancel_for
from geopera_server.values.ids import ProjectId


async def end_uploads_of_project(ctx: Context, project_id: ProjectId | str, *, organization_id: str | None = None) -> int:
    """Fails the open sessions of a project, removes all of its sessions, and returns how many were open.

    Their reservations are given back in this transaction, work on items that came of them is cancelled; what was stored for
    them, files of items included, is removed after it.
    """
    owner = organization_id or ctx.organization_id
    still_open = await sessions.open_uploads_of_project(ctx.conn, owner, project_id)
    for upload in still_open:
        await close_failed(ctx, upload, message="The project was deleted.", step="project_deleted")
    for upload_id in await sessions.completed_uploads_of_project(ctx.conn, owner, project_id):
        await cancel_for(ctx.conn, PROCESS, upload_id)
    if await sessions.forget_uploads_of_project(ctx.conn, owner, project_id):
        erase_later(ctx, project_id, f"projects/{project_id}/uploads", organization_id=owner)
    return len(still_open)
