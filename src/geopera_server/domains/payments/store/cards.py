"""What is asked of saved cards. Whoever changes an organization's cards locks its account before."""

from __future__ import annotations

from datetime import datetime

from geopera_server.db.pool import Connection, Row
from geopera_server.ports.payments import Card


async def payer(conn: Connection, organization_id: str, processor: str) -> Row | None:
    """Who is charged, and who that is at the processor if it is known there."""
    cursor = await conn.execute(
        "SELECT o.name, o.billing_email, c.customer_id FROM organization o LEFT JOIN payment_customer c"
        " ON c.organization_id = o.id AND c.processor = %s WHERE o.id = %s",
        (processor, organization_id),
    )
    return await cursor.fetchone()


async def customer_of(conn: Connection, organization_id: str, processor: str) -> str | None:
    """Who an organization is at the processor."""
    cursor = await conn.execute(
        "SELECT customer_id FROM payment_customer WHERE organization_id = %s AND processor = %s", (organization_id, processor)
    )
    row = await cursor.fetchone()
    return None if row is None else str(row["customer_id"])


async def keep_customer(conn: Connection, organization_id: str, processor: str, customer_id: str, *, at: datetime) -> bool:
    """Notes who an organization is at the processor; False when it is somebody else there already."""
    cursor = await conn.execute(
        "INSERT INTO payment_customer AS c (organization_id, processor, customer_id, created_at) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (organization_id, processor) DO UPDATE SET customer_id = c.customer_id RETURNING c.customer_id",
        (organization_id, processor, customer_id, at),
    )
    row = await cursor.fetchone()
    return row is not None and row["customer_id"] == customer_id


async def live_by_method(conn: Connection, processor: str, method_id: str) -> Row | None:
    """The saved card of a processor's id, whoever's it is."""
    cursor = await conn.execute(
        "SELECT * FROM payment_method WHERE processor = %s AND method_id = %s AND detached_at IS NULL", (processor, method_id)
    )
    return await cursor.fetchone()


async def live_by_id(conn: Connection, organization_id: str, row_id: str) -> Row | None:
    """One saved card."""
    cursor = await conn.execute(
        "SELECT * FROM payment_method WHERE organization_id = %s AND id = %s AND detached_at IS NULL", (organization_id, row_id)
    )
    return await cursor.fetchone()


async def live_of(conn: Connection, organization_id: str) -> list[Row]:
    """Every saved card, the default first, then the newest."""
    cursor = await conn.execute(
        "SELECT * FROM payment_method WHERE organization_id = %s AND detached_at IS NULL"
        " ORDER BY is_default DESC, created_at DESC, id DESC",
        (organization_id,),
    )
    return await cursor.fetchall()


async def default_of(conn: Connection, organization_id: str) -> Row | None:
    """The card that is charged where none is named."""
    cursor = await conn.execute("SELECT * FROM payment_method WHERE organization_id = %s AND is_default", (organization_id,))
    return await cursor.fetchone()


async def count_live(conn: Connection, organization_id: str) -> int:
    """How many cards are saved."""
    cursor = await conn.execute(
        "SELECT count(*) AS cards FROM payment_method WHERE organization_id = %s AND detached_at IS NULL", (organization_id,)
    )
    row = await cursor.fetchone()
    return 0 if row is None else int(row["cards"])


async def insert(conn: Connection, organization_id: str, processor: str, card: Card, *, row_id: str, at: datetime) -> Row:
    """A newly saved card; psycopg's UniqueViolation when the processor's id is saved already."""
    cursor = await conn.execute(
        "INSERT INTO payment_method (id, organization_id, processor, method_id, brand, last4, exp_month, exp_year,"
        " holder_name, created_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING *",
        (
            row_id,
            organization_id,
            processor,
            card.id,
            card.brand,
            card.last4,
            card.exp_month,
            card.exp_year,
            card.holder_name,
            at,
        ),
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def set_default(conn: Connection, organization_id: str, row_id: str) -> Row:
    """Makes one card the default, and no other."""
    await conn.execute(
        "UPDATE payment_method SET is_default = false WHERE organization_id = %s AND is_default AND id <> %s",
        (organization_id, row_id),
    )
    cursor = await conn.execute(
        "UPDATE payment_method SET is_default = true WHERE organization_id = %s AND id = %s RETURNING *",
        (organization_id, row_id),
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def set_detached(conn: Connection, organization_id: str, row_id: str, *, at: datetime) -> None:
    """Forgets a card; a default without card is given to the newest that remains."""
    await conn.execute(
        "UPDATE payment_method SET detached_at = %s, is_default = false WHERE organization_id = %s AND id = %s",
        (at, organization_id, row_id),
    )
    await conn.execute(
        "UPDATE payment_method SET is_default = true WHERE id = (SELECT id FROM payment_method WHERE organization_id = %s"
        " AND detached_at IS NULL ORDER BY created_at DESC, id DESC LIMIT 1)"
        " AND NOT EXISTS (SELECT FROM payment_method WHERE organization_id = %s AND is_default)",
        (organization_id, organization_id),
    )


async def needs_card(conn: Connection, organization_id: str) -> Row:
    """Why an organization may need its last card: it tops up by itself, or it owes money."""
    cursor = await conn.execute(
        "SELECT coalesce(w.auto_topup, false) AS auto_topup, o.past_due_since IS NOT NULL OR a.balance < 0 OR EXISTS"
        " (SELECT FROM topup t WHERE t.organization_id = o.id AND t.state IN ('created', 'confirming', 'requires_action'))"
        " AS owes"
        " FROM organization o JOIN ledger_account a ON a.organization_id = o.id"
        " LEFT JOIN wallet w ON w.organization_id = o.id WHERE o.id = %s",
        (organization_id,),
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def to_forget(conn: Connection, organization_id: str, row_id: str) -> Row | None:
    """A card that was detached, unless it was saved again since."""
    cursor = await conn.execute(
        "SELECT * FROM payment_method m WHERE organization_id = %s AND id = %s AND detached_at IS NOT NULL AND NOT EXISTS"
        " (SELECT FROM payment_method n WHERE n.processor = m.processor AND n.method_id = m.method_id"
        " AND n.detached_at IS NULL)",
        (organization_id, row_id),
    )
    return await cursor.fetchone()
