"""What a caller is told when the database refuses a spend: no cover (SQLSTATE GP001), or over a budget (GP002)."""

from __future__ import annotations

from typing import Any

import orjson
import psycopg

from geopera_server.kernel.errors import PaymentRequired

NOT_COVERED = "GP001"
OVER_BUDGET = "GP002"
OVERSPENDING = frozenset({NOT_COVERED, OVER_BUDGET})
_WHOSE = {
    "organization": "of your organization",
    "project": "of this project",
    "api_key": "of this API key",
    "user": "of this user",
}
_OVER = {"day": "daily budget", "month": "monthly budget", "total": "budget"}


def overspent(error: psycopg.Error) -> PaymentRequired:
    """Returns the refusal for an error whose SQLSTATE is one of OVERSPENDING."""
    if error.sqlstate == OVER_BUDGET:
        return over_budget(error)
    return PaymentRequired("Not enough credits. Top up, then send the same request again.")


def over_budget(error: psycopg.Error) -> PaymentRequired:
    """Returns the refusal that names the budget, its limit, what is left of it, and when it renews."""
    told: dict[str, Any] = orjson.loads(error.diag.message_detail or "{}")
    return PaymentRequired(
        _sentence(told),
        code="budget_exceeded",
        budget_id=told.get("budget_id"),
        limit=told.get("limit"),
        remaining=told.get("remaining"),
    )


def _sentence(told: dict[str, Any]) -> str:
    if told.get("budget_id") is None:
        return (
            "Your organization lets an API key spend only within a budget, and this key has none. Ask an owner, admin or"
            " billing member to make one with budgets.save."
        )
    renews = "" if told["renews_on"] is None else f" until {told['renews_on']} 00:00 UTC"
    return (
        f"{told['needed']:,} credits are over the {_OVER[told['period']]} {_WHOSE[told['subject_type']]}: {told['remaining']:,}"
        f" of {told['limit']:,} are left{renews}. Spend less, or ask an owner, admin or billing member to raise it with"
        " budgets.save."
    )
