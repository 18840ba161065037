"""The deployment's plans, and which organization was on which one when."""

from __future__ import annotations

from datetime import datetime

from geopera_server.db.pool import Connection, Row


async def plans(conn: Connection) -> list[Row]:
    """The deployment's plans, cheapest first; those with terms of their own, which have no price to tell, last."""
    cursor = await conn.execute("SELECT * FROM plan ORDER BY NOT self_service, price_credits_monthly, position, id")
    return await cursor.fetchall()


async def plan_named(conn: Connection, plan_id: str) -> Row | None:
    """The plan of that id."""
    cursor = await conn.execute("SELECT * FROM plan WHERE id = %s", (plan_id,))
    return await cursor.fetchone()


async def number_of_plan(conn: Connection, organization_id: str, name: str) -> int | None:
    """What an organization's plan says about one thing, included or limited; None for nothing, or a plan without a row."""
    cursor = await conn.execute(
        "SELECT coalesce(p.included -> %(name)s, p.limits -> %(name)s)::text AS number"
        " FROM organization o JOIN plan p ON p.id = o.plan_id WHERE o.id = %(organization_id)s",
        {"name": name, "organization_id": organization_id},
    )
    row = await cursor.fetchone()
    return None if row is None or row["number"] in {None, "null"} else int(row["number"])


async def changes_before(conn: Connection, organization_id: str, end: datetime) -> list[Row]:
    """Which plan an organization came to when, first to last, as far as before then, with what each of them costs now."""
    cursor = await conn.execute(
        "SELECT c.at, c.plan_id, coalesce(p.price_credits_monthly, 0) AS price_credits_monthly,"
        " coalesce(p.included, '{}') AS included, coalesce(p.overage, '{}') AS overage"
        " FROM plan_change c LEFT JOIN plan p ON p.id = c.plan_id"
        " WHERE c.organization_id = %s AND c.at < %s ORDER BY c.at, c.id",
        (organization_id, end),
    )
    return await cursor.fetchall()


async def set_plan(conn: Connection, organization_id: str, plan_id: str, at: datetime) -> None:
    """Moves an organization to a plan; the database notes the change."""
    await conn.execute("UPDATE organization SET plan_id = %s, updated_at = %s WHERE id = %s", (plan_id, at, organization_id))
