"""What is asked of budgets. Their figures move with the ledger, by the database's own rules (0010_budgets.sql)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row

_FIGURES = (
    "SELECT b.*, budget_period_start(b.period, %(at)s) AS period_start, budget_period_end(b.period, %(at)s) AS period_end,"
    " coalesce(u.reserved_credits, 0) AS reserved_credits, coalesce(u.spent_credits, 0) AS spent_credits FROM budget b"
    " LEFT JOIN budget_use u ON u.budget_id = b.id AND u.period_start = budget_period_start(b.period, %(at)s)"
    " WHERE b.organization_id = %(organization)s AND b.deleted_at IS NULL"
)
# An API key is told of what can stop it: its own budgets, and those of the organization and its projects.
_KNOWN_TO = (
    " AND (%(api_key)s::uuid IS NULL OR b.subject_type IN ('organization', 'project')"
    " OR (b.subject_type = 'api_key' AND b.subject_id = %(api_key)s::uuid))"
)


async def budgets_of(conn: Connection, asked: Mapping[str, Any]) -> list[Row]:
    """The organization's budgets in the order they were made; `asked` holds organization, at, api_key and the filters."""
    cursor = await conn.execute(
        _FIGURES
        + _KNOWN_TO
        + " AND (%(subject_type)s::text IS NULL OR b.subject_type = %(subject_type)s::text)"
        + " AND (%(subject_id)s::uuid IS NULL OR b.subject_id = %(subject_id)s::uuid)"
        + " AND (%(active)s::boolean IS NULL OR b.active = %(active)s::boolean) ORDER BY b.created_at, b.id",
        asked,
    )
    return await cursor.fetchall()


async def budget_of(
    conn: Connection, organization_id: str, budget_id: str, *, at: datetime, api_key_id: str | None = None
) -> Row | None:
    """One budget, as the period of `at` stands; None for one that the API key is not told of."""
    cursor = await conn.execute(
        _FIGURES + _KNOWN_TO + " AND b.id = %(id)s",
        {"organization": organization_id, "id": budget_id, "at": at, "api_key": api_key_id},
    )
    return await cursor.fetchone()


async def lock_budget(conn: Connection, organization_id: str, budget_id: str) -> None:
    """Keeps others from changing a budget until the transaction ends."""
    await conn.execute(
        "SELECT 1 FROM budget WHERE organization_id = %s AND id = %s FOR NO KEY UPDATE", (organization_id, budget_id)
    )


async def budget_for(conn: Connection, organization_id: str, *, subject_type: str, subject_id: str, period: str) -> str | None:
    """The id of the budget that a subject has for a period."""
    cursor = await conn.execute(
        "SELECT id FROM budget WHERE organization_id = %s AND subject_type = %s AND subject_id = %s AND period = %s"
        " AND deleted_at IS NULL",
        (organization_id, subject_type, subject_id, period),
    )
    row = await cursor.fetchone()
    return None if row is None else str(row["id"])


async def insert_budget(conn: Connection, row: Mapping[str, Any]) -> None:
    """A new budget, which counts what the running period has used already."""
    await conn.execute(
        "INSERT INTO budget (id, organization_id, subject_type, subject_id, period, limit_credits, mode, alert_thresholds,"
        " active, created_by, created_at, updated_at, invocation_id) VALUES (%(id)s, %(organization)s, %(subject_type)s,"
        " %(subject_id)s, %(period)s, %(limit_credits)s, %(mode)s, %(alert_thresholds)s::numeric[], %(active)s,"
        " %(created_by)s, %(at)s, %(at)s, %(invocation_id)s)",
        row,
    )


async def change_budget(conn: Connection, row: Mapping[str, Any]) -> None:
    """Another limit, mode or thresholds, or one that caps nobody for now."""
    await conn.execute(
        "UPDATE budget SET limit_credits = %(limit_credits)s, mode = %(mode)s,"
        " alert_thresholds = %(alert_thresholds)s::numeric[], active = %(active)s, updated_at = %(at)s,"
        " invocation_id = %(invocation_id)s WHERE organization_id = %(organization)s AND id = %(id)s",
        row,
    )


async def delete_budget(conn: Connection, organization_id: str, budget_id: str, *, at: datetime, invocation_id: str) -> bool:
    """Ends a budget and says whether there was one."""
    cursor = await conn.execute(
        "UPDATE budget SET deleted_at = %s, updated_at = %s, invocation_id = %s"
        " WHERE organization_id = %s AND id = %s AND deleted_at IS NULL",
        (at, at, invocation_id, organization_id, budget_id),
    )
    return cursor.rowcount == 1


async def subject_exists(conn: Connection, organization_id: str, subject_type: str, subject_id: str, at: datetime) -> bool:
    """Whether the organization has that living project, working API key, or member."""
    cursor = await conn.execute(
        "SELECT CASE %(type)s"
        " WHEN 'project' THEN EXISTS (SELECT FROM project"
        "   WHERE organization_id = %(organization)s AND id = %(id)s AND deleted_at IS NULL)"
        " WHEN 'api_key' THEN EXISTS (SELECT FROM api_key WHERE organization_id = %(organization)s AND id = %(id)s"
        "   AND revoked_at IS NULL AND coalesce(expires_at > %(at)s, true))"
        " ELSE EXISTS (SELECT FROM membership WHERE organization_id = %(organization)s AND user_id = %(id)s)"
        " END AS found",
        {"type": subject_type, "organization": organization_id, "id": subject_id, "at": at},
    )
    row = await cursor.fetchone()
    return row is not None and bool(row["found"])


