"""What is asked of wallets: where the alarm stands, and how an organization tops up by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row


async def alarm_of(conn: Connection, organization_id: str) -> Row | None:
    """What decides whether a balance is low, and whether that has been said; an organization that has set nothing has nulls."""
    cursor = await conn.execute(
        "SELECT o.billing_mode, o.settings -> 'low_credit_threshold' AS low_credit_threshold,"
        " coalesce(w.last_purchase_credits, 0) AS last_purchase_credits, coalesce(w.low_alerted, false) AS low_alerted,"
        " coalesce(w.auto_topup, false) AS auto_topup, w.threshold_credits, w.retry_after"
        " FROM organization o LEFT JOIN wallet w ON w.organization_id = o.id WHERE o.id = %s",
        (organization_id,),
    )
    return await cursor.fetchone()


async def set_low_alerted(conn: Connection, organization_id: str, *, alerted: bool) -> None:
    """Notes whether the organization has been told that its balance is low."""
    await conn.execute(
        "INSERT INTO wallet (organization_id, low_alerted) VALUES (%s, %s)"
        " ON CONFLICT (organization_id) DO UPDATE SET low_alerted = EXCLUDED.low_alerted",
        (organization_id, alerted),
    )


async def note_purchase(conn: Connection, organization_id: str, *, credits_bought: int) -> None:
    """Keeps how much was bought last, of which a tenth is when the balance counts as low."""
    await conn.execute(
        "INSERT INTO wallet (organization_id, last_purchase_credits) VALUES (%s, %s)"
        " ON CONFLICT (organization_id) DO UPDATE SET last_purchase_credits = EXCLUDED.last_purchase_credits",
        (organization_id, credits_bought),
    )


async def note_auto_topup(conn: Connection, organization_id: str, at: datetime) -> None:
    """Notes that an automatic top-up has arrived, which ends any row of failures."""
    await conn.execute(
        "UPDATE wallet SET last_topup_at = %s, failures_in_a_row = 0, last_error = NULL, retry_after = NULL"
        " WHERE organization_id = %s",
        (at, organization_id),
    )


async def auto_topup_of(conn: Connection, organization_id: str, day_start: datetime) -> Row | None:
    """How an organization tops up by itself, its cap, and what of the cap the day has taken; None when nothing is set.

    `committed_credits` holds what was charged since the start of the day or still may be; `coming_credits` is what is being
    charged, whenever that began, and has not arrived in the wallet.
    """
    cursor = await conn.execute(
        "SELECT w.auto_topup, o.standing IN ('active', 'past_due') AS may_charge, w.threshold_credits,"
        " w.topup_amount_credits, w.daily_cap_credits, w.failures_in_a_row, w.last_error, w.last_topup_at, w.retry_after,"
        " coalesce(w.daily_cap_credits, b.auto_topup_daily_cap_credits) AS cap_credits,"
        " sums.committed_credits, sums.charged_credits, sums.coming_credits"
        " FROM wallet w JOIN organization o ON o.id = w.organization_id CROSS JOIN billing_terms b CROSS JOIN LATERAL ("
        "  SELECT coalesce(sum(t.credits) FILTER (WHERE t.created_at >= %(day)s), 0)::bigint AS committed_credits,"
        "  coalesce(sum(t.credits) FILTER (WHERE t.created_at >= %(day)s AND t.state = 'succeeded'), 0)::bigint"
        "   AS charged_credits,"
        "  coalesce(sum(t.credits) FILTER (WHERE t.ledger_entry_id IS NULL AND t.state <> 'requires_action'), 0)::bigint"
        "   AS coming_credits"
        "  FROM topup t WHERE t.organization_id = w.organization_id AND t.kind = 'auto'"
        "  AND t.state NOT IN ('failed', 'canceled') AND (t.created_at >= %(day)s OR t.ledger_entry_id IS NULL)) sums"
        " WHERE w.organization_id = %(organization)s AND w.threshold_credits IS NOT NULL",
        {"organization": organization_id, "day": day_start},
    )
    return await cursor.fetchone()


async def set_auto_topup(conn: Connection, organization_id: str, wanted: Mapping[str, Any]) -> None:
    """Sets how an organization tops up by itself, and forgets what was refused before."""
    await conn.execute(
        "INSERT INTO wallet (organization_id, auto_topup, threshold_credits, topup_amount_credits, daily_cap_credits)"
        " VALUES (%(organization)s, %(enabled)s, %(threshold_credits)s, %(amount_credits)s, %(cap_credits)s)"
        " ON CONFLICT (organization_id) DO UPDATE SET auto_topup = EXCLUDED.auto_topup,"
        " threshold_credits = EXCLUDED.threshold_credits, topup_amount_credits = EXCLUDED.topup_amount_credits,"
        " daily_cap_credits = EXCLUDED.daily_cap_credits, failures_in_a_row = 0, last_error = NULL, retry_after = NULL",
        {**wanted, "organization": organization_id},
    )


async def note_failure(
    conn: Connection, organization_id: str, *, error: str, retry_after: datetime, most_failures: int
) -> Row | None:
    """Counts a refused automatic top-up, which ends them after so many in a row; None where they are off already."""
    cursor = await conn.execute(
        "UPDATE wallet SET failures_in_a_row = failures_in_a_row + 1, last_error = %(error)s,"
        " auto_topup = failures_in_a_row + 1 < %(most)s,"
        " retry_after = CASE WHEN failures_in_a_row + 1 < %(most)s THEN %(retry_after)s::timestamptz END"
        " WHERE organization_id = %(organization)s AND auto_topup RETURNING *",
        {"organization": organization_id, "error": error, "retry_after": retry_after, "most": most_failures},
    )
    return await cursor.fetchone()


async def newest_topups(conn: Connection, organization_id: str, *, states: Sequence[str], limit: int, offset: int) -> list[Row]:
    """An organization's charges in some states, newest first."""
    cursor = await conn.execute(
        "SELECT * FROM topup WHERE organization_id = %s AND state = ANY(%s::text[])"
        " ORDER BY created_at DESC, id DESC LIMIT %s OFFSET %s",
        (organization_id, list(states), limit, offset),
    )
    return await cursor.fetchall()


async def count_topups(conn: Connection, organization_id: str, states: Sequence[str]) -> int:
    """How many charges in some states an organization has."""
    cursor = await conn.execute(
        "SELECT count(*) AS found FROM topup WHERE organization_id = %s AND state = ANY(%s::text[])",
        (organization_id, list(states)),
    )
    row = await cursor.fetchone()
    return 0 if row is None else int(row["found"])
