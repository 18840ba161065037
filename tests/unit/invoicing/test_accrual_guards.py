"""What the database refuses to have done to accruals, invoices and commitments, whoever writes."""

from __future__ import annotations

import psycopg
import pytest

from geopera_server.kernel.errors import Conflict
from geopera_server.ledger import accruals
from geopera_server.ledger.postings import Cause
from geopera_server.values.clock import now
from geopera_server.values.ids import new_id
from support.owing import commit, enterprise, owed

ATTACKS = (
    "DELETE FROM accrual",
    "TRUNCATE accrual",
    "UPDATE accrual SET credits = credits + 1",
    "UPDATE accrual SET organization_id = %(stranger)s",
    "UPDATE accrual SET order_id = gen_random_uuid()",
    "UPDATE accrual SET principal_id = gen_random_uuid()",
    "UPDATE accrual SET billable_at = NULL WHERE billable_at IS NOT NULL AND invoice_id IS NULL",
    "UPDATE accrual SET reversed_at = now() WHERE billable_at IS NOT NULL",
    "UPDATE accrual SET credits = 0 WHERE invoice_id IS NOT NULL",
    "UPDATE accrual SET invoice_id = NULL WHERE invoice_id IS NOT NULL",
    "UPDATE accrual SET invoice_id = %(foreign)s WHERE invoice_id IS NULL AND billable_at IS NOT NULL",
    "UPDATE accrual SET invoice_id = %(invoice)s WHERE billable_at IS NULL",
    "UPDATE invoice SET total_credits = 1",
    "UPDATE invoice SET status = 'draft'",
    "UPDATE invoice SET due_at = now()",
    "DELETE FROM invoice_line",
    "UPDATE invoice_line SET credits = credits + 1",
    "DELETE FROM invoice_counter",
    (
        "INSERT INTO invoice_line (invoice_id, position, organization_id, kind, description, quantity, unit,"
        " unit_price_credits, credits) VALUES (%(invoice)s, 99, %(home)s, 'order', 'one more', 1, 'order', 5, 5)"
    ),
    (
        "INSERT INTO invoice_line SELECT invoice_id, 98, organization_id, kind, description, order_id, job_id,"
        " gen_random_uuid(), NULL, quantity, unit, unit_price_credits, 0 FROM invoice_line"
    ),
    "UPDATE commitment SET organization_id = %(stranger)s",
    "DELETE FROM commitment",
    "DELETE FROM commitment_adjustment",
    "UPDATE commitment_adjustment SET size_sqkm = 5",
)


@pytest.fixture
async def billed(household):
    """One order billed, one delivered, one under way; an invoice of a stranger."""
    organization_id = await enterprise(household)
    await owed(household, "2026-03-05", (10, 5_000))
    given = {"organization_id": organization_id, "reference": "R"}
    made = await household.operator.op("billing.enterprise.mark_invoiced", given)
    await owed(household, "2026-03-06", (10, 5_000))
    await owed(household, None, (10, 5_000))
    stranger = household.place.stranger.organization_id
    foreign = new_id()
    await household.sql(
        "INSERT INTO invoice (id, number, organization_id, kind, period, status, total_credits, tax_credits, created_at,"
        " issued_at, due_at, invocation_id) VALUES (%s, 'X', %s, 'statement', '2026-03', 'issued', 0, 0, now(), now(), now(), %s)",
        foreign,
        stranger,
        new_id(),
    )
    saved = await commit(household, 10, 1, "2030-01-01", "2030-02-01")
    await household.operator.op("organizations.admin.commitments.adjust", {"commitment_id": saved["id"], "size_sqkm": 1})
    return {"home": organization_id, "stranger": stranger, "invoice": made["invoice"]["id"], "foreign": foreign}


async def test_the_database_keeps_what_is_owed_and_billed(household, billed):
    for attack in ATTACKS:
        async with household.house.pool.connection() as conn:
            with pytest.raises(psycopg.errors.IntegrityError):
                await conn.execute(attack, billed)


async def test_an_invoice_that_does_not_add_up_is_refused(household, billed):
    async with household.house.pool.connection() as conn:
        with pytest.raises(psycopg.errors.IntegrityError, match="of 7 credits and its lines of 0"):
            await conn.execute(
                "INSERT INTO invoice (id, number, organization_id, kind, period, status, total_credits, tax_credits, created_at,"
                " invocation_id) VALUES (gen_random_uuid(), 'Y', %s, 'statement', '2026-03', 'draft', 7, 0, now(),"
                " gen_random_uuid())",
                (billed["home"],),
            )


async def test_what_was_reversed_is_not_owed(household):
    organization_id = await enterprise(household)
    order_id = await owed(household, None, (10, 5_000))
    async with household.house.pool.connection() as conn:
        assert await accruals.has_unbilled(conn, organization_id)
        await accruals.make_billable(conn, organization_id, order_id=order_id, at=now(), credits_due=0)
        assert not await accruals.has_unbilled(conn, organization_id)
    assert await enterprise(household, on=False) == organization_id


async def test_who_pays_before_accrues_nothing(household):
    cause = Cause(organization_id=household.place.home.organization_id, invocation_id=new_id(), at=now())
    async with household.house.pool.connection() as conn:
        with pytest.raises(Conflict, match="has just changed"):
            await accruals.accrue(conn, cause, credits_accrued=5, order_id=new_id())
