"""What other domains may ask of the price book."""

from __future__ import annotations

from geopera_server.db.pool import Connection
from geopera_server.domains.pricing import store
from geopera_server.domains.pricing.rules import PriceBook


async def price_book(conn: Connection, organization_id: str) -> PriceBook:
    """Returns the prices that bind an organization now."""
    rules, license_factors = await store.terms_binding(conn, organization_id)
    return PriceBook(rules=rules, license_factors=license_factors)
