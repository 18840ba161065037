"""Organizations and who belongs to them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from geopera_server.db.pool import Connection, Row


async def insert_organization(conn: Connection, row: dict[str, Any]) -> Row:
    """Adds an organization."""
    address = row["billing_address"]
    cursor = await conn.execute(
        "INSERT INTO organization (id, name, slug, description, website, industry, size, country, abn, tax_number,"
        " billing_email, billing_address, billing_mode, enterprise_requested, created_by, created_at, updated_at)"
        " VALUES (%(id)s, %(name)s, %(slug)s, %(description)s, %(website)s, %(industry)s, %(size)s, %(country)s, %(abn)s,"
        " %(tax_number)s, %(billing_email)s, %(billing_address)s, %(billing_mode)s, %(enterprise_requested)s,"
        " %(created_by)s, %(at)s, %(at)s) RETURNING *",
        {**row, "billing_address": None if address is None else Jsonb(address)},
    )
    made = await cursor.fetchone()
    assert made is not None
    return made


async def slugs_like(conn: Connection, slug: str) -> set[str]:
    """The slug and its numbered forms, as far as taken; nobody else can take one of them until this transaction ends."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('organization.slug:' || %s, 0))", (slug,))
    cursor = await conn.execute(
        "SELECT slug FROM organization WHERE slug = %(slug)s OR slug LIKE %(slug)s || '-%%'", {"slug": slug}
    )
    return {row["slug"] for row in await cursor.fetchall()}


async def has_made_one_named(conn: Connection, user_id: str, name: str) -> bool:
    """Whether this human already made an organization of that name."""
    cursor = await conn.execute("SELECT 1 FROM organization WHERE created_by = %s AND lower(name) = lower(%s)", (user_id, name))
    return await cursor.fetchone() is not None


async def organization_of(conn: Connection, organization_id: str) -> Row | None:
    """The organization of that id, with its number of members; none once it was deleted."""
    cursor = await conn.execute(
        "SELECT o.*, (SELECT count(*) FROM membership m WHERE m.organization_id = o.id) AS member_count,"
        " (SELECT approval_threshold_credits FROM billing_terms) AS default_approval_threshold"
        " FROM organization o WHERE o.id = %s AND o.purged_at IS NULL",
        (organization_id,),
    )
    return await cursor.fetchone()


async def change_organization(conn: Connection, organization_id: str, changes: Mapping[str, Any], at: datetime) -> None:
    """Writes the given columns of an organization's profile, and merges `settings`; psycopg's UniqueViolation for its name."""
    await conn.execute(
        "UPDATE organization o SET name = n.name, description = n.description, website = n.website, industry = n.industry,"
        " size = n.size, country = n.country, abn = n.abn, tax_number = n.tax_number, billing_email = n.billing_email,"
        " billing_address = n.billing_address, settings = o.settings || %(settings)s, updated_at = %(at)s"
        " FROM organization p CROSS JOIN LATERAL jsonb_populate_record(p, %(changes)s) n WHERE p.id = o.id AND o.id = %(id)s",
        {
            "id": organization_id,
            "changes": Jsonb({name: value for name, value in changes.items() if name != "settings"}),
            "settings": Jsonb(changes.get("settings") or {}),
            "at": at,
        },
    )


async def add_member(conn: Connection, organization_id: str, user_id: str, role: str, at: datetime) -> None:
    """Makes a human a member."""
    await conn.execute(
        "INSERT INTO membership (organization_id, user_id, role, created_at) VALUES (%s, %s, %s, %s)",
        (organization_id, user_id, role, at),
    )


async def organizations_of_user(conn: Connection, user_id: str) -> list[Row]:
    """The organizations a human belongs to with the role in each, first joined first."""
    cursor = await conn.execute(
        "SELECT o.*, m.role FROM membership m JOIN organization o ON o.id = m.organization_id"
        " WHERE m.user_id = %s ORDER BY m.created_at, o.id",
        (user_id,),
    )
    return await cursor.fetchall()


async def first_owner(conn: Connection, organization_id: str) -> str | None:
    """The human who has owned the organization longest."""
    cursor = await conn.execute(
        "SELECT user_id FROM membership WHERE organization_id = %s AND role = 'owner' ORDER BY created_at, user_id LIMIT 1",
        (organization_id,),
    )
    row = await cursor.fetchone()
    return None if row is None else row["user_id"]
