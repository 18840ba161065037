"""What budgets are asked with and answered as."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from geopera_server.domains.billing.shapes import LedgerEntry

SubjectType = Literal["organization", "project", "api_key", "user"]
Period = Literal["day", "month", "total"]
Mode = Literal["block", "warn"]
Threshold = Annotated[float, Field(ge=0.001, le=10, allow_inf_nan=False)]

MOST_CREDITS = 10**12
MOST_THRESHOLDS = 20


class BudgetListInput(BaseModel):
    """Which budgets to show; nothing given shows all."""

    subject_type: SubjectType | None = None
    subject_id: str | None = None
    active: bool | None = None


class BudgetGetInput(BaseModel):
    """One budget."""

    budget_id: str


class BudgetSaveInput(BaseModel):
    """A new budget, or with `id` what changes of an existing one: what is not sent stays."""

    id: str | None = None
    subject_type: SubjectType | None = Field(None, description="required for a new budget")
    subject_id: str | None = Field(None, description="project, API key or user; none for the organization itself")
    period: Period | None = Field("month", description="by the UTC calendar; total never renews")
    limit_credits: int | None = Field(None, ge=0, le=MOST_CREDITS, strict=True, description="required for a new budget")
    mode: Mode | None = Field("block", description="block refuses what goes over, warn only tells")
    alert_thresholds: list[Threshold] | None = Field(
        default_factory=lambda: [0.5, 0.8, 1.0], max_length=MOST_THRESHOLDS, description="parts of the limit"
    )
    active: bool | None = True


class BudgetDeleteInput(BaseModel):
    """One budget."""

    budget_id: str


class BudgetDeleteOutput(BaseModel):
    """Done."""

    id: str
    ok: bool = True


class BudgetCheckInput(BaseModel):
    """A spend that might be made."""

    credits: int = Field(ge=0, le=MOST_CREDITS)
    project_id: str | None = None
    api_key_id: str | None = Field(None, description="whose spend it would be; none for the caller")


class Budget(TypedDict):
    """A budget and where it stands in the running period; a total has no period."""

    id: str
    subject_type: SubjectType
    subject_id: str | None
    period: Period
    limit_credits: int
    spent_credits: int
    reserved_credits: int
    remaining_credits: int
    mode: Mode
    alert_thresholds: list[float]
    active: bool
    period_start: datetime | None
    period_end: datetime | None
    created_by: str | None
    created_at: datetime
    updated_at: datetime


class BudgetWithRecent(Budget):
    """A budget with the newest movements that it counts."""

    recent: list[LedgerEntry]


class Budgets(TypedDict):
    """All budgets that were asked for."""

    budgets: list[Budget]
    total: int


class BudgetCheck(TypedDict):
    """Whether a spend would go through now, and what would stand in its way."""

    allowed: bool
    remaining_credits: int | None
    limiting_budget_id: str | None
    approval_required: bool
    balance: int
    shortfall_credits: int
