"""Prices as pure arithmetic."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geopera_server.domains.pricing.rules import PriceBook, PriceRule, credits_for, first_overlap

FACTORS = {"standard": Decimal(1), "extended": Decimal("1.5"), "public_display": Decimal(2), "open": Decimal(0)}


def rule(price, low=0, high=None, *, resolution="0.5m", negotiated=False, name="r"):
    return PriceRule(
        id=name,
        vendor="v",
        resolution=resolution,
        capture_type="archive",
        price_per_sqkm_aud=Decimal(str(price)),
        min_area_sqkm=Decimal(str(low)),
        max_area_sqkm=None if high is None else Decimal(str(high)),
        negotiated=negotiated,
    )


def price(book, area, *, resolution="0.5m", license_type="standard"):
    return book.price(Decimal(str(area)), vendor="v", resolution=resolution, capture_type="archive", license_type=license_type)


@pytest.mark.parametrize(("area", "expected"), [("0.0001", 50_000), ("24.9999", 50_000), ("25", 50_000), ("30", 60_000)])
def test_small_areas_are_charged_as_the_minimum(area, expected):
    found = price(PriceBook([rule(20, 25)], FACTORS), area)
    assert (found.credits, found.minimum_area_sqkm) == (expected, Decimal(25))


def test_half_a_cent_rounds_up():
    assert credits_for(Decimal("0.5"), Decimal("0.01"), Decimal(1)) == 1
    assert credits_for(Decimal("0.4999"), Decimal("0.01"), Decimal(1)) == 0
    assert credits_for(Decimal("1.5"), Decimal("0.03"), Decimal("1.5")) == 7  # 6.75


def test_bands_and_licences():
    book = PriceBook([rule(10, 0, 100, name="low"), rule(8, 100, name="high")], FACTORS)
    assert price(book, "99.9999").rule.id == "low"
    assert price(book, "100").rule.id == "high"
    assert price(book, "100", license_type="extended").credits == 120_000
    assert price(book, "100", license_type="unheard-of") is None
    assert price(book, "100", resolution="3m") is None


def test_negotiated_rules_win_and_a_resolution_wins_over_any():
    listed, any_, own = rule(10, name="list"), rule(9, resolution="any", name="any"), rule(7, negotiated=True, name="own")
    assert price(PriceBook([listed, any_, own], FACTORS), "1").rule.id == "own"
    assert price(PriceBook([listed, any_], FACTORS), "1").rule.id == "list"
    assert price(PriceBook([any_], FACTORS), "1").rule.id == "any"


bands = st.tuples(st.integers(0, 50), st.one_of(st.none(), st.integers(1, 50))).map(
    lambda band: (band[0], None if band[1] is None else band[0] + band[1])
)


@given(bands, bands)
def test_overlap_means_that_some_area_is_in_both(first, second):
    one, two = rule(1, *first, name="one"), rule(1, *second, name="two")
    in_both = any(covers(first, n) and covers(second, n) for n in range(120))
    assert (first_overlap([one], two) is not None) == in_both


def covers(band, area):
    return band[0] <= area and (band[1] is None or area < band[1])


@given(st.decimals(0, 10_000, places=4), st.decimals(0, 500, places=4))
def test_credits_are_within_half_a_cent_of_the_exact_price(area, per_sqkm):
    exact = area * per_sqkm * 100
    assert abs(Decimal(credits_for(area, per_sqkm, Decimal(1))) - exact) <= Decimal("0.5")
