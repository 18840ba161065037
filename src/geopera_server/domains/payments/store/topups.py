"""What is asked of charges. Whoever locks a charge locks the organization's account before it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row
from geopera_server.ports.payments import Intent

OPEN = ("created", "confirming", "requires_action")


async def means_of(conn: Connection, organization_id: str, purpose: str) -> Row | None:
    """How an organization pays and what it has; how often a card was charged for this purpose, and whether budgets are kept.

    With what tells whether a balance is low; see low_balance.is_quiet.
    """
    cursor = await conn.execute(
        "SELECT o.billing_mode, o.settings, a.balance,"
        " (SELECT count(*) FROM topup t WHERE t.organization_id = o.id AND t.purpose = %s) AS attempts,"
        " EXISTS (SELECT FROM budget b WHERE b.organization_id = o.id AND b.deleted_at IS NULL) AS has_budgets,"
        " o.settings -> 'low_credit_threshold' AS low_credit_threshold,"
        " coalesce(w.last_purchase_credits, 0) AS last_purchase_credits, coalesce(w.low_alerted, false) AS low_alerted,"
        " coalesce(w.auto_topup, false) AS auto_topup, w.threshold_credits"
        " FROM organization o JOIN ledger_account a ON a.organization_id = o.id"
        " LEFT JOIN wallet w ON w.organization_id = o.id WHERE o.id = %s",
        (purpose, organization_id),
    )
    return await cursor.fetchone()


async def settings_of(conn: Connection, organization_id: str) -> dict[str, Any] | None:
    """What an organization has set; None when there is no such organization."""
    row = await (await conn.execute("SELECT settings FROM organization WHERE id = %s", (organization_id,))).fetchone()
    return None if row is None else row["settings"]


async def lock_account(conn: Connection, organization_id: str) -> None:
    """Keeps others from moving an organization's credits until the transaction ends."""
    await conn.execute("SELECT 1 FROM ledger_account WHERE organization_id = %s FOR NO KEY UPDATE", (organization_id,))


async def of_purpose(conn: Connection, organization_id: str, purpose: str) -> list[Row]:
    """Every charge for a purpose, the newest attempt first, locked until the transaction ends."""
    cursor = await conn.execute(
        "SELECT * FROM topup WHERE organization_id = %s AND purpose = %s ORDER BY attempt DESC FOR UPDATE",
        (organization_id, purpose),
    )
    return await cursor.fetchall()


async def bought_but_not_granted(conn: Connection, organization_id: str, purpose: str) -> int:
    """Credits that a card has paid for this purpose and that are not in the account yet."""
    cursor = await conn.execute(
        "SELECT coalesce(sum(credits), 0)::bigint AS bought FROM topup"
        " WHERE organization_id = %s AND purpose = %s AND state = 'succeeded' AND ledger_entry_id IS NULL",
        (organization_id, purpose),
    )
    row = await cursor.fetchone()
    return 0 if row is None else int(row["bought"])


async def claimed_by_others(conn: Connection, organization_id: str, purpose: str, at: datetime) -> int:
    """Credits of the balance that spends whose charges are being made right now are going to take."""
    cursor = await conn.execute(
        "SELECT coalesce(sum(claimed_credits), 0)::bigint AS claimed FROM topup"
        " WHERE organization_id = %s AND purpose <> %s AND claimed_credits > 0 AND look_after > %s"
        " AND (state IN ('created', 'confirming') OR (state = 'succeeded' AND ledger_entry_id IS NULL))",
        (organization_id, purpose, at),
    )
    row = await cursor.fetchone()
    return 0 if row is None else int(row["claimed"])


async def of_id(conn: Connection, topup_id: str, *, lock: bool = False) -> Row | None:
    """One charge, whoever's it is."""
    if lock:
        cursor = await conn.execute("SELECT * FROM topup WHERE id = %s FOR UPDATE", (topup_id,))
    else:
        cursor = await conn.execute("SELECT * FROM topup WHERE id = %s", (topup_id,))
    return await cursor.fetchone()


async def insert(conn: Connection, row: Mapping[str, Any]) -> Row:
    """A new attempt at charging for a purpose; psycopg's UniqueViolation when somebody else has just begun one."""
    cursor = await conn.execute(
        "INSERT INTO topup (id, organization_id, kind, purpose, attempt, credits, tax_credits, claimed_credits, state,"
        " processor, customer_id, payment_method_id, method_id, approval_id, project_id, principal_id, api_key_id,"
        " invocation_id, holder, held_until, look_after, created_at, updated_at)"
        " SELECT %(id)s, %(organization_id)s, %(kind)s, %(purpose)s, coalesce(max(attempt), 0) + 1, %(credits)s,"
        " %(tax_credits)s, %(claimed_credits)s, 'created', %(processor)s, %(customer_id)s, %(payment_method_id)s,"
        " %(method_id)s, %(approval_id)s, %(project_id)s, %(principal_id)s, %(api_key_id)s, %(invocation_id)s, %(holder)s,"
        " %(held_until)s, %(held_until)s, %(at)s, %(at)s"
        " FROM topup WHERE organization_id = %(organization_id)s AND purpose = %(purpose)s RETURNING *",
        row,
    )
    inserted = await cursor.fetchone()
    assert inserted is not None
    return inserted


