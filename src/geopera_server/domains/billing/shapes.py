"""The shapes that billing operations answer with."""

from __future__ import annotations

from datetime import datetime
from typing import NotRequired

from typing_extensions import TypedDict


class Balance(TypedDict):
    """An organization's credits; `balance` is spendable, `total` adds what is reserved."""

    organization_id: str
    balance: int
    reserved: int
    total: int
    balance_aud: float
    currency: str
    billing_mode: str
    as_of: datetime
    accrued_credits: NotRequired[int]


class LedgerEntry(TypedDict):
    """One movement of credits, with the balances after it."""

    id: str
    organization_id: str
    created_at: datetime
    reason: str
    credits: int
    balance_after: int
    reserved_after: int
    project_id: str | None
    order_id: str | None
    job_id: str | None
    topup_id: str | None
    approval_id: str | None
    invoice_id: str | None
    principal_id: str | None
    api_key_id: str | None
    invocation_id: str
    note: str | None


class Transactions(TypedDict):
    """A page of movements, newest first, and the spendable balance at the same moment."""

    transactions: list[LedgerEntry]
    total: int
    limit: int
    offset: int
    balance: int


class PlanIncluded(TypedDict):
    """What a plan includes each month; null is no limit."""

    storage_bytes: int | None
    tile_requests: int | None
    egress_bytes: int | None
    seats: int | None
    projects: int | None
    api_keys: int | None
    webhooks: int | None


class PlanLimits(TypedDict):
    """What a plan never exceeds; null is no limit."""

    max_upload_bytes: int | None
    max_item_assets: int | None
    requests_per_minute: int | None


class PlanOverage(TypedDict):
    """What is charged beyond the included; 0 is not sold."""

    storage_gb_month_credits: float
    tiles_per_1000_credits: float
    egress_gb_credits: float


class Plan(TypedDict):
    """A plan that an organization can be on."""

    id: str
    name: str
    description: str
    price_aud_monthly: float
    price_credits_monthly: int
    included: PlanIncluded
    limits: PlanLimits
    overage: PlanOverage
    features: list[str]
    self_service: bool


class Plans(TypedDict):
    """The plans of this deployment, cheapest first."""

    plans: list[Plan]
    currency: str
    credits_per_aud: int


class MonthLine(TypedDict):
    """What one thing cost in a month."""

    kind: str
    quantity: float
    unit: str
    credits: int


class MonthlyRun(TypedDict):
    """How a month of an organization was billed; the status is billed, nothing_due, already_billed or past_due."""

    run_id: str
    organization_id: str
    period: str
    status: str
    lines: list[MonthLine]
    total_credits: int
    charged_credits: int
    charged_aud: float
    invoice_id: str | None
