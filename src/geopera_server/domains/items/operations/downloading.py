"""Giving out addresses to download from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from geopera_server.domains.items import rules, store
from geopera_server.domains.items.access import require_item_read
from geopera_server.domains.items.egress import count_egress
from geopera_server.domains.items.shapes import Download
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Gone, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.values.ids import is_id

_EXAMPLE = {
    "item_id": "0192d3c4-0000-7000-8000-000000000000",
    "asset_id": "0192d3c4-0000-7000-8000-000000000001",
}


class AssetDownloadInput(BaseModel):
    """Which file of which item."""

    item_id: str
    asset_id: str


@operation("items.asset.download", effect="share_export", scope="items:read", raw=True, example=_EXAMPLE)
async def download(ctx: Context, given: AssetDownloadInput) -> Download:
    """Returns an address that serves one file of an item for 15 minutes to whoever holds it.

    The file's size counts once as egress for each caller and address's life. Files that lie elsewhere answer with their own
    address and count nothing.
    """
    item = await require_item_read(ctx.conn, ctx.principal, given.item_id)
    asset = await store.asset_of(ctx.conn, item["organization_id"], given.asset_id) if is_id(given.asset_id) else None
    if asset is None or asset["item_id"] != item["id"] or asset["deleted_at"] is not None:
        raise NotFound("asset")
    if item["lifecycle_state"] == rules.EXPIRED:
        raise Gone(
            "The files of this item were kept until it expired. Order it again to have them back.", code="retention_expired"
        )
    ctx.touch("item", item["id"])
    ctx.touch("asset", asset["id"])
    expires_at = rules.link_expiry(ctx.now)
    principal_id = ctx.principal.id if ctx.principal.id is not None and is_id(ctx.principal.id) else asset["organization_id"]
    egress = await count_egress(ctx.conn, asset, principal_id=principal_id, at=ctx.now)
    return Download(
        url=_url(ctx, asset),
        method="GET",
        expires_at=expires_at,
        expires_in=rules.LINK_TTL_S,
        file_name=asset["file_name"],
        media_type=asset["media_type"],
        file_size_bytes=asset["file_size_bytes"],
        checksum=asset["checksum"],
        egress=egress,
    )


class AssetInput(BaseModel):
    """Which file, whatever item it is of."""

    asset_id: str


@operation("items.asset.download_by_id", effect="share_export", scope="items:read", raw=True, internal=True)
async def download_by_id(ctx: Context, given: AssetInput) -> Download:
    """Returns an address that serves one file, as items.asset.download does."""
    asset = await store.asset_of(ctx.conn, ctx.organization_id, given.asset_id) if is_id(given.asset_id) else None
    if asset is None:
        raise NotFound("asset")
    return await download(ctx, AssetDownloadInput(item_id=asset["item_id"], asset_id=asset["id"]))


def _url(ctx: Context, asset: Mapping[str, Any]) -> str:
    if asset["external"]:
        return str(asset["href"])
    return ctx.links.download(
        asset["href"],
        file_name=asset["file_name"],
        media_type=asset["media_type"],
        expires_at=rules.link_expiry(ctx.now),
    )
