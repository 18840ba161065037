"""Organizations that have been there for a while, with months to pay."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import psycopg

from geopera_server.domains.billing.monthly import last_closed
from geopera_server.values.clock import now
from geopera_server.values.periods import Period


def month_before(period: Period) -> Period:
    return Period(period.year - (period.month == 1), (period.month - 2) % 12 + 1)


def been_on(dsn: str, organization_id: str, plan_id: str, *, since: datetime | None = None) -> Period:
    """Makes an organization one that has been on a plan since then, by default for the whole last month, which is returned."""
    period = last_closed(now())
    since = since or period.start
    with psycopg.connect(dsn) as conn:
        conn.execute("SET LOCAL session_replication_role = 'replica'")
        conn.execute("UPDATE organization SET plan_id = %s, created_at = %s WHERE id = %s", (plan_id, since, organization_id))
        conn.execute(
            "UPDATE plan_change SET plan_id = %s, at = %s WHERE organization_id = %s", (plan_id, since, organization_id)
        )
    return period


def owing_for(dsn: str, organization_id: str, days: int) -> None:
    """Makes it so long that a past due organization has owed."""
    since = now() - timedelta(days=days)
    with psycopg.connect(dsn) as conn:
        conn.execute("UPDATE organization SET past_due_since = %s WHERE id = %s", (since, organization_id))


def asked_yesterday(dsn: str) -> None:
    """Lets the day pass on which a card was refused."""
    with psycopg.connect(dsn) as conn:
        conn.execute("UPDATE billing_run SET attempted_at = attempted_at - interval '1 day' WHERE status = 'past_due'")


def fees(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Returns credits by reason of ledger entries."""
    found: dict[str, int] = {}
    for row in rows:
        found[row["reason"]] = found.get(row["reason"], 0) + row["credits"]
    return found
