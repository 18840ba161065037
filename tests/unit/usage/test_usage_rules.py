"""Months, shares of a limit, and which movements are spending."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from geopera_server.domains.usage import rules


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "start", "end"),
    [
        (at(2028, 2, 29, 23, 59, 59, 999_999), at(2028, 2, 1), at(2028, 3, 1)),
        (at(2027, 2, 28), at(2027, 2, 1), at(2027, 3, 1)),
        (at(2026, 12, 31, 12), at(2026, 12, 1), at(2027, 1, 1)),
        (datetime.fromisoformat("2026-12-31T22:00:00-05:00"), at(2027, 1, 1), at(2027, 2, 1)),
    ],
)
def test_months_are_those_of_utc(moment, start, end):
    assert rules.months_until(moment, 1) == [{"start": start, "end": end}]


def test_months_follow_each_other_without_gaps():
    months = rules.months_until(at(2028, 3, 31, 1), 36)
    assert len(months) == 36
    assert [month["end"] for month in months[:-1]] == [month["start"] for month in months[1:]]
    assert (months[0]["start"], months[-1]["end"]) == (at(2025, 4, 1), at(2028, 4, 1))
    assert at(2028, 2, 1) in [month["start"] for month in months]


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [
        (at(2028, 2, 1), at(2028, 3, 1), (date(2028, 2, 1), date(2028, 3, 1))),
        (at(2028, 2, 1), at(2028, 2, 29, 0, 0, 1), (date(2028, 2, 1), date(2028, 3, 1))),
    ],
)
def test_a_day_that_is_touched_is_whole(start, end, days):
    assert rules.days_of({"start": start, "end": end}) == days


@pytest.mark.parametrize(
    ("used", "limit", "percent"), [(5, None, None), (0, 0, 0.0), (1, 0, 100.0), (1, 3, 33.33), (7, 5, 140.0)]
)
def test_percent(used, limit, percent):
    assert rules.percent_of(used, limit) == percent


@pytest.mark.parametrize(
    ("reason", "credits_moved", "settled", "spent"),
    [("reserve", -100, 0, 0), ("settle", 0, 90, 90), ("release", 10, 0, 0), ("refund", 20, 0, -20), ("plan_fee", -5, 0, 5),
     ("topup", 500, 0, 0), ("correction", -7, 0, 0)],
)  # fmt: skip
def test_what_is_spent(reason, credits_moved, settled, spent):
    assert rules.spent_by(reason, credits_moved, settled) == spent
