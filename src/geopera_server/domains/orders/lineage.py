"""The content of an order as its lineage vouches for it."""

from __future__ import annotations

from typing import Any

from geopera_server.db.pool import Connection
from geopera_server.domains.orders import store
from geopera_server.domains.orders.presenting import order_state


async def live_order(conn: Connection, organization_id: str, entity_id: str) -> dict[str, Any] | None:
    """Returns the present content of an order, or None when there is none."""
    row = await store.order_of(conn, organization_id, entity_id)
    return None if row is None else order_state(row)


artifact_states = {"order": live_order}
