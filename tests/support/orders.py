"""Orders put straight into the database, for what hangs on one."""

from __future__ import annotations

from geopera_server.values.clock import now
from geopera_server.values.ids import new_id


async def insert_order(household) -> str:
    """Adds an order of the home organization as it is while being delivered, and returns its id."""
    order_id = new_id()
    await household.sql(
        "INSERT INTO orders (id, organization_id, project_id, type, status, display_name, billing_mode, total_credits,"
        " license_type, created_by_type, created_at, updated_at)"
        " VALUES (%s, %s, %s, 'archive', 'processing', 'Spring order', 'credit', 0, 'standard', 'user', %s, %s)",
        order_id, household.place.home.organization_id, household.project_id, now(), now(),
    )  # fmt: skip
    return order_id
