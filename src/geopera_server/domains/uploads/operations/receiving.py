"""What an arriving file does to its session, as operations like any other; the bytes are in storage before they are told of."""

from __future__ import annotations

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from geopera_server.db.pool import Row
from geopera_server.domains.billing.limits import plan_limit
from geopera_server.domains.uploads import rules
from geopera_server.domains.uploads.access import locked_upload
from geopera_server.domains.uploads.reserving import reserve_for
from geopera_server.domains.uploads.store import files, sessions
from geopera_server.domains.usage.quota import require_storage
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, Denied, NotFound, TooLarge
from geopera_server.kernel.operation import operation
from geopera_server.values.ids import new_id


class FileOfUpload(BaseModel):
    """Which file of which session."""

    upload_id: str
    file_id: str


class OpenTransferInput(FileOfUpload):
    """Which file is to come, and how many bytes it has, if that is known."""

    expected_bytes: int | None = Field(None, ge=0)


class Transfer(TypedDict):
    """Where a file's bytes go, how many may come, and how far they have come; `size_bytes` is of the file as it is stored."""

    file_name: str
    object_path: str
    folder: str
    limit_bytes: int
    size_bytes: int | None
    sha256: str | None
    crc32c: str | None
    transfer_id: str | None
    transfer_bytes: int | None
    received_bytes: int


@operation("uploads.transfer.open", effect="read", scope="admin:write", raw=True, internal=True)
async def open_transfer(ctx: Context, given: OpenTransferInput) -> Transfer:
    """Says where the bytes of a file go and how many may come; refuses what the session or the quota has no room for."""
    upload = await sessions.upload_of(ctx.conn, given.upload_id, organization_id=ctx.organization_id, everywhere=False)
    if upload is None:
        raise NotFound("upload")
    rules.require_open(upload)
    _require_takes_new_data(upload)
    known = await files.files_of(ctx.conn, ctx.organization_id, upload["id"])
    file = _file(known, given.file_id)
    if not upload["total_bytes"] and given.expected_bytes is not None:
        wanted = sum(rules.weight(each) for each in known if each["id"] != file["id"]) + given.expected_bytes
        await require_storage(ctx.conn, ctx.organization_id, wanted - upload["reserved_bytes"])
    return Transfer(
        file_name=file["file_name"],
        object_path=rules.object_path(upload, file["file_name"]),
        folder=rules.folder_of(upload),
        limit_bytes=await _room(ctx, upload, known, file["id"]),
        size_bytes=file["size_bytes"],
        sha256=file["sha256"],
        crc32c=file["crc32c"],
        transfer_id=file["transfer_id"],
        transfer_bytes=file["transfer_bytes"],
        received_bytes=file["received_bytes"],
    )


def _require_takes_new_data(upload: Row) -> None:
    """Raises Conflict or Denied: an address outlives the moment it was given out in."""
    if upload["project_is_archived"]:
        raise Conflict(
            "This project is archived and takes nothing new. Un-archive it with projects.archive, is_archived false.",
            code="illegal_state",
        )
    if upload["organization_standing"] == "suspended":
        raise Denied("Your organization is suspended and uploads nothing. Settle what is open.", code="org_suspended")


class StoredFile(FileOfUpload):
    """A file that lies complete in storage; `transfer_id` when it was made of parts."""

    path: str
    size_bytes: int
    sha256: str
    crc32c: str
    transfer_id: str | None = None


class Received(TypedDict):
    """The objects that a file replaces, which nobody needs any more."""

    replaced: list[str]


@operation("uploads.transfer.stored", effect="compute", scope="admin:write", raw=True, internal=True)
async def stored(ctx: Context, given: StoredFile) -> Received:
    """Makes a stored object the file, in place of what it was before, and keeps the session from ending by itself."""
    upload, file = await _open_file(ctx, given)
    if given.transfer_id is not None and file["transfer_id"] != given.transfer_id:
        raise overtaken()
    replaced = await files.forget_parts(ctx.conn, ctx.organization_id, file["id"])
    replaced += [file["stored_path"]] if file["stored_path"] else []
    row = {**given.model_dump(), "organization_id": ctx.organization_id, "at": ctx.now}
    await files.set_stored(ctx.conn, row)
    await _received(ctx, upload, file["id"])
    return Received(replaced=replaced)


