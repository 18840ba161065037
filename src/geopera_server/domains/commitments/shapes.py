"""The shapes that commitment operations answer with."""

from __future__ import annotations

from datetime import datetime

from typing_extensions import TypedDict


class Adjustment(TypedDict):
    """What an operator has added to the area used, or with a minus taken from it."""

    size_sqkm: float
    note: str
    at: datetime


class LineItem(TypedDict):
    """The part of an order that a commitment covers, at what that part costs."""

    order_id: str
    display_name: str
    fulfilled_at: datetime
    sqkm: float
    amount_aud: float


class CommitmentRow(TypedDict):
    """A commitment and its burn-down.

    `consumed_sqkm` is covered area and adjustments, `overage_sqkm` what was delivered beyond; `consumed_aud` is what the
    covered area costs. `take_or_pay_aud` is the remaining area at the rate once the term is over, and 0 before.
    """

    id: str
    sqkm_amount: float
    rate_aud: float
    products: list[str]
    start_date: str
    end_date: str
    status: str
    consumed_sqkm: float
    remaining_sqkm: float
    consumed_percent: float
    expected_percent: float
    overage_sqkm: float
    committed_aud: float
    consumed_aud: float
    take_or_pay_aud: float
    adjustments: list[Adjustment]
    line_items: list[LineItem] | None


class Commitments(TypedDict):
    """An organization's commitments, first begun first."""

    commitments: list[CommitmentRow]
    total: int


class StatementLine(TypedDict):
    """One delivery, or a part of it under one commitment; `billed` when invoiced or paid from the balance."""

    date: datetime
    order_id: str | None
    job_id: str | None
    description: str
    sqkm: float | None
    amount_aud: float
    credits: int
    commitment_id: str | None
    committed: bool
    billed: bool
    invoice_id: str | None


class StatementTotals(TypedDict):
    """Activity is committed and uncommitted, and is invoiced and open."""

    activity_aud: float
    committed_aud: float
    uncommitted_aud: float
    invoiced_aud: float
    open_aud: float


class Settlement(TypedDict):
    """What happened to reservations in the period; the difference is what it has left reserved."""

    reserved_credits: int
    settled_credits: int
    released_credits: int
    difference: int


class Statement(TypedDict):
    """A month of an organization's orders and jobs, and where its commitments stood at the end of it."""

    organization_id: str
    period: str
    currency: str
    lines: list[StatementLine]
    totals: StatementTotals
    commitments: list[CommitmentRow]
    settlement: Settlement


class DeletedCommitment(TypedDict):
    """The commitment that is no more."""

    id: str
    deleted: bool
