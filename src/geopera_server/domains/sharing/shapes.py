"""The shapes that sharing operations take and answer with."""

from __future__ import annotations

from datetime import datetime as Time  # noqa: N812  (a field has that name)
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from geopera_server.domains.sharing.rules import Status

AccessKind = Literal["validate", "tilejson", "download"]


class ShareLink(TypedDict):
    """A share link as its makers see it; the token was shown once."""

    id: str
    target_type: str
    target_id: str
    permission: str
    organization_id: str
    project_id: str
    expires_at: Time
    created_at: Time
    created_by: str | None
    revoked_at: Time | None
    access_count: int
    last_accessed_at: Time | None
    token_prefix: str
    status: Status


class ShareLinkPage(TypedDict):
    """A page of share links, newest first."""

    share_links: list[ShareLink]
    total: int
    limit: int
    offset: int


class Access(TypedDict):
    """One use of a link; of the address only its network is kept."""

    at: Time
    ip_prefix: str | None
    kind: AccessKind


class ShareLinkDetail(TypedDict):
    """A share link with what it was used for."""

    share_link: ShareLink
    accesses: list[Access]
    tile_requests: int
    egress_bytes: int


class SharedFile(TypedDict):
    """A file that may be downloaded; the address works as long as the link lives, for a day at most."""

    id: str
    key: str
    title: str | None
    url: str
    media_type: str
    roles: list[str]
    file_name: str
    file_size_bytes: int
    checksum: str | None


class Visualization(TypedDict):
    """One way to look at an item; `id` is the `profile` of tiles."""

    id: str
    label: str


class SharedItem(TypedDict):
    """An item as visitors see it."""

    id: str
    name: str
    type: str
    description: str | None
    datetime: Time | None
    geometry: dict[str, Any] | None
    bbox: list[float] | None
    gsd: float | None
    cloud_cover: float | None
    tilejson_url: str
    thumbnail_url: str
    visualizations: list[Visualization]
    expires_at: Time
    assets: NotRequired[list[SharedFile]]


class SharedCollection(TypedDict):
    """A collection as visitors see it, with its newest items."""

    id: str
    name: str
    description: str | None
    items: list[SharedItem]
    item_count: int


class OpenedFile(TypedDict):
    """Where the bytes of a shared file lie, for whoever sends them."""

    path: str
    file_name: str
    media_type: str


class TileKey(TypedDict):
    """A tile key as its makers see it; the key itself was shown once."""

    id: str
    name: str
    organization_id: str
    project_id: str
    item_id: str | None
    collection_id: str | None
    status: Status
    created_by: str | None
    created_at: Time
    expires_at: Time
    revoked_at: Time | None


class NewTileKey(TileKey):
    """A fresh tile key, shown this one time, and the address of tiles with it, in which a map fills in what is in braces."""

    key: str
    tile_url: str


class TileKeyPage(TypedDict):
    """A page of tile keys, newest first."""

    tile_keys: list[TileKey]
    total: int
    limit: int
    offset: int
