"""Assets of a project as rows alone, for tests that ask what is stored and not what is in it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from geopera_server.values.ids import new_id


async def stored_asset(sql: Any, organization_id: str, project_id: str, size_bytes: int, **more: Any) -> str:
    """Adds an item with one asset and returns the asset's id; `sql` runs a statement, `more` are columns of the asset."""
    item_id, at = new_id(), datetime.now(UTC)
    await sql(
        "INSERT INTO item (id, organization_id, project_id, stac_id, type, name, datetime, period, created_at, updated_at)"
        " VALUES (%s, %s, %s, %s, 'derived_raster', 'stored', %s, tstzrange(%s, %s, '[]'), %s, %s)",
        item_id, organization_id, project_id, item_id, at, at, at, at, at,
    )  # fmt: skip
    row = {"id": new_id(), "href": f"projects/{project_id}/items/{item_id}/data.tif", "external": False, **more}
    await sql(
        "INSERT INTO asset (id, organization_id, project_id, item_id, key, href, external, media_type, file_name,"
        " file_size_bytes, created_at, updated_at)"
        " VALUES (%s, %s, %s, %s, 'data', %s, %s, 'image/tiff', 'data.tif', %s, %s, %s)",
        row["id"], organization_id, project_id, item_id, row["href"], row["external"], size_bytes, at, at,
    )  # fmt: skip
    return row["id"]
