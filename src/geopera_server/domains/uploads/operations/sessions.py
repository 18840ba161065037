"""Sessions: beginning one, saying how it goes, giving up, and looking them up."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast, get_args

from pydantic import BaseModel, BeforeValidator, Field
from typing_extensions import TypedDict

from geopera_server.domains.identity.access import project_access, require_project_read, require_project_write
from geopera_server.domains.items.access import require_collection_in, require_item_read
from geopera_server.domains.uploads import rules
from geopera_server.domains.uploads.access import require_upload_read, require_upload_write
from geopera_server.domains.uploads.closing import close_failed
from geopera_server.domains.uploads.presenting import as_file, as_output, as_upload
from geopera_server.domains.uploads.reserving import require_plan_allows
from geopera_server.domains.uploads.shapes import Upload, UploadFile, UploadOutput
from geopera_server.domains.uploads.store import files, sessions
from geopera_server.domains.usage.quota import require_storage
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, InvalidInput, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.kernel.paging import MAX_OFFSET, clamped
from geopera_server.values.ids import new_id

_EXAMPLE_ID = "0192d3c4-0000-7000-8000-000000000000"
REPORTED = frozenset({"uploading", "detecting", "converting", "reviewing", "registering"})


def _published_word(value: Any) -> Any:
    # A published guide calls sending files to signed addresses by that name.
    return "browser" if value == "signed_url" else value


class UploadInitiate(BaseModel):
    """Where the data is to go, and how much of it will come; 0 bytes when that is not known yet."""

    project_id: str
    file_count: int = Field(1, ge=1, le=rules.MAX_FILES)
    total_bytes: int = Field(0, ge=0, le=rules.MAX_BYTES)
    transfer_method: Annotated[Literal["browser", "cli", "cloud_transfer"], BeforeValidator(_published_word)] = "browser"
    target_collection_id: str | None = None
    target_item_id: str | None = None
    asset_key: str | None = Field(None, min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f/\\]+$")
    is_categorical: bool = False


@operation(
    "uploads.initiate",
    effect="compute",
    scope="uploads:write",
    idempotent=True,
    example={"project_id": _EXAMPLE_ID, "file_count": 1, "total_bytes": 4_026_886},
)
async def initiate(ctx: Context, given: UploadInitiate) -> UploadOutput:
    """Begins an upload and reserves room for the bytes it is declared to have; without a number, room is taken as files come.

    The session ends by itself when nothing happens to it for 24 hours. Its files become a new item, or with `target_item_id`
    an asset of that item; values of a class raster keep their numbers with `is_categorical`.
    """
    project_id = await require_project_write(ctx.conn, ctx.principal, given.project_id, new_data=True)
    organization_id = (await project_access(ctx.conn, ctx.principal, project_id)).organization_id
    await _check_target(ctx, given, organization_id)
    await require_plan_allows(ctx, organization_id, given.total_bytes)
    await require_storage(ctx.conn, organization_id, given.total_bytes)
    row = await sessions.insert_upload(
        ctx.conn,
        {
            **given.model_dump(),
            "id": new_id(),
            "organization_id": organization_id,
            "project_id": project_id,
            "created_by": ctx.principal.user_id,
            "at": ctx.now,
            "expires_at": rules.idle_until(ctx.now),
        },
    )
    ctx.touch("upload", row["id"])
    return as_output(row)


async def _check_target(ctx: Context, given: UploadInitiate, organization_id: str) -> None:
    """Raises NotFound for a collection or item that is not in the project, Conflict for a key that the item has already."""
    if given.target_collection_id is not None:
        await require_collection_in(ctx.conn, given.project_id, given.target_collection_id)
    if given.target_item_id is None:
        return
    if given.target_collection_id is not None:
        raise InvalidInput(
            "An item that is there already stays in its collection. Give target_item_id or target_collection_id.",
            loc=("target_collection_id",),
        )
    item = await require_item_read(ctx.conn, ctx.principal, given.target_item_id)
    if item["project_id"] != given.project_id:
        raise NotFound("item")
    if given.asset_key and await sessions.key_is_taken(ctx.conn, organization_id, item["id"], given.asset_key):
        raise Conflict(f"This item has an asset {given.asset_key!r} already. Choose another key, or delete that asset first.")


class UploadProgressInput(BaseModel):
    """How far a client has come, as it sees it."""

    upload_id: str
    bytes_uploaded: int | None = Field(None, le=rules.MAX_BYTES)
    status: str | None = None


@operation(
    "uploads.progress",
    effect="compute",
    scope="uploads:write",
    example={"upload_id": _EXAMPLE_ID, "bytes_uploaded": 1_048_576, "status": "uploading"},
)
async def progress(ctx: Context, given: UploadProgressInput) -> UploadOutput:
    """Notes what a client reports of its upload, and keeps the session from ending by itself; bytes never go down."""
    if given.status is not None and given.status not in REPORTED:
        raise InvalidInput(
            f"Report one of {', '.join(sorted(REPORTED))}; sessions end with uploads.complete and uploads.fail.",
            loc=("status",),
            code="unknown_field_value" if given.status not in get_args(rules.Status) else None,
        )
    upload = await require_upload_write(ctx.conn, ctx.principal, given.upload_id)
    rules.require_open(upload)
    ctx.touch("upload", upload["id"])
    moved = {"bytes": given.bytes_uploaded or 0, "status": given.status, "at": ctx.now}
    return as_output(await sessions.move_on(ctx.conn, upload, {**moved, "expires_at": rules.idle_until(ctx.now)}))


class UploadFailInput(BaseModel):
    """Why an upload is given up, in words for whoever looks it up later."""

    upload_id: str
    error_message: str = Field(max_length=10_000)
    error_step: str | None = Field(None, max_length=200)


@operation(
    "uploads.fail",
    effect="compute",
    scope="uploads:write",
    example={"upload_id": _EXAMPLE_ID, "error_message": "The camera's card could not be read.", "error_step": "uploading"},
)
async def fail(ctx: Context, given: UploadFailInput) -> UploadOutput:
    """Gives an upload up: its room is free again, and what came of it is removed. Doing so again changes nothing."""
    upload = await require_upload_write(ctx.conn, ctx.principal, given.upload_id)
    ctx.touch("upload", upload["id"])
    if upload["status"] == "failed":
        return as_output(upload)
    rules.require_open(upload)
    return as_output(await close_failed(ctx, upload, message=given.error_message, step=given.error_step))


class UploadsListInput(BaseModel):
    """Which project's sessions."""

    project_id: str
    status: rules.Status | None = None
    limit: int = Field(50, ge=1)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)


