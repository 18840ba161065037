"""Saved cards of the test processor, and what is known of charges at either side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from geopera_server.app import House
from geopera_server.values.clock import now
from geopera_server.values.ids import new_id


async def save_card(house: House, organization_id: str, card: str = "pm_card_visa") -> str:
    """Saves a test card as the organization's default and returns the id of its row."""
    cards = house.kernel.ports.processor.cards
    customer_id = await cards.create_customer(organization_id=organization_id, name="Test", email=None, key=organization_id)
    saved = await cards.attach(card, customer_id)
    row_id = new_id()
    async with house.pool.connection() as conn, conn.transaction():
        await conn.execute(
            "INSERT INTO payment_customer (organization_id, processor, customer_id, created_at) VALUES (%s, 'test', %s, %s)"
            " ON CONFLICT DO NOTHING",
            (organization_id, customer_id, now()),
        )
        await conn.execute("UPDATE payment_method SET is_default = false WHERE organization_id = %s", (organization_id,))
        await conn.execute(
            "INSERT INTO payment_method (id, organization_id, processor, method_id, brand, last4, exp_month, exp_year,"
            " is_default, created_at) VALUES (%s, %s, 'test', %s, %s, %s, %s, %s, true, %s)",
            (row_id, organization_id, saved.id, saved.brand, saved.last4, saved.exp_month, saved.exp_year, now()),
        )
    return row_id


# What must hold at every moment at which nothing is under way; the processor's own rows are the other side's word.
CHARGED = "SELECT metadata ->> 'topup_id' AS topup_id, amount_cents FROM test_processor_intent WHERE status = 'succeeded'"
GRANTED = (
    "SELECT topup_id::text AS topup_id, credits FROM ledger_entry WHERE reason IN"
    " ('topup', 'auto_topup', 'approval_purchase', 'shortfall_charge')"
)


async def check_charges(sql: Any) -> list[Mapping[str, Any]]:
    """Asserts that every charge made is credits granted, once and of the same amount, and returns the charges."""
    charged = await sql(CHARGED)
    granted = await sql(GRANTED)
    assert Counter((row["topup_id"], row["amount_cents"]) for row in charged) == Counter(
        (row["topup_id"], row["credits"]) for row in granted
    )
    return charged
