"""The months that were billed, and those that are still to be."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from geopera_server.db.pool import Connection, Row
from geopera_server.kernel.principal import PLATFORM_ORGANIZATION_ID


async def take_turn(conn: Connection, organization_id: str) -> bool:
    """Keeps others from billing the organization until the transaction ends; False when somebody is at it."""
    cursor = await conn.execute(
        "SELECT pg_try_advisory_xact_lock(hashtextextended('billing_run:' || %s, 0)) AS taken", (organization_id,)
    )
    row = await cursor.fetchone()
    return row is not None and bool(row["taken"])


async def lock_organization(conn: Connection, organization_id: str) -> Row | None:
    """The organization, unless it was purged; its standing and plan stay until the transaction ends."""
    cursor = await conn.execute(
        "SELECT * FROM organization WHERE id = %s AND purged_at IS NULL FOR NO KEY UPDATE", (organization_id,)
    )
    return await cursor.fetchone()


async def run_of(conn: Connection, organization_id: str, period: str) -> Row | None:
    """How a month of an organization was billed."""
    cursor = await conn.execute(
        "SELECT * FROM billing_run WHERE organization_id = %s AND period = %s", (organization_id, period)
    )
    return await cursor.fetchone()


async def first_month_at(conn: Connection, organization_id: str) -> datetime | None:
    """When the organization came to its first plan, before which nothing is charged."""
    cursor = await conn.execute("SELECT min(at) AS at FROM plan_change WHERE organization_id = %s", (organization_id,))
    row = await cursor.fetchone()
    return None if row is None else row["at"]


async def final_periods(conn: Connection, organization_id: str) -> set[str]:
    """The months of an organization that are done with."""
    cursor = await conn.execute(
        "SELECT period FROM billing_run WHERE organization_id = %s AND status IN ('billed', 'nothing_due')", (organization_id,)
    )
    return {row["period"] for row in await cursor.fetchall()}


async def owes_for_months(conn: Connection, organization_id: str) -> bool:
    """Whether a month was reckoned and could not be paid."""
    cursor = await conn.execute(
        "SELECT FROM billing_run WHERE organization_id = %s AND status = 'past_due' LIMIT 1", (organization_id,)
    )
    return await cursor.fetchone() is not None


async def keep_run(conn: Connection, row: dict[str, Any]) -> None:
    """Keeps what a month came to; what was reckoned first stays."""
    await conn.execute(
        "INSERT INTO billing_run (id, organization_id, period, status, lines, total_credits, created_at, updated_at)"
        " VALUES (%(id)s, %(organization_id)s, %(period)s, %(status)s, %(lines)s, %(total_credits)s, %(at)s, %(at)s)"
        " ON CONFLICT (organization_id, period) DO NOTHING",
        {**row, "lines": Jsonb(row["lines"])},
    )


async def note_refusal(conn: Connection, row: dict[str, Any]) -> None:
    """Notes that the card was refused for a month, and by which call it was asked."""
    await conn.execute(
        "UPDATE billing_run SET refusal_code = %(code)s, refused_in = %(invocation_id)s, attempted_at = %(at)s,"
        " updated_at = %(at)s WHERE organization_id = %(organization_id)s AND period = %(period)s",
        row,
    )


async def set_past_due(conn: Connection, run_id: str, at: datetime) -> None:
    """Marks a month as reckoned and not paid."""
    await conn.execute("UPDATE billing_run SET status = 'past_due', updated_at = %s WHERE id = %s", (at, run_id))


async def set_billed(conn: Connection, row: dict[str, Any]) -> Row:
    """Marks a month as paid."""
    cursor = await conn.execute(
        "UPDATE billing_run SET status = 'billed', charged_credits = %(charged_credits)s, topup_id = %(topup_id)s,"
        " invoice_id = %(invoice_id)s, refusal_code = NULL, updated_at = %(at)s WHERE id = %(id)s RETURNING *",
        row,
    )
    made = await cursor.fetchone()
    assert made is not None
    return made


async def charges_for(conn: Connection, organization_id: str, purpose: str) -> list[Row]:
    """The charges made for a purpose, numbered ones with it, and not failed; whether their credits are in the wallet."""
    cursor = await conn.execute(
        "SELECT id, purpose, credits, ledger_entry_id IS NOT NULL AS granted FROM topup"
        " WHERE organization_id = %(organization_id)s AND state NOT IN ('failed', 'canceled')"
        " AND (purpose = %(purpose)s OR starts_with(purpose, %(purpose)s || ':')) ORDER BY created_at, id",
        {"organization_id": organization_id, "purpose": purpose},
    )
    return await cursor.fetchall()


async def organizations_to_bill(conn: Connection, period: str, end: datetime, tried_before: datetime) -> list[str]:
    """Whom the clock bills: whoever existed by the end of the month and is not done with it, or with one before.

    Those whose card was refused come again once a day: only when that was before the given time.
    """
    cursor = await conn.execute(
        "SELECT o.id FROM organization o WHERE o.purged_at IS NULL AND o.created_at < %(end)s AND o.id <> %(platform)s"
        " AND (NOT EXISTS (SELECT FROM billing_run r WHERE r.organization_id = o.id AND r.period = %(period)s)"
        "  OR EXISTS (SELECT FROM billing_run r WHERE r.organization_id = o.id AND r.status IN ('computed', 'past_due')))"
        " AND NOT EXISTS (SELECT FROM billing_run r WHERE r.organization_id = o.id AND r.status = 'past_due'"
        "  AND r.attempted_at >= %(tried_before)s)"
        " ORDER BY o.created_at, o.id",
        {
            "period": period,
            "end": end,
            "tried_before": tried_before,
            "platform": PLATFORM_ORGANIZATION_ID,
        },
    )
    return [row["id"] for row in await cursor.fetchall()]


async def overdue_organizations(conn: Connection, since: datetime) -> list[str]:
    """Who has owed a payment since then or longer and is not suspended."""
    cursor = await conn.execute(
        "SELECT id FROM organization WHERE past_due_since <= %s AND suspended_at IS NULL AND purged_at IS NULL"
        " ORDER BY past_due_since, id",
        (since,),
    )
    return [row["id"] for row in await cursor.fetchall()]


async def can_pay_one(conn: Connection, organization_id: str) -> bool:
    """Whether the balance covers the oldest month that is not paid."""
    cursor = await conn.execute(
        "SELECT a.balance >= r.total_credits AS covers FROM billing_run r"
        " JOIN ledger_account a ON a.organization_id = r.organization_id"
        " JOIN organization o ON o.id = r.organization_id AND o.purged_at IS NULL"
        " WHERE r.organization_id = %s AND r.status = 'past_due' ORDER BY r.period LIMIT 1",
        (organization_id,),
    )
    row = await cursor.fetchone()
    return row is not None and bool(row["covers"])