class UploadList(TypedDict):
    """One page of sessions."""

    uploads: list[Upload]
    total: int
    limit: int
    offset: int


@operation(
    "uploads.list",
    effect="read",
    scope="uploads:read",
    raw=True,
    extension=True,
    example={"project_id": _EXAMPLE_ID, "limit": 20},
)
async def list_uploads(ctx: Context, given: UploadsListInput) -> UploadList:
    """Lists a project's uploads, newest first."""
    project_id = await require_project_read(ctx.conn, ctx.principal, given.project_id)
    organization_id = (await project_access(ctx.conn, ctx.principal, project_id)).organization_id
    limit, status = clamped(given.limit), cast("str | None", given.status)
    rows = await sessions.uploads_page(ctx.conn, organization_id, project_id, status=status, limit=limit, offset=given.offset)
    total = await sessions.uploads_total(ctx.conn, organization_id, project_id, status=status)
    return UploadList(uploads=[as_upload(row) for row in rows], total=total, limit=limit, offset=given.offset)


class UploadGetInput(BaseModel):
    """Which session."""

    upload_id: str


class UploadDetails(TypedDict):
    """A session with its files."""

    upload: Upload
    files: list[UploadFile]


@operation("uploads.get", effect="read", scope="uploads:read", raw=True, extension=True, example={"upload_id": _EXAMPLE_ID})
async def get(ctx: Context, given: UploadGetInput) -> UploadDetails:
    """Shows an upload and how much of each of its files has come.

    Of a completed one, `detected_metadata.processing` tells how far the work on its item has come: queued, done or failed.
    """
    upload = await require_upload_read(ctx.conn, ctx.principal, given.upload_id)
    rows = await files.files_of(ctx.conn, upload["organization_id"], upload["id"])
    return UploadDetails(upload=as_upload(upload), files=[as_file(upload, row) for row in rows])
