"""The list prices that a new deployment begins with: examples, for its owner to replace."""

from __future__ import annotations

from psycopg.types.json import Jsonb

from geopera_server.db.pool import Connection
from geopera_server.kernel.principal import PLATFORM_ORGANIZATION_ID
from geopera_server.values.clock import now
from geopera_server.values.ids import new_id

ARCHIVE_PRICES_AUD = (
    ("vantor", "0.3m", "32.00", "25"),
    ("vantor", "0.5m", "22.00", "25"),
    ("siis", "0.5m", "18.00", "25"),
    ("twentyoneat", "0.5m", "14.00", "25"),
    ("twentyoneat", "0.75m", "9.00", "25"),
    ("cgstl", "0.5m", "10.00", "25"),
    ("cgstl", "0.75m", "8.00", "25"),
    ("spacewill", "0.5m", "9.00", "25"),
    ("improsat", "0.5m", "7.00", "10"),
    ("earthsearch-aws", "any", "0.00", "0"),
)
"""Vendor, resolution, A$ per km², smallest area charged in km²."""


async def seed_price_list(conn: Connection) -> None:
    """Fills the platform's price list if it is empty; rows that an operator has removed do not come back."""
    rows = [
        {"id": new_id(), "vendor": vendor, "resolution": resolution, "price": price, "minimum": minimum}
        for vendor, resolution, price, minimum in ARCHIVE_PRICES_AUD
    ]
    await conn.execute(
        "INSERT INTO price_rule (id, organization_id, vendor, resolution, capture_type, price_per_sqkm_aud, min_area_sqkm,"
        " updated_by, created_at, updated_at)"
        " SELECT id, %(platform)s, vendor, resolution, 'archive', price, minimum, 'seed', %(at)s, %(at)s"
        " FROM jsonb_to_recordset(%(rows)s) AS seed (id uuid, vendor text, resolution text, price numeric, minimum numeric)"
        " WHERE NOT EXISTS (SELECT 1 FROM price_rule WHERE organization_id = %(platform)s)",
        {"platform": PLATFORM_ORGANIZATION_ID, "rows": Jsonb(rows), "at": now()},
    )
