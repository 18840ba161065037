"""What the processor has told us, each event once."""

from __future__ import annotations

from datetime import datetime

from geopera_server.db.pool import Connection, Row
from geopera_server.ports.payments import Notice


async def is_handled(conn: Connection, processor: str, event_id: str) -> bool:
    """Whether this event was worked on to its end before."""
    cursor = await conn.execute("SELECT FROM payment_event WHERE processor = %s AND event_id = %s", (processor, event_id))
    return await cursor.fetchone() is not None


async def topup_of_intent(conn: Connection, processor: str, intent_id: str) -> Row | None:
    """The charge that an intent belongs to."""
    cursor = await conn.execute(
        "SELECT id, organization_id FROM topup WHERE processor = %s AND intent_id = %s", (processor, intent_id)
    )
    return await cursor.fetchone()


async def set_handled(conn: Connection, processor: str, notice: Notice, *, at: datetime) -> None:
    """Notes that an event was worked on to its end; the first to say so stays."""
    await conn.execute(
        "INSERT INTO payment_event (processor, event_id, type, intent_id, received_at) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT DO NOTHING",
        (processor, notice.id, notice.type, notice.intent_id, at),
    )