async def made_by(conn: Connection, organization_id: str, api_key_id: str) -> str | None:
    """Who made an API key of the organization."""
    cursor = await conn.execute(
        "SELECT created_by FROM api_key WHERE organization_id = %s AND id = %s", (organization_id, api_key_id)
    )
    row = await cursor.fetchone()
    return None if row is None else row["created_by"]


async def newest_entries(
    conn: Connection, organization_id: str, budget_id: str, *, only_of: str | None, limit: int
) -> list[Row]:
    """The newest ledger entries that moved a budget, newest first; `only_of` leaves out what other principals did."""
    cursor = await conn.execute(
        "SELECT e.* FROM (SELECT spend_id FROM budget_share WHERE budget_id = %(budget)s AND last_entry IS NOT NULL"
        " ORDER BY last_entry DESC LIMIT %(limit)s) s JOIN LATERAL (SELECT * FROM ledger_entry"
        " WHERE organization_id = %(organization)s AND (order_id = s.spend_id OR job_id = s.spend_id OR id = s.spend_id)"
        " AND reason IN ('reserve', 'release', 'settle', 'refund', 'charge_adjustment')"
        " AND (%(only_of)s::uuid IS NULL OR principal_id = %(only_of)s::uuid)"
        " ORDER BY number DESC LIMIT %(limit)s) e ON true ORDER BY e.number DESC LIMIT %(limit)s",
        {"organization": organization_id, "budget": budget_id, "only_of": only_of, "limit": limit},
    )
    return await cursor.fetchall()


async def tightest(
    conn: Connection,
    organization_id: str,
    *,
    project_id: str | None,
    api_key_id: str | None,
    principal_id: str | None,
    at: datetime,
) -> Row | None:
    """The budget that leaves a spend the least room, with `room` (below zero when over); None when none caps it."""
    cursor = await conn.execute(
        "SELECT b.id, b.limit_credits - coalesce(u.reserved_credits + u.spent_credits, 0) AS room FROM budget b"
        " LEFT JOIN budget_use u ON u.budget_id = b.id AND u.period_start = budget_period_start(b.period, %(at)s)"
        " WHERE b.organization_id = %(organization)s AND b.deleted_at IS NULL AND b.active AND b.mode = 'block'"
        " AND budget_binds(b.subject_type, b.subject_id, %(project)s::uuid, %(api_key)s::uuid, %(principal)s::uuid)"
        " ORDER BY room, b.id LIMIT 1",
        {
            "organization": organization_id, "project": project_id, "api_key": api_key_id, "principal": principal_id, "at": at,
        },
    )  # fmt: skip
    return await cursor.fetchone()


async def room_of_key(conn: Connection, organization_id: str, api_key_id: str, at: datetime) -> Row | None:
    """What the tightest budget of an API key itself leaves it to buy; None when none caps it.

    What the key has spent counts, or what it has bought in the period, whichever is more.
    """
    cursor = await conn.execute(
        "SELECT b.id, b.limit_credits - greatest(coalesce(u.reserved_credits + u.spent_credits, 0), (SELECT"
        "  coalesce(sum(t.credits), 0) FROM topup t WHERE t.organization_id = b.organization_id AND t.api_key_id = b.subject_id"
        "  AND t.kind = 'manual' AND t.state NOT IN ('failed', 'canceled')"
        "  AND t.created_at >= budget_period_start(b.period, %(at)s)))::bigint AS room FROM budget b"
        " LEFT JOIN budget_use u ON u.budget_id = b.id AND u.period_start = budget_period_start(b.period, %(at)s)"
        " WHERE b.organization_id = %(organization)s AND b.subject_type = 'api_key' AND b.subject_id = %(key)s"
        " AND b.deleted_at IS NULL AND b.active AND b.mode = 'block' ORDER BY room, b.id LIMIT 1",
        {"organization": organization_id, "key": api_key_id, "at": at},
    )
    return await cursor.fetchone()


async def needs_own_budget(conn: Connection, organization_id: str, api_key_id: str) -> bool:
    """Whether the organization lets this API key spend only within a budget of its own, and it has none."""
    cursor = await conn.execute("SELECT budget_is_missing(%s::uuid, %s::uuid) AS missing", (organization_id, api_key_id))
    row = await cursor.fetchone()
    return row is not None and bool(row["missing"])


async def reached_by(conn: Connection, invocation_id: str) -> list[Row]:
    """The thresholds that a call has reached, each with its budget as the period concerned stands."""
    cursor = await conn.execute(
        "SELECT b.*, a.threshold, a.period_start, budget_period_end(b.period, a.period_start) AS period_end,"
        " u.reserved_credits, u.spent_credits FROM budget_alert a"
        " JOIN budget b ON b.id = a.budget_id AND b.deleted_at IS NULL"
        " JOIN budget_use u ON u.budget_id = a.budget_id AND u.period_start = a.period_start"
        " WHERE a.invocation_id = %s ORDER BY b.id, a.threshold",
        (invocation_id,),
    )
    return await cursor.fetchall()
