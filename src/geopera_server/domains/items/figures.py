"""What other domains may ask of a project's items: how many, of what, where, when, and what they take."""

from __future__ import annotations

from typing import Any

from geopera_server.db.pool import Connection
from geopera_server.domains.items.presenting import time_range
from geopera_server.domains.items.rules import joined_bbox
from geopera_server.domains.items.store import collections as store


async def figures_of_project(conn: Connection, project_id: str) -> dict[str, Any]:
    """Returns `items_by_type`, `storage_bytes`, `bbox` and `datetime_range` of a project's live items."""
    figures = await store.figures_of_project(conn, project_id)
    return {
        "items_by_type": await store.items_by_type(conn, project_id),
        "storage_bytes": figures["storage_bytes"],
        "bbox": joined_bbox(figures),
        "datetime_range": time_range(figures),
    }
