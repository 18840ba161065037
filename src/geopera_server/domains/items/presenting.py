"""From rows to the shapes that are sent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from geopera_server.domains.items.rules import joined_bbox
from geopera_server.domains.items.shapes import Asset, CollectionFull, CollectionRow, ItemFull, ItemResponse, TimeRange

Row = Mapping[str, Any]


def as_item_response(row: Row) -> ItemResponse:
    """Returns an item as lists show it."""
    return ItemResponse(
        id=row["id"],
        project_id=row["project_id"],
        collection_id=row["collection_id"],
        stac_id=row["stac_id"],
        type=row["type"],
        name=row["name"],
        description=row["description"],
        datetime=row["datetime"],
        start_datetime=row["start_datetime"],
        end_datetime=row["end_datetime"],
        geometry=row["geometry"],
        bbox=row["bbox"],
        gsd=row["gsd"],
        cloud_cover=row["cloud_cover"],
        properties=row["properties"],
        stac_extensions=row["stac_extensions"],
        lifecycle_state=row["lifecycle_state"],
        order_id=row["order_id"],
        job_id=row["job_id"],
        upload_id=row["upload_id"],
        duplicated_from_id=row["duplicated_from_id"],
        previous_version_id=None,
        created_by=row["created_by"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        expires_at=row["expires_at"],
        archived_at=row["archived_at"],
        deleted_at=row["deleted_at"],
    )


def as_item_full(row: Row, assets: Sequence[Row], *, default_profile_id: str | None) -> ItemFull:
    """Returns an item with its assets; the row must know the collection's name."""
    return ItemFull(
        **as_item_response(row),
        organization_id=row["organization_id"],
        collection_name=row["collection_name"],
        assets=[as_asset(asset) for asset in assets],
        asset_count=len(assets),
        storage_bytes=storage_bytes(assets),
        default_profile_id=default_profile_id,
    )


def as_asset(row: Row) -> Asset:
    """Returns a file of an item as it is stored."""
    return Asset(
        id=row["id"],
        item_id=row["item_id"],
        project_id=row["project_id"],
        key=row["key"],
        title=row["title"],
        href=row["href"],
        media_type=row["media_type"],
        roles=row["roles"],
        file_name=row["file_name"],
        file_size_bytes=row["file_size_bytes"],
        checksum=row["checksum"],
        band_names=row["band_names"],
        band_count=row["band_count"],
        dtype=row["dtype"],
        nodata=shown_nodata(row["nodata"]),
        epsg=row["epsg"],
        width=row["width"],
        height=row["height"],
        gsd=row["gsd"],
        is_cog=row["is_cog"],
        statistics=row["statistics"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def as_collection_response(row: Row, *, item_count: int) -> CollectionRow:
    """Returns a collection with how many live items it holds."""
    return CollectionRow(
        id=row["id"],
        project_id=row["project_id"],
        name=row["name"],
        description=row["description"],
        color=row["color"],
        layer_order=row["layer_order"],
        show_on_map=row["show_on_map"],
        auto_created=row["auto_created"],
        source_type=row["source_type"],
        source_id=row["source_id"],
        item_count=item_count,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        deleted_at=row["deleted_at"],
    )


def as_collection_full(row: Row, figures: Row) -> CollectionFull:
    """Returns a collection with the figures that the store has summed over its live items."""
    return CollectionFull(
        **as_collection_response(row, item_count=figures["items"]),
        bbox=joined_bbox(figures),
        datetime_range=time_range(figures),
        storage_bytes=figures["storage_bytes"],
    )


def time_range(figures: Row) -> TimeRange | None:
    """Returns from when to when items are; None where there are none."""
    return None if figures["starts"] is None else TimeRange(start=figures["starts"], end=figures["ends"])


def storage_bytes(assets: Sequence[Row]) -> int:
    """Returns what assets take in own storage; references to outside files and files that have expired take nothing."""
    return sum(asset["file_size_bytes"] for asset in assets if not asset["external"] and asset["expired_at"] is None)


def shown_nodata(value: float | None) -> float | str | None:
    """Returns a no-data value as JSON can hold it: a number, or "nan", "inf", "-inf" as STAC's raster extension writes them."""
    if value is None or math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
