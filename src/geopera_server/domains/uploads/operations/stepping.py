"""Where the server itself has come with an open session, kept although the call that was on its way may be refused."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel
from typing_extensions import TypedDict

from geopera_server.domains.uploads import rules
from geopera_server.domains.uploads.access import locked_upload
from geopera_server.domains.uploads.closing import close_failed
from geopera_server.domains.uploads.store import sessions
from geopera_server.kernel.context import Context
from geopera_server.kernel.operation import operation


class StepInput(BaseModel):
    """Which session, where it stands, and what is wrong with it."""

    upload_id: str
    status: Literal["detecting", "reviewing"]
    error_message: str | None = None
    error_step: str | None = None


class StepNoted(TypedDict):
    """What the session is now."""

    upload_id: str
    status: str


@operation("uploads.step.note", effect="compute", scope="admin:write", raw=True, internal=True)
async def note_step(ctx: Context, given: StepInput) -> StepNoted:
    """Notes where an open session stands, and keeps it from ending by itself."""
    upload = await locked_upload(ctx.conn, ctx.organization_id, given.upload_id)
    rules.require_open(upload)
    ctx.touch("upload", upload["id"])
    step = given.model_dump(exclude={"upload_id"})
    row = await sessions.move_on(ctx.conn, upload, {**step, "at": ctx.now, "expires_at": rules.idle_until(ctx.now)})
    return StepNoted(upload_id=row["id"], status=row["status"])


class ExpireInput(BaseModel):
    """Which session."""

    upload_id: str


@operation("uploads.step.expire", effect="compute", scope="admin:write", raw=True, internal=True)
async def expire(ctx: Context, given: ExpireInput) -> StepNoted:
    """Ends a session to which nothing has happened for a day; one that has gone on meanwhile is left alone."""
    upload = await locked_upload(ctx.conn, ctx.organization_id, given.upload_id)
    ctx.touch("upload", upload["id"])
    if upload["status"] in rules.ENDED or upload["expires_at"] > ctx.now:
        return StepNoted(upload_id=upload["id"], status=upload["status"])
    hours = int(rules.IDLE_FOR.total_seconds() // 3600)
    message = f"Nothing happened to this upload for {hours} hours. Begin another one with uploads.initiate."
    row = await close_failed(ctx, upload, message=message, step="expired")
    return StepNoted(upload_id=row["id"], status=row["status"])
