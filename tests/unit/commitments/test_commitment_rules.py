"""The arithmetic of commitments by example: terms, rates, edges of months."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from geopera_server.domains.commitments.burning import as_piece
from geopera_server.domains.commitments.rules import (
    Commitment,
    Delivery,
    Part,
    Piece,
    allot,
    at_rate,
    percents_reached,
    same_product_and_time,
)

MARCH = {"start_date": date(2026, 3, 1), "end_date": date(2026, 3, 31)}


def promise(amount: str = "100", rate_credits: int = 1_000, **more) -> Commitment:
    return Commitment(**{"id": "c", "sqkm_amount": Decimal(amount), "rate_credits": rate_credits, **MARCH, **more})


def delivery(key: str, when: datetime, sqkm: str, price: int, **more) -> Delivery:
    piece = Piece(names=frozenset({"p"}), sqkm=Decimal(sqkm), credits=price)
    return Delivery(**{"key": key, "at": when, "credits": price, "pieces": (piece,), **more})


def test_the_order_that_crosses_the_amount_is_split():
    when = datetime(2026, 3, 5, tzinfo=UTC)
    orders = [delivery("a", when, "60", 120_000), delivery("b", when + timedelta(days=1), "60", 120_000)]
    found = allot([promise()], orders)
    assert found.parts["a"] == {"c": Part(Decimal(60), 60_000)}
    assert found.parts["b"] == {"c": Part(Decimal(40), 40_000), None: Part(Decimal(20), 40_000)}
    use = found.uses["c"]
    assert (use.consumed_sqkm, use.remaining_sqkm, use.overage_sqkm, use.percent) == (100, 0, 20, 100)


def test_a_rate_above_the_orders_own_price_makes_it_no_dearer():
    free = delivery("free", datetime(2026, 3, 5, tzinfo=UTC), "10", 0)
    cheap = delivery("cheap", datetime(2026, 3, 6, tzinfo=UTC), "10", 500)
    found = allot([promise()], [free, cheap])
    assert found.parts["free"] == {"c": Part(Decimal(10), 0)}
    assert found.parts["cheap"] == {"c": Part(Decimal(10), 500)}


def test_what_was_paid_from_the_balance_stays_paid():
    paid = delivery("paid", datetime(2026, 3, 5, tzinfo=UTC), "10", 50_000, is_owed=False)
    assert allot([promise()], [paid]).parts["paid"] == {"c": Part(Decimal(10), 50_000)}


@pytest.mark.parametrize(
    ("when", "counts"),
    [
        (datetime(2026, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC), False),
        (datetime(2026, 3, 1, tzinfo=UTC), True),
        (datetime(2026, 3, 31, 23, 59, 59, 999_999, tzinfo=UTC), True),
        (datetime(2026, 4, 1, tzinfo=UTC), False),
    ],
)
def test_a_term_is_of_whole_days(when, counts):
    found = allot([promise()], [delivery("a", when, "1", 5_000)])
    assert (found.uses["c"].covered_sqkm == 1) is counts


def test_a_term_may_end_on_a_leap_day():
    leap = promise(start_date=date(2024, 2, 1), end_date=date(2024, 2, 29))
    assert leap.ends == datetime(2024, 3, 1, tzinfo=UTC)
    assert leap.status(datetime(2024, 2, 29, 23, 59, tzinfo=UTC)) == "active"
    assert leap.status(datetime(2024, 3, 1, tzinfo=UTC)) == "completed"
    assert leap.expected_percent(datetime(2024, 2, 15, 12, tzinfo=UTC)) == 50.0


def test_the_elapsed_share_of_a_term():
    one_day = promise(start_date=date(2026, 3, 1), end_date=date(2026, 3, 1))
    assert [one_day.expected_percent(datetime(2026, 3, 1, hour, tzinfo=UTC)) for hour in (0, 6, 12)] == [0.0, 25.0, 50.0]
    assert one_day.expected_percent(datetime(2026, 2, 1, tzinfo=UTC)) == 0.0
    assert one_day.expected_percent(datetime(2027, 1, 1, tzinfo=UTC)) == 100.0
    assert one_day.status(datetime(2026, 2, 1, tzinfo=UTC)) == "upcoming"


def test_half_a_credit_is_rounded_up():
    assert [at_rate(Decimal(area), 1_000) for area in ("0.0005", "0.0004", "12.3456")] == [1, 0, 12_346]


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ({}, {}, True),
        ({"products": frozenset({"p"})}, {}, True),
        ({"products": frozenset({"p"})}, {"products": frozenset({"q"})}, False),
        ({"products": frozenset({"p", "q"})}, {"products": frozenset({"q"})}, True),
        ({}, {"start_date": date(2026, 3, 31), "end_date": date(2026, 12, 31)}, True),
        ({}, {"start_date": date(2026, 4, 1), "end_date": date(2026, 12, 31)}, False),
    ],
)
def test_two_commitments_take_one_delivery_or_not(one, other, meet):
    assert same_product_and_time(promise(**one), promise(**other)) is meet
    assert same_product_and_time(promise(**other), promise(**one)) is meet


def test_percentages_are_told_of_once():
    assert percents_reached(Decimal("49.9999"), 0) == []
    assert percents_reached(Decimal(50), 0) == [50]
    assert percents_reached(Decimal(130), 50) == [80, 100]
    assert percents_reached(Decimal(130), 100) == []


def test_a_part_of_a_group_weighs_what_it_is_billed():
    """As the failing of an order prices it: by the share of the area, half a credit rounded up."""
    square = {"type": "Polygon", "coordinates": [[[0, 0], [0.01, 0], [0.01, 0.01], [0, 0.01], [0, 0]]]}
    group = {"credits": 101, "product": None, "host": "h", "collection": "c", "shapes": [square, square]}
    area = as_piece({**group, "area_sqkm": 100.0}, None).sqkm
    assert area == Decimal("1.2309")
    whole = as_piece({**group, "area_sqkm": 2.4618, "shapes": None}, "p")
    assert (whole.sqkm, whole.credits, whole.names) == (Decimal("2.4618"), 101, frozenset({"h/c", "c", "p"}))
    assert as_piece({**group, "area_sqkm": 2.4618}, None).credits == 51
    assert as_piece({**group, "area_sqkm": 1.0}, None) == Piece(names=frozenset({"h/c", "c"}), sqkm=Decimal("1.0"), credits=101)
