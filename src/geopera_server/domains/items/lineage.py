"""The contents of items, assets and collections as their lineage vouches for them.

Each is computed from the row as the database holds it, when it is recorded and again when it is verified. Left out is what may
change without a record: times, the collection that an item is filed under, names given to bands.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from geopera_server.db.pool import Connection
from geopera_server.domains.items import store

_ITEM_FIELDS = (
    "id", "organization_id", "project_id", "stac_id", "type", "name", "description", "datetime", "start_datetime",
    "end_datetime", "geometry", "bbox", "gsd", "cloud_cover", "properties", "stac_extensions", "lifecycle_state", "order_id",
    "job_id", "upload_id", "duplicated_from_id",
)  # fmt: skip
_ASSET_FIELDS = (
    "id", "organization_id", "project_id", "item_id", "key", "title", "href", "external", "media_type", "roles", "file_name",
    "file_size_bytes", "checksum", "band_count", "dtype", "nodata", "epsg", "width", "height", "gsd", "is_cog", "raster",
)  # fmt: skip
_COLLECTION_FIELDS = (
    "id", "organization_id", "project_id", "name", "description", "color", "layer_order", "show_on_map", "auto_created",
    "source_type", "source_id",
)  # fmt: skip

Row = Mapping[str, Any]
LiveState = Callable[[Connection, str, str], Awaitable[dict[str, Any] | None]]


def item_state(row: Row, assets: Iterable[Row]) -> dict[str, Any]:
    """Returns the content of an item with its live assets; adding or removing one changes the item too."""
    files = {asset["key"]: {"id": asset["id"], "checksum": asset["checksum"]} for asset in assets}
    return {name: row[name] for name in _ITEM_FIELDS} | {"assets": files, "is_deleted": row["deleted_at"] is not None}


def asset_state(row: Row) -> dict[str, Any]:
    """Returns the content of an asset."""
    return {name: row[name] for name in _ASSET_FIELDS} | {"is_deleted": row["deleted_at"] is not None}


def collection_state(row: Row) -> dict[str, Any]:
    """Returns the content of a collection, without what is filed under it."""
    return {name: row[name] for name in _COLLECTION_FIELDS} | {"is_deleted": row["deleted_at"] is not None}


async def _live_item(conn: Connection, organization_id: str, entity_id: str) -> dict[str, Any] | None:
    row = await store.item_of(conn, organization_id, entity_id)
    if row is None:
        return None
    return item_state(row, (await store.assets_of(conn, organization_id, [entity_id]))[row["id"]])


async def _live_asset(conn: Connection, organization_id: str, entity_id: str) -> dict[str, Any] | None:
    row = await store.asset_of(conn, organization_id, entity_id)
    return None if row is None else asset_state(row)


async def _live_collection(conn: Connection, organization_id: str, entity_id: str) -> dict[str, Any] | None:
    row = await store.collection_of(conn, organization_id, entity_id)
    return None if row is None else collection_state(row)


artifact_states: dict[str, LiveState] = {"item": _live_item, "asset": _live_asset, "collection": _live_collection}
