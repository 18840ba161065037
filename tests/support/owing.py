"""Orders as an enterprise organization has them delivered, put into the database at chosen times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from psycopg.types.json import Jsonb

from geopera_server.ledger import accruals
from geopera_server.ledger.postings import Cause
from geopera_server.values.ids import new_id
from support.house import Household

PRODUCT = "test-archive/ortho"


def at(text: str) -> datetime:
    """Returns a moment in UTC from `2026-03-31` or `2026-03-31T23:59:59`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


async def enterprise(household: Household, *, on: bool = True) -> str:
    """Lets the home organization pay afterwards and returns its id."""
    organization_id = household.place.home.organization_id
    given = {"organization_id": organization_id, "enterprise": on}
    assert (await household.operator.op("billing.admin.set_billing_mode", given))["organization_id"] == organization_id
    return organization_id


async def owed(
    household: Household, when: str | None, *groups: tuple[float, int], product: str = PRODUCT, job: bool = False
) -> str:
    """Places an order, or a job, of groups of (km², credits), delivers it at a time, and returns its id; no time, no delivery."""
    organization_id, thing_id = household.place.home.organization_id, new_id()
    placed = at(when or "2026-01-01")
    cause = Cause(organization_id=organization_id, invocation_id=new_id(), at=placed)
    which: dict[str, Any] = {"job_id": thing_id} if job else {"order_id": thing_id}
    total = sum(price for _, price in groups)
    async with household.house.pool.connection() as conn, conn.transaction():
        if not job:
            await _order(conn, household, thing_id, groups, product=product, placed=placed, delivered=when is not None)
        await accruals.accrue(conn, cause, credits_accrued=total, **which)
        if when is not None:
            await accruals.make_billable(conn, organization_id, at=placed, **{"order_id": None, **which})
    return thing_id


async def _order(conn, household, order_id, groups, *, product, placed, delivered) -> None:
    home = household.place.home
    host, _, collection = product.partition("/")
    await conn.execute(
        "INSERT INTO orders (id, organization_id, project_id, type, status, display_name, billing_mode, total_credits,"
        " license_type, created_by_type, created_at, updated_at, fulfilled_at)"
        " VALUES (%s, %s, %s, 'archive', %s, %s, 'enterprise', %s, 'standard', 'user', %s, %s, %s)",
        (
            order_id, home.organization_id, home.project_id, "fulfilled" if delivered else "processing", f"Order {order_id[-4:]}",
            sum(price for _, price in groups), placed, placed, placed if delivered else None,
        ),
    )  # fmt: skip
    for position, (area_sqkm, price) in enumerate(groups):
        priced = {"areaSqkm": area_sqkm, "dataProductId": None, "host": host, "collection": collection, "captures": []}
        await conn.execute(
            "INSERT INTO order_group (id, order_id, organization_id, position, credits, priced, settled_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (new_id(), order_id, home.organization_id, position, price, Jsonb(priced), placed if delivered else None),
        )


async def commit(
    household: Household, amount_sqkm: float, rate_aud: float, start: str, end: str, **more: Any
) -> dict[str, Any]:
    """Has the operator save a commitment of the home organization."""
    given = {
        "organization_id": household.place.home.organization_id, "sqkm_amount": amount_sqkm, "rate_aud": rate_aud,
        "start_date": start, "end_date": end, **more,
    }  # fmt: skip
    saved: dict[str, Any] = await household.operator.op("organizations.admin.commitments.save", given)
    return saved


async def statement(household: Household, period: str) -> dict[str, Any]:
    """Returns the home organization's statement of a month, its identities checked."""
    given = {"organization_id": household.place.home.organization_id, "period": period}
    told: dict[str, Any] = await household.owner.op("organizations.commitments.statement", given)
    totals = {name: round(100 * amount) for name, amount in told["totals"].items()}
    assert totals["activity_aud"] == sum(line["credits"] for line in told["lines"])
    assert totals["activity_aud"] == totals["committed_aud"] + totals["uncommitted_aud"]
    assert totals["activity_aud"] == totals["invoiced_aud"] + totals["open_aud"]
    assert totals["invoiced_aud"] == sum(line["credits"] for line in told["lines"] if line["billed"])
    return told
