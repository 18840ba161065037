"""Organizations as operators see them, and what stands in the way of changing them."""

from __future__ import annotations

from typing import Any

from geopera_server.db.pool import Connection, Row

_LISTED = (
    " FROM organization o WHERE o.purged_at IS NULL"
    " AND (%(search)s::text IS NULL OR strpos(lower(o.name), lower(%(search)s)) > 0"
    "  OR strpos(lower(o.slug), lower(%(search)s)) > 0 OR o.id::text = lower(%(search)s))"
    " AND (%(standing)s::text IS NULL OR o.standing = %(standing)s) AND (%(plan)s::text IS NULL OR o.plan_id = %(plan)s)"
    " AND (%(billing_mode)s::text IS NULL OR o.billing_mode = %(billing_mode)s)"
)
_PAGE = (
    "SELECT o.id, o.name, o.slug, o.plan_id, o.billing_mode, o.standing, o.created_at,"
    " coalesce((SELECT a.balance FROM ledger_account a WHERE a.organization_id = o.id), 0) AS balance,"
    " coalesce((SELECT sum(x.credits) FROM accrual x WHERE x.organization_id = o.id AND x.reversed_at IS NULL"
    "  AND x.invoice_id IS NULL), 0)::bigint AS accrued,"
    " coalesce((SELECT t.bytes FROM storage_total t WHERE t.organization_id = o.id), 0) AS storage_bytes,"
    " (SELECT count(*) FROM membership m WHERE m.organization_id = o.id) AS member_count"
    + _LISTED
    + " ORDER BY o.created_at DESC, o.id DESC LIMIT %(limit)s OFFSET %(offset)s"
)
_COUNT = "SELECT count(*) AS total" + _LISTED


async def organizations(conn: Connection, wanted: dict[str, Any]) -> list[Row]:
    """A page of the organizations that fit, newest first, with what they hold, owe and store."""
    return await (await conn.execute(_PAGE, wanted)).fetchall()


async def count_organizations(conn: Connection, wanted: dict[str, Any]) -> int:
    """How many organizations fit."""
    row = await (await conn.execute(_COUNT, wanted)).fetchone()
    return 0 if row is None else int(row["total"])


async def in_use(conn: Connection, organization_id: str) -> Row:
    """What counts against a plan at the moment: projects, keys that work, people, and bytes stored."""
    cursor = await conn.execute(
        "SELECT (SELECT count(*) FROM project p WHERE p.organization_id = %(id)s AND p.deleted_at IS NULL) AS projects,"
        " (SELECT count(*) FROM api_key k WHERE k.organization_id = %(id)s AND k.revoked_at IS NULL"
        "  AND (k.expires_at IS NULL OR k.expires_at > now())) AS api_keys,"
        " (SELECT count(*) FROM membership m WHERE m.organization_id = %(id)s) AS seats,"
        " coalesce((SELECT t.bytes + t.reserved_bytes FROM storage_total t WHERE t.organization_id = %(id)s), 0)"
        "  AS storage_bytes",
        {"id": organization_id},
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def obstacles_of(conn: Connection, organization_id: str) -> Row:
    """What is under way for an organization or owed by it, and would be lost with it."""
    cursor = await conn.execute(
        "SELECT EXISTS (SELECT FROM accrual x WHERE x.organization_id = %(id)s AND x.credits > 0 AND x.invoice_id IS NULL"
        "  AND x.reversed_at IS NULL) AS unbilled,"
        " EXISTS (SELECT FROM billing_run r WHERE r.organization_id = %(id)s AND r.status IN ('computed', 'past_due'))"
        "  OR EXISTS (SELECT FROM ledger_account a WHERE a.organization_id = %(id)s AND a.balance < 0) AS owing,"
        " EXISTS (SELECT FROM topup t WHERE t.organization_id = %(id)s AND (t.state IN ('created', 'confirming',"
        "  'requires_action') OR (t.state = 'succeeded' AND t.ledger_entry_id IS NULL))) AS paying,"
        " EXISTS (SELECT FROM job j WHERE j.organization_id = %(id)s AND j.state IN ('queued', 'running')"
        "  AND NOT starts_with(j.kind, 'billing.') AND j.kind NOT IN"
        "  ('payment_method.forget', 'objects.erase', 'upload.erase')) AS running,"
        " EXISTS (SELECT FROM orders r WHERE r.organization_id = %(id)s"
        "  AND r.status IN ('created', 'processing', 'fulfilling', 'placement_failed')) AS undelivered",
        {"id": organization_id},
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def deletions(conn: Connection) -> list[Row]:
    """The organizations that are to be deleted, the first to go first, with what they store and owe."""
    cursor = await conn.execute(
        "SELECT o.id, o.name, o.deletion_requested_at, o.deletion_due_at, o.deletion_requested_by, o.deletion_reason,"
        " coalesce((SELECT t.bytes FROM storage_total t WHERE t.organization_id = o.id), 0) AS storage_bytes,"
        " coalesce((SELECT sum(x.credits) FROM accrual x WHERE x.organization_id = o.id AND x.reversed_at IS NULL"
        "  AND x.invoice_id IS NULL), 0)::bigint AS unbilled"
        " FROM organization o WHERE o.deletion_due_at IS NOT NULL AND o.purged_at IS NULL ORDER BY o.deletion_due_at, o.id"
    )
    return await cursor.fetchall()
