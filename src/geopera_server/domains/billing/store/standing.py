"""The facts of where an organization stands; the database gives them their word."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row


async def set_owing(conn: Connection, organization_id: str, since: datetime | None, at: datetime) -> None:
    """Notes since when an organization owes a payment, the first time counting; None that it owes nothing any more."""
    await conn.execute(
        "UPDATE organization SET past_due_since = CASE WHEN %(since)s::timestamptz IS NOT NULL"
        " THEN coalesce(past_due_since, %(since)s) END, updated_at = %(at)s WHERE id = %(id)s",
        {"since": since, "at": at, "id": organization_id},
    )


async def set_suspended(conn: Connection, organization_id: str, *, reason: str | None, for_debt: bool, at: datetime) -> None:
    """Suspends an organization."""
    await conn.execute(
        "UPDATE organization SET suspended_at = %(at)s, suspended_reason = %(reason)s, suspended_for_debt = %(for_debt)s,"
        " updated_at = %(at)s WHERE id = %(id)s",
        {"at": at, "reason": reason, "for_debt": for_debt, "id": organization_id},
    )


async def end_suspension(conn: Connection, organization_id: str, at: datetime) -> None:
    """Ends the suspension of an organization."""
    await conn.execute("UPDATE organization SET suspended_at = NULL, updated_at = %s WHERE id = %s", (at, organization_id))


async def schedule_deletion(conn: Connection, row: dict[str, Any]) -> None:
    """Notes when an organization is to be deleted, who wanted it and why."""
    await conn.execute(
        "UPDATE organization SET deletion_requested_at = %(at)s, deletion_due_at = %(due_at)s,"
        " deletion_requested_by = %(requested_by)s, deletion_reason = %(reason)s, updated_at = %(at)s WHERE id = %(id)s",
        row,
    )


async def end_deletion(conn: Connection, organization_id: str, at: datetime) -> None:
    """Takes a deletion off the calendar."""
    await conn.execute("UPDATE organization SET deletion_due_at = NULL, updated_at = %s WHERE id = %s", (at, organization_id))


async def set_free_tier(conn: Connection, organization_id: str, free_tier: str, at: datetime) -> None:
    """Notes how an organization stands with the free tier."""
    await conn.execute(
        "UPDATE organization SET free_tier = %s, updated_at = %s WHERE id = %s", (free_tier, at, organization_id)
    )


async def organization_of(conn: Connection, organization_id: str) -> Row | None:
    """The organization with its plan, unless it was purged."""
    cursor = await conn.execute(
        "SELECT o.*, coalesce(p.price_credits_monthly, 0) AS price_credits_monthly,"
        " coalesce(p.self_service, true) AS self_service"
        " FROM organization o LEFT JOIN plan p ON p.id = o.plan_id WHERE o.id = %s AND o.purged_at IS NULL",
        (organization_id,),
    )
    return await cursor.fetchone()


async def is_member(conn: Connection, organization_id: str, user_id: str) -> bool:
    """Whether a human belongs to the organization."""
    cursor = await conn.execute(
        "SELECT FROM membership WHERE organization_id = %s AND user_id = %s", (organization_id, user_id)
    )
    return await cursor.fetchone() is not None
