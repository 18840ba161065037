"""From rows to the shapes that are sent. No shape has a place for a hash, a password or where a file is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from geopera_server.domains.sharing.rules import status_of
from geopera_server.domains.sharing.shapes import SharedFile, SharedItem, ShareLink, TileKey, Visualization

Row = Mapping[str, Any]


def as_share_link(row: Row, at: datetime) -> ShareLink:
    """Returns a link as its makers see it."""
    return ShareLink(
        id=row["id"],
        target_type=row["target_type"],
        target_id=row["target_id"],
        permission=row["permission"],
        organization_id=row["organization_id"],
        project_id=row["project_id"],
        expires_at=row["expires_at"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        revoked_at=row["revoked_at"],
        access_count=row["access_count"],
        last_accessed_at=row["last_accessed_at"],
        token_prefix=row["token_prefix"],
        status=status_of(row, at),
    )


def as_tile_key(row: Row, at: datetime) -> TileKey:
    """Returns a tile key as its makers see it."""
    is_item = row["target_type"] == "item"
    return TileKey(
        id=row["id"],
        name=row["name"],
        organization_id=row["organization_id"],
        project_id=row["project_id"],
        item_id=row["target_id"] if is_item else None,
        collection_id=None if is_item else row["target_id"],
        status=status_of(row, at),
        created_by=row["created_by"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )


def as_shared_item(
    row: Row, *, base_url: str, ticket: str, until: datetime, visualizations: Sequence[Visualization]
) -> SharedItem:
    """Returns an item as visitors see it, until the share or the item ends, whichever comes first."""
    asked = urlencode({"token": ticket, "item_id": row["id"]})
    return SharedItem(
        id=row["id"],
        name=row["name"],
        type=row["type"],
        description=row["description"],
        datetime=row["datetime"],
        geometry=row["geometry"],
        bbox=row["bbox"],
        gsd=row["gsd"],
        cloud_cover=row["cloud_cover"],
        tilejson_url=f"{base_url}/v1/op/share.tilejson?{asked}",
        thumbnail_url=f"{base_url}/v1/op/share.thumbnail.render?{asked}",
        visualizations=list(visualizations),
        expires_at=until if row["expires_at"] is None else min(until, row["expires_at"]),
    )


def as_shared_file(row: Row, *, base_url: str, ticket: str) -> SharedFile:
    """Returns a file with an address to fetch it from: its own for one that lies elsewhere."""
    return SharedFile(
        id=row["id"],
        key=row["key"],
        title=row["title"],
        url=row["href"] if row["external"] else file_url(base_url, ticket, row["id"], row["file_name"]),
        media_type=row["media_type"],
        roles=row["roles"],
        file_name=row["file_name"],
        file_size_bytes=row["file_size_bytes"],
        checksum=row["checksum"],
    )


def file_url(base_url: str, ticket: str, asset_id: str, file_name: str) -> str:
    """Returns the address of a shared file; its name at the end is for those who save it."""
    return f"{base_url}/api/v1/shares/{ticket}/files/{asset_id}/{quote(file_name, safe='')}"


def tiles_url(base_url: str, ticket: str, item_id: str, *, profile: str | None, extension: str = "png") -> str:
    """Returns the address of a shared item's tiles, with {z}, {x} and {y} to be filled in."""
    asked = f"?{urlencode({'profile': profile})}" if profile else ""
    return f"{base_url}/api/v1/shares/{ticket}/tiles/{item_id}/{{z}}/{{x}}/{{y}}.{extension}{asked}"