class BegunTransfer(FileOfUpload):
    """A file that will come in parts, of so many bytes if that is known."""

    total_bytes: int | None = Field(None, ge=0)


class Begun(TypedDict):
    """What the parts belong to; the parts of a transfer that this one replaces."""

    transfer_id: str
    replaced: list[str]


@operation("uploads.transfer.begin", effect="compute", scope="admin:write", raw=True, internal=True)
async def begin(ctx: Context, given: BegunTransfer) -> Begun:
    """Begins to take a file in parts; what had come in parts before is given up, what is stored stays until the end."""
    upload, file = await _open_file(ctx, given)
    replaced = await files.forget_parts(ctx.conn, ctx.organization_id, file["id"])
    transfer_id = new_id()
    await files.begin_transfer(
        ctx.conn, ctx.organization_id, file["id"], transfer_id=transfer_id, total_bytes=given.total_bytes
    )
    await _received(ctx, upload, file["id"])
    return Begun(transfer_id=transfer_id, replaced=replaced)


class StoredPart(FileOfUpload):
    """A part that lies in storage, and how many bytes the whole file has, if that is known by now."""

    transfer_id: str
    start_byte: int
    size_bytes: int = Field(gt=0)
    path: str
    total_bytes: int | None = None


class PartReceived(TypedDict):
    """How far the transfer has come."""

    received_bytes: int


@operation("uploads.transfer.part", effect="compute", scope="admin:write", raw=True, internal=True)
async def part(ctx: Context, given: StoredPart) -> PartReceived:
    """Adds a stored part to its transfer; refuses one that is not the next, because another sender was faster."""
    upload, file = await _open_file(ctx, given)
    if not await files.add_part(ctx.conn, {**given.model_dump(), "organization_id": ctx.organization_id}):
        raise overtaken()
    await _received(ctx, upload, file["id"])
    return PartReceived(received_bytes=file["received_bytes"] + given.size_bytes)


async def _open_file(ctx: Context, given: FileOfUpload) -> tuple[Row, Row]:
    """Returns an open session, locked, and its file."""
    upload = await locked_upload(ctx.conn, ctx.organization_id, given.upload_id)
    rules.require_open(upload)
    ctx.touch("upload", upload["id"])
    return upload, _file(await files.files_of(ctx.conn, ctx.organization_id, upload["id"]), given.file_id)


def _file(known: list[Row], file_id: str) -> Row:
    found = next((file for file in known if file["id"] == file_id), None)
    if found is None:
        raise NotFound("upload")
    return found


async def _room(ctx: Context, upload: Row, known: list[Row], file_id: str) -> int:
    """Returns how many bytes one of the files may have."""
    plan_bytes = await plan_limit(ctx.conn, ctx.organization_id, "max_upload_bytes")
    return rules.room_for(upload, (each for each in known if each["id"] != file_id), plan_bytes=plan_bytes)


async def _received(ctx: Context, upload: Row, file_id: str) -> None:
    """Makes the session hold what has come, and moves on the moment at which it would end by itself.

    Raises TooLarge: while this file came, another may have taken its room.
    """
    known = await files.files_of(ctx.conn, ctx.organization_id, upload["id"])
    limit_bytes = await _room(ctx, upload, known, file_id)
    if rules.weight(_file(known, file_id)) > limit_bytes:
        raise too_large(limit_bytes)
    await reserve_for(ctx, upload, known)
    come = sum((file["size_bytes"] or 0) if file["transfer_id"] is None else file["received_bytes"] for file in known)
    await sessions.move_on(ctx.conn, upload, {"bytes": come, "at": ctx.now, "expires_at": rules.idle_until(ctx.now)})


def too_large(limit_bytes: int) -> TooLarge:
    """Returns the refusal of more bytes than a file may have."""
    return TooLarge(
        f"This file may have {limit_bytes:,} bytes: no more were declared for the upload, or the plan lets one upload have no"
        " more. Begin another upload with the size it has, or change to a larger plan."
    )


def overtaken() -> Conflict:
    """Returns the refusal of what another sender has made useless."""
    return Conflict("Another sender has begun or continued this file meanwhile. Ask how far it has come, and go on from there.")
