"""A month of an organization's deliveries, line by line, and where its commitments stood at the end of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.commitments import store
from geopera_server.domains.commitments.burning import Standing, standing_of
from geopera_server.domains.commitments.presenting import as_commitment_row
from geopera_server.domains.commitments.rules import Part
from geopera_server.domains.commitments.shapes import Settlement, Statement, StatementLine, StatementTotals
from geopera_server.domains.pricing.rules import aud
from geopera_server.values.periods import Period, month_of

_MOMENT = timedelta(milliseconds=1)


async def statement_of(conn: Connection, organization_id: str, period: Period, *, at: datetime) -> Statement:
    """Returns a month's statement as of a moment.

    What an order has paid from the balance counts as invoiced, so that invoiced and open make the activity, as committed and
    uncommitted do. A shortfall stands in the month in which the term ended.
    """
    standing = await standing_of(conn, organization_id, since=period.start)
    corrections = await store.corrections_between(conn, organization_id, period.start, period.end)
    lines = [
        *_deliveries(standing, period),
        *(_correction(row) for row in corrections),
        *_shortfalls(standing, period, at),
    ]
    lines.sort(key=lambda line: line["date"])
    held = await store.holds_between(conn, organization_id, period.start, period.end)
    end = min(period.end - _MOMENT, at)
    then = standing.as_of(end + _MOMENT)
    return Statement(
        organization_id=organization_id,
        period=str(period),
        currency="AUD",
        lines=lines,
        totals=_totals(lines),
        commitments=[as_commitment_row(then, each, end) for each in standing.commitments],
        settlement=Settlement(
            reserved_credits=held["reserved"],
            settled_credits=held["settled"],
            released_credits=held["released"],
            difference=held["reserved"] - held["settled"] - held["released"],
        ),
    )


def _line(amount_credits: int, **told: Any) -> StatementLine:
    return StatementLine(
        date=told["date"],
        order_id=told.get("order_id"),
        job_id=told.get("job_id"),
        description=told["description"],
        sqkm=told.get("sqkm"),
        amount_aud=aud(amount_credits),
        credits=amount_credits,
        commitment_id=told.get("commitment_id"),
        committed=told.get("commitment_id") is not None,
        billed=told["billed"],
        invoice_id=told.get("invoice_id"),
    )


def _deliveries(standing: Standing, period: Period) -> Iterator[StatementLine]:
    for key, row in standing.deliveries.items():
        if period.holds(row["at"]):
            for commitment_id, part in standing.parts_of(key).items():
                yield _delivery(row, commitment_id, part)


def _delivery(row: Row, commitment_id: str | None, part: Part) -> StatementLine:
    return _line(
        part.credits,
        date=row["at"],
        order_id=row["order_id"],
        job_id=row["job_id"],
        description=row["display_name"] or "Processing job",
        sqkm=None if row["order_id"] is None else float(part.sqkm),
        commitment_id=commitment_id,
        billed=row["invoice_id"] is not None or not row["is_owed"],
        invoice_id=row["invoice_id"],
    )


def _correction(row: Row) -> StatementLine:
    return _line(
        row["credits"],
        date=row["created_at"],
        order_id=row["order_id"],
        job_id=row["job_id"],
        description=row["note"] or "Charge corrected",
        billed=True,
    )


def _shortfalls(standing: Standing, period: Period, at: datetime) -> Iterator[StatementLine]:
    for use in standing.allotment.uses.values():
        commitment = use.commitment
        if commitment.ends <= at and month_of(commitment.end_date) == period and use.shortfall_credits > 0:
            invoice_id = standing.commitments[commitment.id]["settled_invoice_id"]
            yield _line(
                use.shortfall_credits,
                date=commitment.ends - _MOMENT,
                description="Take-or-pay",
                sqkm=float(use.remaining_sqkm),
                commitment_id=commitment.id,
                billed=invoice_id is not None,
                invoice_id=invoice_id,
            )


def _totals(lines: Sequence[StatementLine]) -> StatementTotals:
    activity = sum(line["credits"] for line in lines)
    committed = sum(line["credits"] for line in lines if line["committed"])
    invoiced = sum(line["credits"] for line in lines if line["billed"])
    return StatementTotals(
        activity_aud=aud(activity),
        committed_aud=aud(committed),
        uncommitted_aud=aud(activity - committed),
        invoiced_aud=aud(invoiced),
        open_aud=aud(activity - invoiced),
    )
