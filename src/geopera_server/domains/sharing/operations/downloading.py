"""Opening shared files for whoever sends their bytes."""

from __future__ import annotations

import uuid

from pydantic import BaseModel

from geopera_server.db.pool import Row
from geopera_server.domains.items.egress import count_egress
from geopera_server.domains.sharing import rules
from geopera_server.domains.sharing.shapes import OpenedFile
from geopera_server.domains.sharing.store import visits as store
from geopera_server.domains.sharing.visiting import Visit, visited_with_ticket, visitor_of
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Denied, Gone, NotFound, RateLimited
from geopera_server.kernel.operation import operation
from geopera_server.values.ids import is_id


class ShareFileInput(BaseModel):
    """A share ticket, and which file."""

    token: str
    asset_id: str


@operation(
    "share.file.open",
    effect="share_export",
    scope="shares:read",
    public=True,
    raw=True,
    internal=True,
    while_suspended=True,
    rate_class="tiles",
)
async def open_file(ctx: Context, given: ShareFileInput) -> OpenedFile:
    """Lets a visitor of a share have one file, counted as egress of the sharer once per visitor and quarter of an hour."""
    visit = await visited_with_ticket(ctx.conn, ctx.links, given.token, ctx.now)
    if visit.link["permission"] != "download":
        raise Denied("This link is for looking only. Ask whoever sent it for one that lets you download.")
    file = await _file(ctx, visit, given.asset_id)
    ctx.touch("share_link", visit.link["id"])
    ctx.touch("asset", file["id"])
    visitor = visitor_of(ctx.secrets, ctx.asked)
    downloader = str(uuid.UUID(bytes=ctx.secrets.digest("share_downloads", f"{visit.link['id']}/{visitor.hex()}")[:16]))
    try:
        counted = (await count_egress(ctx.conn, file, principal_id=downloader, at=ctx.now))["counted_bytes"]
    except RateLimited as error:
        raise RateLimited(
            "Whoever shares this has no downloads left this month. Ask them, or come back next month.",
            code=error.code,
            retry_after_s=error.retry_after_s,
        ) from error
    if counted:
        await store.count_egress(ctx.conn, visit.link["id"], counted)
        await store.count_access(
            ctx.conn,
            visit.link["id"],
            at=ctx.now,
            kind="download",
            ip_prefix=rules.ip_prefix(ctx.asked.ip),
            kept=rules.ACCESSES_KEPT,
        )
    return OpenedFile(path=file["href"], file_name=file["file_name"], media_type=file["media_type"])


async def _file(ctx: Context, visit: Visit, asset_id: str) -> Row:
    """Returns a file in own storage of an item that the link is for; raises NotFound, or Gone once the item has expired."""
    file = await store.file_of(ctx.conn, visit.organization_id, asset_id) if is_id(asset_id) else None
    if file is None or file["external"] or not visit.holder.reaches(file["item_id"], file["collection_id"]):
        raise NotFound("file")
    if file["lifecycle_state"] == "expired":
        raise Gone("This item has expired and its files are gone.", code="retention_expired")
    return file
