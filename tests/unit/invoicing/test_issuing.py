"""Invoices as the monthly run and others make them: statements, drafts, numbers, tax."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from pydantic import BaseModel

from geopera_server.domains.invoicing.issuing import NewLine, issue_invoice
from geopera_server.domains.invoicing.presenting import as_invoice
from geopera_server.domains.invoicing.shapes import Invoice
from geopera_server.kernel.context import Context
from geopera_server.kernel.operation import operation
from geopera_server.ledger import postings
from geopera_server.values.ids import new_id


class ToIssue(BaseModel):
    """A statement to make."""

    organization_id: str
    period: str = "2026-03"
    status: str = "paid"
    debited: bool = False
    credits: int = 9_900


@operation("test.issue", effect="compute", scope="admin:write")
async def issue(ctx: Context, given: ToIssue) -> Invoice:
    """Issues a statement of a plan's fee and 1,234.5 GB of storage, as the monthly run does."""
    lines = [
        NewLine(kind="plan_fee", description="Starter", credits=given.credits, unit="month", unit_price_credits=given.credits),
        NewLine(
            kind="storage_overage", description="Storage", credits=617, quantity=Decimal("1234.5"), unit="GB",
            unit_price_credits=Decimal("0.5"),
        ),
    ]  # fmt: skip
    row = await issue_invoice(
        ctx,
        organization_id=given.organization_id,
        period=given.period,
        lines=lines,
        kind="statement",
        status=given.status,  # type: ignore[arg-type]
    )
    if given.debited:
        cause = postings.Cause(organization_id=given.organization_id, invocation_id=ctx.invocation_id, at=ctx.now)
        posting = postings.Posting(
            reason="plan_fee", credits=-row["total_credits"], external_ref=given.period, invoice_id=row["id"]
        )
        await postings.post(ctx.conn, cause, posting)
    return as_invoice(row)


async def test_a_statement_shows_its_tax_and_lines(household):
    organization_id = household.place.home.organization_id
    made = await household.operator.run(issue, {"organization_id": organization_id, "debited": True})
    assert (made["status"], made["total_credits"], made["tax_aud"]) == ("paid", 10_517, 9.56)  # 105.17 / 11
    assert made["issued_at"] == made["paid_at"]
    assert [(line["quantity"], line["unit_price_aud"], line["amount_aud"]) for line in made["lines"]] == [
        (1.0, 99.0, 99.0),
        (1_234.5, 0.005, 6.17),
    ]
    assert await household.owner.op("billing.invoices.list") == {"invoices": [made], "total": 1}


async def test_terms_of_payment_are_the_deployments(household):
    await household.sql("UPDATE billing_terms SET tax_percent = 20, invoice_due_days = 14")
    given = {"organization_id": household.place.home.organization_id, "status": "issued"}
    made = await household.operator.run(issue, given)
    assert made["tax_aud"] == 17.53  # 105.17 / 6
    [row] = await household.sql("SELECT due_at - issued_at AS time FROM invoice")
    assert row["time"].days == 14


async def test_one_statement_a_month(household):
    given = {"organization_id": household.place.home.organization_id, "status": "issued"}
    made = await household.operator.run(issue, given)
    with pytest.raises(Exception, match="statement of 2026-03"):
        await household.operator.run(issue, given)
    with pytest.raises(Exception, match="YYYY-MM"):
        await household.operator.run(issue, {**given, "period": "2026-13"})
    with pytest.raises(Exception, match="no such organization"):
        await household.operator.run(issue, {**given, "organization_id": new_id()})
    void = {"invoice_id": made["id"], "status": "void"}
    assert (await household.operator.op("billing.admin.invoices.set_status", void))["status"] == "void"
    again = await household.operator.run(issue, given)
    assert again["number"][-6:] == "000002"


async def test_what_was_debited_is_not_made_void(household):
    organization_id = household.place.home.organization_id
    made = await household.operator.run(issue, {"organization_id": organization_id, "debited": True, "status": "issued"})
    void = {"invoice_id": made["id"], "status": "void"}
    assert await household.operator.refused("billing.admin.invoices.set_status", void) == (409, "illegal_state")
    paid = await household.operator.op("billing.admin.invoices.set_status", {**void, "status": "paid"})
    assert paid["status"] == "paid"


async def test_a_draft_is_the_operators(household):
    organization_id = household.place.home.organization_id
    made = await household.operator.run(issue, {"organization_id": organization_id, "status": "draft"})
    assert (made["issued_at"], made["due_at"]) == (None, None)
    assert await household.owner.op("billing.invoices.list") == {"invoices": [], "total": 0}
    assert await household.sql("SELECT 1 FROM outbox_event WHERE type = 'invoice.issued'") == []
    given = {"invoice_id": made["id"], "status": "paid"}
    assert await household.operator.refused("billing.admin.invoices.set_status", given) == (409, "illegal_state")
    assert (await household.operator.op("billing.admin.invoices.set_status", {**given, "status": "void"}))["status"] == "void"
    assert await household.owner.op("billing.invoices.list") == {"invoices": [], "total": 0}


async def test_numbers_follow_on_each_other_in_a_crowd(household):
    homes = (household.place.home.organization_id, household.place.stranger.organization_id)

    async def attempt(number: int) -> bool:
        credits_asked = 9_900 if number % 3 else 10**9  # more than the balance: refused after the number was taken
        given = {"organization_id": homes[number % 2], "period": f"2025-{number // 2 + 1:02}", "credits": credits_asked}
        try:
            await household.operator.run(issue, {**given, "debited": not number % 3})
        except Exception:  # noqa: BLE001
            return False
        return True

    made = await asyncio.gather(*(attempt(number) for number in range(18)))
    assert made == [bool(number % 3) for number in range(18)]
    rows = await household.sql("SELECT number FROM invoice ORDER BY number")
    assert [int(row["number"][-6:]) for row in rows] == list(range(1, 13))
