"""What other domains may ask of items: an order's deliveries as STAC features."""

from __future__ import annotations

from typing import Any

from geopera_server.domains.items import store
from geopera_server.domains.items.stac import as_stac
from geopera_server.kernel.context import Context


async def stac_features_of_order(ctx: Context, order_id: str) -> list[dict[str, Any]]:
    """Returns what an order of the caller's organization has delivered, with signed links, first delivered first."""
    rows = await store.items_of_order(ctx.conn, ctx.organization_id, order_id)
    ids = [row["id"] for row in rows]
    assets = await store.assets_of(ctx.conn, ctx.organization_id, ids)
    origins = await store.provenance_of(ctx.conn, ctx.organization_id, ids)
    return [
        as_stac(row, assets[row["id"]], origin=origins.get(row["id"]), links=ctx.links, base_url=ctx.links.base_url, at=ctx.now)
        for row in rows
    ]
