"""Who waits for the free tier, and who is in it."""

from __future__ import annotations

from geopera_server.db.pool import Connection, Row


async def pending(conn: Connection) -> list[Row]:
    """Who waits for approval, oldest first, with the owner's address."""
    cursor = await conn.execute(
        "SELECT o.id, o.name, o.slug, o.country, o.created_at,"
        " (SELECT u.email FROM membership m JOIN app_user u ON u.id = m.user_id"
        "  WHERE m.organization_id = o.id AND m.role = 'owner' ORDER BY m.created_at, u.id LIMIT 1) AS owner_email"
        " FROM organization o WHERE o.free_tier = 'pending' AND o.purged_at IS NULL AND o.billing_mode = 'prepaid'"
        " ORDER BY o.created_at, o.id"
    )
    return await cursor.fetchall()


async def approved(conn: Connection) -> list[str]:
    """Who was approved for the free tier."""
    cursor = await conn.execute(
        "SELECT id FROM organization WHERE free_tier = 'approved' AND purged_at IS NULL ORDER BY created_at, id"
    )
    return [row["id"] for row in await cursor.fetchall()]
