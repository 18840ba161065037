"""The shapes that item operations answer with."""

from __future__ import annotations

from datetime import datetime as Time  # noqa: N812  (a field has that name)
from typing import Any, NotRequired

from typing_extensions import TypedDict


class ItemResponse(TypedDict):
    """An item as lists show it."""

    id: str
    project_id: str
    collection_id: str | None
    stac_id: str
    type: str
    name: str
    description: str | None
    datetime: Time | None
    start_datetime: Time | None
    end_datetime: Time | None
    geometry: dict[str, Any] | None
    bbox: list[float] | None
    gsd: float | None
    cloud_cover: float | None
    properties: dict[str, Any]
    stac_extensions: list[str]
    lifecycle_state: str
    order_id: str | None
    job_id: str | None
    upload_id: str | None
    duplicated_from_id: str | None
    previous_version_id: str | None
    created_by: str | None
    created_at: Time
    updated_at: Time
    expires_at: Time | None
    archived_at: Time | None
    deleted_at: Time | None


class Asset(TypedDict):
    """A file of an item; `href` is where it is stored, and no address to download from."""

    id: str
    item_id: str
    project_id: str
    key: str
    title: str | None
    href: str
    media_type: str
    roles: list[str]
    file_name: str
    file_size_bytes: int
    checksum: str | None
    band_names: list[str]
    band_count: int | None
    dtype: str | None
    nodata: float | str | None
    epsg: int | None
    width: int | None
    height: int | None
    gsd: float | None
    is_cog: bool | None
    statistics: list[dict[str, Any]] | None
    created_at: Time
    updated_at: Time


class ItemFull(ItemResponse):
    """An item with all that belongs to it."""

    organization_id: str
    collection_name: str | None
    assets: list[Asset]
    asset_count: int
    storage_bytes: int
    default_profile_id: str | None


class CollectionRow(TypedDict):
    """A collection of items in a project."""

    id: str
    project_id: str
    name: str
    description: str | None
    color: str | None
    layer_order: int
    show_on_map: bool
    auto_created: bool
    source_type: str | None
    source_id: str | None
    item_count: int
    created_at: Time
    updated_at: Time
    deleted_at: Time | None


class TimeRange(TypedDict):
    """From the earliest to the latest moment that items show."""

    start: Time
    end: Time


class CollectionFull(CollectionRow):
    """A collection with what its live items cover and take."""

    bbox: list[float] | None
    datetime_range: TimeRange | None
    storage_bytes: int


class CollectionList(TypedDict):
    """The collections of a project, and how many of its items are in none."""

    collections: list[CollectionRow]
    total: int
    uncollected_count: int


class ItemPage(TypedDict):
    """A page of items, newest first."""

    items: list[ItemResponse]
    total: int
    limit: int
    offset: int


class CollectionItemPage(ItemPage):
    """A page of a collection's items, newest first."""

    collection_id: str
    project_id: str


class AssetList(TypedDict):
    """The files of an item."""

    assets: list[Asset]
    total: int
    storage_bytes: int


class Egress(TypedDict):
    """What a download counts, and how far the month's limit is used; a limit of null is none."""

    counted_bytes: int
    period_used_bytes: int
    period_limit_bytes: int | None


class Download(TypedDict):
    """An address to fetch a file from, and what it counts."""

    url: str
    method: str
    expires_at: Time
    expires_in: int
    file_name: str
    media_type: str
    file_size_bytes: int
    checksum: str | None
    egress: Egress


class FamilyNode(TypedDict):
    """One relative of an item, with its own towards the same side; what was shown before stands without them."""

    entity_type: str
    entity_id: str
    name: str | None
    relation: str
    invocation_id: str
    created_at: Time
    parents: NotRequired[list[FamilyNode]]
    children: NotRequired[list[FamilyNode]]


class ItemFamily(TypedDict):
    """What an item was made from and what was made from it."""

    item_id: str
    parents: list[FamilyNode]
    children: list[FamilyNode]
