"""What other domains may ask of many items: their rows, and all that `as_stac` makes their features of."""

from __future__ import annotations

from collections.abc import Sequence

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.items import store
from geopera_server.domains.items.store.features import live_items


async def rows_of(conn: Connection, organization_id: str, ids: Sequence[str]) -> list[Row]:
    """Returns those of some items that are the organization's and live, in no order."""
    return await live_items(conn, organization_id, ids)


async def stac_rows_of(conn: Connection, organization_id: str, ids: Sequence[str]) -> list[tuple[Row, list[Row], Row | None]]:
    """Returns the organization's live items with their assets and the record of where they come from, in no order."""
    rows = await live_items(conn, organization_id, ids)
    found = [row["id"] for row in rows]
    assets = await store.assets_of(conn, organization_id, found)
    origins = await store.provenance_of(conn, organization_id, found)
    return [(row, assets[row["id"]], origins.get(row["id"])) for row in rows]
