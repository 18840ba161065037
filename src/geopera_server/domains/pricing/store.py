"""The price book's rows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.pricing.rules import PriceRule
from geopera_server.kernel.principal import PLATFORM_ORGANIZATION_ID

_BINDING = (
    "SELECT coalesce((SELECT jsonb_agg(jsonb_build_object('id', id, 'organization_id', organization_id, 'vendor', vendor,"
    " 'resolution', resolution, 'capture_type', capture_type, 'price_per_sqkm_aud', price_per_sqkm_aud::text,"
    " 'min_area_sqkm', min_area_sqkm::text, 'max_area_sqkm', max_area_sqkm::text))"
    " FROM price_rule WHERE organization_id IN (%s, %s)), '[]') AS rules,"
    " (SELECT jsonb_object_agg(license_type, factor::text) FROM license_factor) AS factors"
)


async def terms_binding(conn: Connection, organization_id: str) -> tuple[list[PriceRule], dict[str, Decimal]]:
    """The organization's own rules and the platform's list, and every licence's factor; decimals travel as text."""
    row = await (await conn.execute(_BINDING, (organization_id, PLATFORM_ORGANIZATION_ID))).fetchone()
    assert row is not None
    factors = {name: Decimal(factor) for name, factor in (row["factors"] or {}).items()}
    return [as_rule(rule) for rule in row["rules"]], factors


async def rows_of(conn: Connection, organization_id: str) -> list[Row]:
    """An organization's rows as operators see them."""
    cursor = await conn.execute(
        "SELECT * FROM price_rule WHERE organization_id = %s ORDER BY vendor, resolution, capture_type, min_area_sqkm, id",
        (organization_id,),
    )
    return await cursor.fetchall()


async def lock_book(conn: Connection, organization_id: str) -> None:
    """Makes writers of one organization's book take turns, so that two of them cannot save overlapping bands."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('price_rule:' || %s, 0))", (organization_id,))


async def save(conn: Connection, row: dict[str, Any]) -> Row | None:
    """Inserts or updates one rule; None when the id is another organization's."""
    cursor = await conn.execute(
        "INSERT INTO price_rule (id, organization_id, vendor, resolution, capture_type, price_per_sqkm_aud, min_area_sqkm,"
        " max_area_sqkm, updated_by, created_at, updated_at) VALUES (%(id)s, %(organization_id)s, %(vendor)s,"
        " %(resolution)s, %(capture_type)s, %(price_per_sqkm_aud)s, %(min_area_sqkm)s, %(max_area_sqkm)s,"
        " %(updated_by)s, %(at)s, %(at)s)"
        " ON CONFLICT (id) DO UPDATE SET vendor = EXCLUDED.vendor, resolution = EXCLUDED.resolution,"
        " capture_type = EXCLUDED.capture_type, price_per_sqkm_aud = EXCLUDED.price_per_sqkm_aud,"
        " min_area_sqkm = EXCLUDED.min_area_sqkm, max_area_sqkm = EXCLUDED.max_area_sqkm,"
        " updated_by = EXCLUDED.updated_by, updated_at = EXCLUDED.updated_at"
        " WHERE price_rule.organization_id = EXCLUDED.organization_id RETURNING *",
        row,
    )
    return await cursor.fetchone()


async def delete(conn: Connection, rule_id: str) -> bool:
    """Removes one rule, whosever it is; operators only come here."""
    cursor = await conn.execute("DELETE FROM price_rule WHERE id = %s", (rule_id,))
    return cursor.rowcount == 1


def as_rule(row: Row) -> PriceRule:
    """Returns the rule a row holds."""
    return PriceRule(
        id=row["id"],
        vendor=row["vendor"],
        resolution=row["resolution"],
        capture_type=row["capture_type"],
        price_per_sqkm_aud=Decimal(row["price_per_sqkm_aud"]),
        min_area_sqkm=Decimal(row["min_area_sqkm"]),
        max_area_sqkm=None if row["max_area_sqkm"] is None else Decimal(row["max_area_sqkm"]),
        negotiated=row["organization_id"] != PLATFORM_ORGANIZATION_ID,
    )
