"""Ending a session without an item: what it held is given back, and what came of it is removed after the commit."""

from __future__ import annotations

from geopera_server.db.pool import Row
from geopera_server.domains.uploads import rules
from geopera_server.domains.uploads.presenting import as_upload
from geopera_server.domains.uploads.store import sessions
from geopera_server.kernel.context import Context

ERASE = "upload.erase"
PROCESS = "upload.process"


async def close_failed(ctx: Context, upload: Row, *, message: str, step: str | None) -> Row:
    """Fails an open session, which the caller has locked, and returns it; tells of it by upload.failed."""
    row = await sessions.fail(ctx.conn, upload["organization_id"], upload["id"], message=message, step=step, at=ctx.now)
    ctx.emit(
        "upload.failed",
        ("upload", row["id"]),
        as_upload(row),
        project_id=row["project_id"],
        organization_id=row["organization_id"],
    )
    erase_later(ctx, row["id"], rules.folder_of(row), organization_id=row["organization_id"])
    return row


def erase_later(ctx: Context, entity_id: str, folder: str, *, organization_id: str) -> None:
    """Has every object below a folder removed once the call has committed."""
    ctx.enqueue(ERASE, entity_id, {"folder": folder}, organization_id=organization_id)
