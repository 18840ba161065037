"""Months as they are written and counted."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from geopera_server.domains.invoicing.periods import read_period
from geopera_server.kernel.errors import InvalidInput
from geopera_server.values.periods import Period, month_of


@pytest.mark.parametrize(
    "text",
    [
        "2026-13",
        "2026-00",
        "0000-01",
        "1999-12",
        "2026-1",
        "2026-01-01",
        "",
        " 2026-01",
        "2026-01\n",
        "\uff12026-01",
        "2026/01",
        "-1",
    ],
)
def test_anything_but_a_month_is_refused(text):
    with pytest.raises(InvalidInput) as refused:
        read_period(text)
    assert refused.value.issues[0]["loc"][-1] == "period"


def test_months_follow_on_each_other():
    period, seen = read_period("2023-11"), []
    for _ in range(5):
        seen.append((str(period), (period.end - period.start).days))
        assert period.following.start == period.end
        period = period.following
    assert seen == [("2023-11", 30), ("2023-12", 31), ("2024-01", 31), ("2024-02", 29), ("2024-03", 31)]
    assert read_period("2999-12").end == datetime(3000, 1, 1, tzinfo=UTC)


def test_a_month_is_of_utc():
    late = datetime(2026, 4, 1, 5, tzinfo=timezone(timedelta(hours=10)))
    assert month_of(late) == Period(2026, 3)
    assert month_of(date(2024, 2, 29)) == Period(2024, 2)
    assert Period(2026, 3).holds(datetime(2026, 3, 31, 23, 59, 59, 999_999, tzinfo=UTC))
    assert not Period(2026, 3).holds(datetime(2026, 4, 1, tzinfo=UTC))


@pytest.mark.parametrize(("period", "before"), [(Period(2026, 1), Period(2025, 12)), (Period(2024, 3), Period(2024, 2))])
def test_what_precedes_is_followed(period, before):
    assert period.preceding == before
    assert before.following == period
