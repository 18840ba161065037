"""Items as plain GeoJSON features, their columns among the properties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.items.featured import rows_of
from geopera_server.domains.items.presenting import as_item_response


async def rows_in_order(conn: Connection, organization_id: str, found: Sequence[Row]) -> list[Row]:
    """Returns the items of a page's rows, in the page's order."""
    rows = {row["id"]: row for row in await rows_of(conn, organization_id, [row["id"] for row in found])}
    return [rows[row["id"]] for row in found if row["id"] in rows]


def as_feature(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an item as a GeoJSON feature: its own properties, and over them its columns."""
    shown = as_item_response(row)
    columns = {name: value for name, value in shown.items() if name not in {"properties", "geometry", "bbox"}}
    feature = {"type": "Feature", "id": row["id"], "geometry": row["geometry"], "properties": {**row["properties"], **columns}}
    return feature if row["bbox"] is None else {**feature, "bbox": row["bbox"]}
