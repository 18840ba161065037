"""What is asked of approvals. Whoever locks one and the organization's account locks the account before it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row

# An overdue request has expired without anybody writing it down, unless a charge for it is under way or has succeeded.
_READ = (
    "SELECT * FROM (SELECT a.id, a.organization_id, a.credits, a.requested_by, a.requested_by_type, a.created_at,"
    " a.expires_at, a.decided_by, a.decided_at, a.reason, a.topup_id, t.id AS charge_id, t.state AS charge_state,"
    " t.intent_id AS charge_intent_id, t.invocation_id AS charge_invocation_id, t.failure_code,"
    " CASE WHEN a.status = 'pending' AND a.expires_at <= %(at)s AND coalesce(t.state, 'failed') IN ('failed', 'canceled')"
    "  THEN 'expired' ELSE a.status END AS status"
    " FROM approval a LEFT JOIN LATERAL (SELECT * FROM topup c WHERE c.organization_id = a.organization_id"
    "  AND c.purpose = 'approval:' || a.id ORDER BY c.attempt DESC LIMIT 1) t ON true) approval_now"
)


async def of_id(conn: Connection, approval_id: str, *, organization_id: str | None, at: datetime) -> Row | None:
    """One request as it stands, with its latest charge; without organization whoever's it is."""
    cursor = await conn.execute(
        _READ + " WHERE id = %(id)s AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s::uuid)",
        {"id": approval_id, "organization": organization_id, "at": at},
    )
    return await cursor.fetchone()


async def lock(conn: Connection, approval_id: str) -> None:
    """Keeps a request as it is, and any charge for it from being begun, until the transaction ends."""
    await conn.execute("SELECT 1 FROM approval WHERE id = %s FOR UPDATE", (approval_id,))


async def newest(conn: Connection, organization_id: str, *, status: str | None, at: datetime, limit: int) -> list[Row]:
    """An organization's requests, newest first."""
    cursor = await conn.execute(
        _READ + " WHERE organization_id = %(organization)s AND (%(status)s::text IS NULL OR status = %(status)s)"
        " ORDER BY created_at DESC, id DESC LIMIT %(limit)s",
        {"organization": organization_id, "status": status, "at": at, "limit": limit},
    )
    return await cursor.fetchall()


async def count(conn: Connection, organization_id: str, *, status: str | None, at: datetime) -> int:
    """How many requests an organization has."""
    cursor = await conn.execute(
        "SELECT count(*) AS found FROM (" + _READ + " WHERE organization_id = %(organization)s"
        " AND (%(status)s::text IS NULL OR status = %(status)s)) matching",
        {"organization": organization_id, "status": status, "at": at},
    )
    row = await cursor.fetchone()
    return 0 if row is None else int(row["found"])


async def pending_like(conn: Connection, request: Mapping[str, Any]) -> str | None:
    """The pending request of the same principal for the same amount; an overdue one is written down as expired first."""
    cursor = await conn.execute(
        _READ + " WHERE organization_id = %(organization_id)s AND requested_by = %(requested_by)s"
        " AND credits = %(credits)s AND status IN ('pending', 'expired')",
        request,
    )
    for row in await cursor.fetchall():
        if row["status"] == "pending":
            return str(row["id"])
        await conn.execute("UPDATE approval SET status = 'expired' WHERE id = %s AND status = 'pending'", (row["id"],))
    return None


async def insert(conn: Connection, request: Mapping[str, Any]) -> None:
    """A new request."""
    await conn.execute(
        "INSERT INTO approval (id, organization_id, credits, requested_by, requested_by_type, created_at, expires_at)"
        " VALUES (%(id)s, %(organization_id)s, %(credits)s, %(requested_by)s, %(requested_by_type)s, %(at)s, %(expires_at)s)",
        request,
    )


async def set_approved(conn: Connection, entry: Mapping[str, Any], *, decided_by: str | None, at: datetime) -> bool:
    """Marks the request of a ledger entry as approved and paid; False when that is known already, or it was rejected."""
    cursor = await conn.execute(
        "UPDATE approval SET status = 'approved', topup_id = %s, decided_by = %s, decided_at = %s"
        " WHERE id = %s AND organization_id = %s AND status IN ('pending', 'expired')",
        (entry["topup_id"], decided_by, at, entry["approval_id"], entry["organization_id"]),
    )
    return cursor.rowcount == 1


async def set_rejected(conn: Connection, approval_id: str, *, decided_by: str | None, reason: str | None, at: datetime) -> None:
    """Marks a request as rejected."""
    await conn.execute(
        "UPDATE approval SET status = 'rejected', decided_by = %s, decided_at = %s, reason = %s WHERE id = %s",
        (decided_by, at, reason, approval_id),
    )


async def policy_of(conn: Connection, organization_id: str) -> Row | None:
    """Whether a payment of an organization is past due, whether it is to be deleted, and whether two people approve."""
    cursor = await conn.execute(
        "SELECT past_due_since IS NOT NULL AS owes, deletion_due_at IS NOT NULL AS leaving,"
        " settings -> 'four_eyes' AS four_eyes FROM organization WHERE id = %s",
        (organization_id,),
    )
    return await cursor.fetchone()


async def has_other_approver(conn: Connection, organization_id: str, user_id: str) -> bool:
    """Whether somebody else of the organization may approve."""
    cursor = await conn.execute(
        "SELECT FROM membership m JOIN app_user u ON u.id = m.user_id WHERE m.organization_id = %s AND m.user_id <> %s"
        " AND m.role IN ('owner', 'admin', 'billing') AND u.status = 'active' LIMIT 1",
        (organization_id, user_id),
    )
    return await cursor.fetchone() is not None


async def note_call(conn: Connection, approval_id: str, *, principal_id: str, idempotency_key: str) -> None:
    """Remembers that somebody has set out to approve a request with a key."""
    await conn.execute(
        "INSERT INTO approval_call (approval_id, principal_id, idempotency_key) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        (approval_id, principal_id, idempotency_key),
    )


async def has_called(conn: Connection, approval_id: str, *, principal_id: str | None, idempotency_key: str | None) -> bool:
    """Whether somebody has set out to approve a request with this key before."""
    cursor = await conn.execute(
        "SELECT FROM approval_call WHERE approval_id = %s AND principal_id = %s AND idempotency_key = %s",
        (approval_id, principal_id, idempotency_key),
    )
    return await cursor.fetchone() is not None