async def take(conn: Connection, topup_id: str, *, holder: str, until: datetime) -> None:
    """Makes a call the one that is at work on a charge."""
    await conn.execute(
        "UPDATE topup SET holder = %s, held_until = %s, look_after = %s WHERE id = %s", (holder, until, until, topup_id)
    )


async def let_go(conn: Connection, topup_id: str, *, holder: str, at: datetime, look_after: datetime) -> None:
    """Ends a call's work on a charge whose end it has not seen, so that the next one need not wait."""
    await conn.execute(
        "UPDATE topup SET held_until = %s, look_after = %s WHERE id = %s AND holder = %s", (at, look_after, topup_id, holder)
    )


async def look_later(conn: Connection, topup_id: str, *, at: datetime) -> None:
    """Puts off the next look at a charge."""
    await conn.execute("UPDATE topup SET look_after = greatest(look_after, %s) WHERE id = %s", (at, topup_id))


async def keep_intent(conn: Connection, topup_id: str, *, holder: str, intent: Intent, at: datetime) -> Row | None:
    """Notes the intent before it is confirmed; None when another call has taken the charge over meanwhile."""
    cursor = await conn.execute(
        "UPDATE topup SET state = 'confirming', intent_id = %s, client_secret = %s, updated_at = %s"
        " WHERE id = %s AND holder = %s AND state = 'created' RETURNING *",
        (intent.id, intent.client_secret, at, topup_id, holder),
    )
    return await cursor.fetchone()


async def set_outcome(conn: Connection, topup_id: str, outcome: Mapping[str, Any]) -> Row:
    """Writes what became of a charge, and when it is to be looked at again."""
    cursor = await conn.execute(
        "UPDATE topup SET state = %(state)s, client_secret = coalesce(%(client_secret)s, client_secret),"
        " failure_code = %(failure_code)s, failure_message = %(failure_message)s, receipt_url = %(receipt_url)s,"
        " held_until = %(at)s, look_after = %(look_after)s, updated_at = %(at)s WHERE id = %(id)s RETURNING *",
        {**outcome, "id": topup_id},
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def set_granted(conn: Connection, topup_id: str, *, entry_id: str, at: datetime) -> None:
    """Notes the entry that brought a charge's credits into the account."""
    await conn.execute("UPDATE topup SET ledger_entry_id = %s, updated_at = %s WHERE id = %s", (entry_id, at, topup_id))


async def set_reversed(conn: Connection, topup_id: str, *, reversed_credits: int, at: datetime) -> None:
    """Notes how much of a charge the processor has taken back."""
    await conn.execute(
        "UPDATE topup SET reversed_credits = %s, updated_at = %s WHERE id = %s", (reversed_credits, at, topup_id)
    )


async def entry_of(conn: Connection, entry_id: str) -> Row:
    """The ledger entry of a granted charge."""
    row = await (await conn.execute("SELECT * FROM ledger_entry WHERE id = %s", (entry_id,))).fetchone()
    assert row is not None
    return row


async def mark_method(conn: Connection, payment_method_id: str, *, requires_action: bool) -> None:
    """Notes whether a card's last charge asked for its holder."""
    await conn.execute(
        "UPDATE payment_method SET requires_action = %s WHERE id = %s AND requires_action <> %s",
        (requires_action, payment_method_id, requires_action),
    )


async def chargeable_method(conn: Connection, organization_id: str, processor: str, method_row_id: str | None) -> Row | None:
    """The card that a charge is made to, with its customer: the one named, else the default."""
    cursor = await conn.execute(
        "SELECT m.*, c.customer_id FROM payment_method m JOIN payment_customer c"
        " ON c.organization_id = m.organization_id AND c.processor = m.processor"
        " WHERE m.organization_id = %s AND m.processor = %s AND m.detached_at IS NULL"
        " AND CASE WHEN %s::uuid IS NULL THEN m.is_default ELSE m.id = %s::uuid END",
        (organization_id, processor, method_row_id, method_row_id),
    )
    return await cursor.fetchone()


async def to_look_at(conn: Connection, at: datetime, *, limit: int) -> list[Row]:
    """Charges whose end nobody has seen yet, and those paid for and not granted, that are due to be looked at."""
    cursor = await conn.execute(
        "SELECT id, organization_id FROM topup WHERE look_after <= %s"
        " AND (state IN ('created', 'confirming', 'requires_action') OR (state = 'succeeded' AND ledger_entry_id IS NULL))"
        " ORDER BY look_after LIMIT %s",
        (at, limit),
    )
    return await cursor.fetchall()


async def past_due(conn: Connection, organization_id: str) -> bool:
    """Whether a payment of the organization is past due."""
    cursor = await conn.execute("SELECT past_due_since IS NOT NULL AS owes FROM organization WHERE id = %s", (organization_id,))
    row = await cursor.fetchone()
    return row is not None and bool(row["owes"])


async def set_past_due(conn: Connection, organization_id: str) -> None:
    """Marks an organization as owing a payment; one that is suspended or going to be deleted is that all the same."""
    await conn.execute(
        "UPDATE organization SET past_due_since = coalesce(past_due_since, now()) WHERE id = %s", (organization_id,)
    )
