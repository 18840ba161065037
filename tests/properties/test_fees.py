"""What a month costs, for every month there can be and every way to change plans in it."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geopera_server.domains.billing.fees import days_in, half_up, month_lines, overage, plan_fee, plan_of_each_day
from geopera_server.values.periods import Period

PERIODS = st.builds(Period, st.integers(2020, 2104), st.integers(1, 12))
PRICES = st.integers(0, 1_000_000)
NOTHING_USED = {"storage_average_bytes": 0, "tile_requests": 0, "shared_tile_requests": 0, "egress_bytes": 0}
RATES = {"storage_gb_month_credits": 5, "tiles_per_1000_credits": 2.5, "egress_gb_credits": 12}


def change(at, price, *, included=None, rates=None):
    return {
        "at": at, "plan_id": "p", "price_credits_monthly": price, "included": included or {}, "overage": rates or {},
    }  # fmt: skip


@given(PERIODS, PRICES, st.lists(st.floats(0, 1, exclude_max=True), max_size=5))
def test_changing_between_plans_of_one_price_costs_one_price(period, price, places):
    moments = sorted(period.start + place * (period.end - period.start) for place in places)
    changes = [change(moment, price) for moment in [period.start - timedelta(days=1), *moments]]
    line = plan_fee(changes, period)
    assert (0 if line is None else line.credits) == price


@given(PERIODS, st.lists(st.tuples(st.floats(-0.5, 1, exclude_max=True), PRICES), min_size=1, max_size=6))
def test_the_fee_is_the_days_of_each_plan(period, plans):
    changes = [change(period.start + place * (period.end - period.start), price) for place, price in sorted(plans)]
    days = plan_of_each_day(changes, period)
    exact = sum(Fraction(day["price_credits_monthly"], days_in(period)) for day in days)
    line = plan_fee(changes, period)
    credits_due = 0 if line is None else line.credits
    assert abs(credits_due - exact) <= Fraction(1, 2)
    assert credits_due <= max(price for _, price in plans)
    assert len(days) <= days_in(period)


@pytest.mark.parametrize(("year", "days", "due"), [(2024, 29, 5_121), (2025, 28, 4_950), (2100, 28, 4_950)])
def test_a_plan_from_the_middle_of_february(year, days, due):
    """From the 15th on: 15 of 29 days of 9,900 credits in a leap year, 14 of 28 in another."""
    february = Period(year, 2)
    assert days_in(february) == days
    line = plan_fee([change(february.start + timedelta(days=14, hours=23), 9_900)], february)
    assert (line.quantity, line.unit, line.credits) == (days - 14, "day", due)


@given(st.integers(0, 10**9), st.integers(1, 10**6))
def test_halves_go_up(numerator, denominator):
    amount = Fraction(numerator, denominator)
    assert half_up(amount) - Fraction(1, 2) <= amount < half_up(amount) + Fraction(1, 2)


def test_nothing_is_charged_before_the_first_plan_and_after_the_month():
    march = Period(2026, 3)
    assert month_lines([], NOTHING_USED, march) == []
    assert plan_fee([change(march.end - timedelta(microseconds=1), 3_100)], march).credits == 100


def test_use_beyond_the_plan_is_measured_per_unit_and_rounded_once():
    plan = change(
        Period(2026, 1).start, 0, included={"storage_bytes": 10**9, "tile_requests": 1_000, "egress_bytes": 0}, rates=RATES
    )
    used = {
        "storage_average_bytes": 2_500_000_000, "tile_requests": 900, "shared_tile_requests": 700, "egress_bytes": 41_666_667,
    }  # fmt: skip
    assert [(line.kind, float(line.quantity), line.unit, line.credits) for line in overage(plan, used)] == [
        ("storage_overage", 1.5, "GB-month", 8),  # 7.5
        ("egress_overage", 0.041666667, "GB", 1),  # 0.500000004
        ("share_tiles", 0.6, "1000 tiles", 2),  # 1.5
    ]
    own = {**used, "tile_requests": 1_200, "shared_tile_requests": 100}
    assert [(line.kind, line.credits) for line in overage(plan, own)][1:] == [("tile_overage", 1), ("egress_overage", 1)]


def test_what_is_not_limited_or_not_sold_costs_nothing():
    used = dict.fromkeys(NOTHING_USED, 10**15)
    assert overage(change(None, 0, included={}, rates=RATES), used) == []
    assert overage(change(None, 0, included={"storage_bytes": 0, "tile_requests": 0, "egress_bytes": 0}), used) == []
