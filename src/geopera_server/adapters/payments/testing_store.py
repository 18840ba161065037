"""What the test processor asks of its own tables."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from geopera_server.db.pool import Connection, Row


async def claimed(conn: Connection, *, key: str, digest: str, object_id: str, at: datetime) -> Row:
    """Returns what the key stands for: `object_id` and `digest` of the first request that used it."""
    cursor = await conn.execute(
        # The update changes nothing; it returns the row that is there, and waits for a twin that is being written.
        "INSERT INTO test_processor_request AS r (key, digest, object_id, created_at) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (key) DO UPDATE SET key = r.key RETURNING r.digest, r.object_id",
        (key, digest, object_id, at),
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def add_customer(
    conn: Connection, *, customer_id: str, organization_id: str, name: str, email: str | None, at: datetime
) -> None:
    await conn.execute(
        "INSERT INTO test_processor_customer (id, organization_id, name, email, created_at) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT (id) DO NOTHING",
        (customer_id, organization_id, name, email, at),
    )


async def has_customer(conn: Connection, customer_id: str) -> bool:
    cursor = await conn.execute("SELECT 1 FROM test_processor_customer WHERE id = %s", (customer_id,))
    return await cursor.fetchone() is not None


async def add_setup(conn: Connection, *, setup_id: str, customer_id: str, client_secret: str, at: datetime) -> None:
    await conn.execute(
        "INSERT INTO test_processor_setup (id, customer_id, client_secret, created_at) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (id) DO NOTHING",
        (setup_id, customer_id, client_secret, at),
    )


async def setup_by_id(conn: Connection, setup_id: str) -> Row | None:
    cursor = await conn.execute("SELECT id, customer_id, client_secret FROM test_processor_setup WHERE id = %s", (setup_id,))
    return await cursor.fetchone()


async def add_card(conn: Connection, *, method_id: str, card: str, customer_id: str, at: datetime) -> Row:
    cursor = await conn.execute(
        "INSERT INTO test_processor_card (id, card, customer_id, created_at) VALUES (%s, %s, %s, %s) RETURNING *",
        (method_id, card, customer_id, at),
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def card_by_id(conn: Connection, method_id: str) -> Row | None:
    cursor = await conn.execute("SELECT id, card, customer_id FROM test_processor_card WHERE id = %s", (method_id,))
    return await cursor.fetchone()


async def release_card(conn: Connection, method_id: str) -> bool:
    """Takes a card from its customer; says whether there is such a card."""
    cursor = await conn.execute("UPDATE test_processor_card SET customer_id = NULL WHERE id = %s", (method_id,))
    return cursor.rowcount == 1


async def add_intent(
    conn: Connection,
    *,
    intent_id: str,
    customer_id: str,
    method_id: str,
    amount_cents: int,
    client_secret: str,
    metadata: dict[str, Any],
    at: datetime,
) -> None:
    await conn.execute(
        "INSERT INTO test_processor_intent (id, customer_id, method_id, status, amount_cents, currency, client_secret,"
        " metadata, created_at) VALUES (%s, %s, %s, 'requires_confirmation', %s, 'aud', %s, %s, %s)"
        " ON CONFLICT (id) DO NOTHING",
        (intent_id, customer_id, method_id, amount_cents, client_secret, Jsonb(metadata), at),
    )


async def intent_by_id(conn: Connection, intent_id: str) -> Row | None:
    cursor = await conn.execute("SELECT * FROM test_processor_intent WHERE id = %s", (intent_id,))
    return await cursor.fetchone()


async def intent_to_confirm(conn: Connection, intent_id: str) -> Row | None:
    """Returns an intent and its card, kept from others until the transaction ends."""
    cursor = await conn.execute(
        "SELECT i.*, c.card, c.customer_id AS holder FROM test_processor_intent i JOIN test_processor_card c"
        " ON c.id = i.method_id WHERE i.id = %s FOR UPDATE OF i",
        (intent_id,),
    )
    return await cursor.fetchone()


async def intent_at_bank(conn: Connection, client_secret: str) -> Row | None:
    """Returns the intent that a card holder was sent to their bank with, kept from others until the transaction ends."""
    cursor = await conn.execute(
        "SELECT i.*, c.card FROM test_processor_intent i JOIN test_processor_card c ON c.id = i.method_id"
        " WHERE i.client_secret = %s FOR UPDATE OF i",
        (client_secret,),
    )
    return await cursor.fetchone()


async def become(
    conn: Connection, intent_id: str, status: str, *, decline_code: str | None = None, failure_message: str | None = None
) -> Row:
    cursor = await conn.execute(
        "UPDATE test_processor_intent SET status = %s, decline_code = %s, failure_message = %s WHERE id = %s RETURNING *",
        (status, decline_code, failure_message, intent_id),
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def canceled(conn: Connection, intent_id: str) -> Row | None:
    """Cancels an intent that has not succeeded; None when it has, or there is none."""
    cursor = await conn.execute(
        "UPDATE test_processor_intent SET status = 'canceled' WHERE id = %s AND status NOT IN ('succeeded', 'canceled')"
        " RETURNING *",
        (intent_id,),
    )
    return await cursor.fetchone()


async def reversed_to(conn: Connection, intent_id: str, reversed_cents: int) -> Row | None:
    """Notes how much of a charge has gone back to the card holder in all."""
    cursor = await conn.execute(
        "UPDATE test_processor_intent SET reversed_cents = %s WHERE id = %s AND status = 'succeeded' RETURNING *",
        (reversed_cents, intent_id),
    )
    return await cursor.fetchone()


async def charges_of(conn: Connection, customer_id: str, limit: int) -> list[Row]:
    """Returns a customer's charges that succeeded, newest first."""
    cursor = await conn.execute(
        "SELECT * FROM test_processor_intent WHERE customer_id = %s AND status = 'succeeded'"
        " ORDER BY created_at DESC, id DESC LIMIT %s",
        (customer_id, limit),
    )
    return await cursor.fetchall()
