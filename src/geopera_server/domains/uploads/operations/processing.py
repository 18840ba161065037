"""What the work on an uploaded item does to it, as operations like any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from typing_extensions import TypedDict

from geopera_server.db.pool import Row
from geopera_server.domains.items.changing import about_to_change, changed
from geopera_server.domains.items.registration import NewAsset, ensure_collection_for, replace_asset
from geopera_server.domains.uploads.access import locked_upload
from geopera_server.domains.uploads.store import files, items, sessions
from geopera_server.domains.visualization.profiles import auto_profiles
from geopera_server.kernel.context import Context
from geopera_server.kernel.crashing import crash_point
from geopera_server.kernel.errors import NotFound
from geopera_server.kernel.jobs import finish, progressed, require_lease
from geopera_server.kernel.operation import operation

FAILURE_NOTE = "geopera:processing"


class Attempt(BaseModel):
    """Which upload's item is worked on, and by whom."""

    upload_id: str
    job_id: str
    attempt: int


class ConvertedAsset(Attempt):
    """A file in storage that is to take the place of the one that came."""

    asset_id: str
    asset: dict[str, Any]


class Processed(TypedDict):
    """What was worked on."""

    upload_id: str
    item_id: str


@operation(
    "uploads.processing.replace", effect="compute", scope="admin:write", produces=("asset", "item"), raw=True, internal=True
)
async def replace(ctx: Context, given: ConvertedAsset) -> Processed:
    """Puts a converted file in the place of the one that came; names that bands were given stay."""
    upload = await _upload(ctx, given)
    assets = await files.live_assets(ctx.conn, ctx.organization_id, upload["id"])
    asset = next((each for each in assets if each["id"] == given.asset_id), None)
    if asset is None:
        raise NotFound("asset")
    await replace_asset(ctx, asset, _replacement(asset, given.asset))
    await progressed(ctx.conn, given.job_id, given.attempt)
    crash_point("upload-result-before-commit")
    return Processed(upload_id=upload["id"], item_id=upload["item_id"])


def _replacement(asset: Row, new: Mapping[str, Any]) -> NewAsset:
    named = len(asset["band_names"]) == new["band_count"]
    kept = {"key": asset["key"], "title": asset["title"], "roles": asset["roles"]}
    return NewAsset(**{**new, **kept, "band_names": asset["band_names"] if named else new["band_names"]})


@operation("uploads.processing.finish", effect="compute", scope="admin:write", raw=True, internal=True)
async def finish_processing(ctx: Context, given: Attempt) -> Processed:
    """Gives the item its profiles and, where it is in none, a collection of its own; ends the work."""
    upload = await _upload(ctx, given)
    assets = await files.live_assets(ctx.conn, ctx.organization_id, upload["id"])
    if assets:
        before = await about_to_change(ctx, ctx.organization_id, upload["item_id"])
        row = await changed(ctx, before) if await _filed(ctx, upload, before.row) else before.row
        await auto_profiles(ctx, row, assets)
    await sessions.note_processing(ctx.conn, ctx.organization_id, upload["id"], state="done", at=ctx.now)
    await finish(ctx.conn, given.job_id, given.attempt)
    crash_point("upload-finish-before-commit")
    return Processed(upload_id=upload["id"], item_id=upload["item_id"])


async def _filed(ctx: Context, upload: Row, item: Row) -> bool:
    """Says whether the item was filed under a collection of its own: an item that was in none, and that the upload made."""
    if item["collection_id"] is not None or upload["target_item_id"] is not None:
        return False
    collection_id = await ensure_collection_for(
        ctx, project_id=item["project_id"], source_type="upload", source_id=upload["id"], name=item["name"]
    )
    return await items.file_under(ctx.conn, ctx.organization_id, item["id"], collection_id)


class FailedProcessing(Attempt):
    """At which step the work ended, and why, in words for the customer."""

    step: str
    reason: str


@operation("uploads.processing.fail", effect="compute", scope="admin:write", raw=True, internal=True)
async def fail_processing(ctx: Context, given: FailedProcessing) -> Processed:
    """Ends work that cannot be done: upload and item say why, and the item keeps the file as it came."""
    upload = await _upload(ctx, given)
    if await files.live_assets(ctx.conn, ctx.organization_id, upload["id"]):
        before = await about_to_change(ctx, ctx.organization_id, upload["item_id"])
        note = {FAILURE_NOTE: {"state": "failed", "step": given.step, "message": given.reason}}
        await items.note_on_item(ctx.conn, ctx.organization_id, before.row["id"], note)
        await changed(ctx, before)
    await sessions.note_processing(
        ctx.conn,
        ctx.organization_id,
        upload["id"],
        state="failed",
        at=ctx.now,
        error_message=given.reason,
        error_step=given.step,
    )
    await finish(ctx.conn, given.job_id, given.attempt, error=given.reason)
    return Processed(upload_id=upload["id"], item_id=upload["item_id"])


async def _upload(ctx: Context, given: Attempt) -> Row:
    """Returns the completed session, locked, as long as the attempt is the present one."""
    upload = await locked_upload(ctx.conn, ctx.organization_id, given.upload_id)
    await require_lease(ctx.conn, given.job_id, given.attempt)
    ctx.touch("upload", upload["id"])
    return upload
