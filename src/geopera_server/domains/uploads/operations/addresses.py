"""Addresses that files are sent to."""

from __future__ import annotations

from pydantic import BaseModel, Field

from geopera_server.domains.uploads import rules
from geopera_server.domains.uploads.access import require_upload_write
from geopera_server.domains.uploads.granting import Grant, address
from geopera_server.domains.uploads.reserving import require_plan_allows, reserve_for
from geopera_server.domains.uploads.shapes import SignedUrlOutput
from geopera_server.domains.uploads.store import files, sessions
from geopera_server.domains.usage.quota import require_storage
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import InvalidInput
from geopera_server.kernel.operation import operation
from geopera_server.values.ids import new_id


class SignedUrlInput(BaseModel):
    """Which file is to come, by its base name, and the Content-Type it will be sent with."""

    upload_id: str
    file_name: str = Field(min_length=1)
    content_type: str = rules.DEFAULT_TYPE


@operation(
    "uploads.signed_url",
    effect="compute",
    scope="uploads:write",
    example={
        "upload_id": "0192d3c4-0000-7000-8000-000000000000",
        "file_name": "ortho.tif",
        "content_type": "image/tiff",
    },
)
async def signed_url(ctx: Context, given: SignedUrlInput) -> SignedUrlOutput:
    """Returns an address to PUT one file to, with the same Content-Type, within an hour.

    Asking again gives a fresh address for the same file; what has come of it is kept, and a complete PUT replaces it. Large
    files may be sent in parts with Content-Range, and continued after a broken connection.
    """
    _check(given)
    upload = await require_upload_write(ctx.conn, ctx.principal, given.upload_id, new_data=True)
    rules.require_open(upload)
    ctx.touch("upload", upload["id"])
    known = await files.files_of(ctx.conn, upload["organization_id"], upload["id"])
    if given.file_name not in {file["file_name"] for file in known} and len(known) >= upload["file_count"]:
        raise InvalidInput(
            f"This upload was begun with file_count {upload['file_count']}, and its files are"
            f" {', '.join(file['file_name'] for file in known)}. Begin one with more files.",
            loc=("file_name",),
        )
    held = await reserve_for(ctx, upload, known)
    await require_plan_allows(ctx, upload["organization_id"], held)
    if not upload["total_bytes"]:
        await require_storage(ctx.conn, upload["organization_id"], 1)
    file = await files.save_file(
        ctx.conn,
        {
            "id": new_id(),
            "organization_id": upload["organization_id"],
            "upload_id": upload["id"],
            "file_name": given.file_name,
            "content_type": given.content_type,
            "at": ctx.now,
        },
    )
    await sessions.move_on(
        ctx.conn,
        upload,
        {
            "status": "uploading", "error_message": None, "error_step": None, "at": ctx.now,
            "expires_at": rules.idle_until(ctx.now),
        },
    )  # fmt: skip
    grant = Grant(
        organization_id=upload["organization_id"],
        upload_id=upload["id"],
        file_id=file["id"],
        content_type=given.content_type,
        expires=int((ctx.now + rules.ADDRESS_LIVES_FOR).timestamp()),
    )
    return SignedUrlOutput(
        upload_url=address(ctx.links, grant, given.file_name), object_path=rules.object_path(upload, given.file_name)
    )


def _check(given: SignedUrlInput) -> None:
    problem = rules.file_name_problem(given.file_name)
    if problem is not None:
        raise InvalidInput(f"A file name {problem}.", loc=("file_name",))
    if not rules.is_media_type(given.content_type):
        raise InvalidInput("Give a media type such as image/tiff.", loc=("content_type",))
