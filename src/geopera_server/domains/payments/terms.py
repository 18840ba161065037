"""The deployment's terms of payment."""

from __future__ import annotations

from geopera_server.db.pool import Connection, Row


async def terms(conn: Connection) -> Row:
    """Returns the deployment's numbers: tax, minimums, caps, grants and terms of payment; see table billing_terms."""
    row = await (await conn.execute("SELECT * FROM billing_terms")).fetchone()
    assert row is not None
    return row


def tax_part(credits_with_tax: int, percent: int) -> int:
    """Returns the tax contained in an amount that includes it, rounded half up to the cent."""
    whole = 100 + percent
    return (2 * credits_with_tax * percent + whole) // (2 * whole)
