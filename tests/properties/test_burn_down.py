"""Burn-down against a plain model that walks deliveries one ten-thousandth of a km² at a time, and what billing must not move."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from geopera_server.domains.commitments.rules import Commitment, Delivery, Piece, allot, spread

STEP = Decimal("0.0001")
DAY_ONE = datetime(2024, 2, 1, tzinfo=UTC)
PRODUCTS = ("a", "b", "c")

areas = st.integers(0, 400).map(lambda steps: steps * STEP)
pieces = st.builds(
    Piece, names=st.sampled_from(PRODUCTS).map(lambda name: frozenset({name})), sqkm=areas, credits=st.integers(0, 5_000)
)


@st.composite
def commitments(draw):
    """Commitments that do not overlap: each product has at most one at a time."""
    made = []
    for products in draw(st.sampled_from([[()], [("a",), ("b", "c")], [("a",)], [("a", "b")]])):
        start = date(2024, 2, 1) + timedelta(days=draw(st.integers(0, 20)))
        made.append(
            Commitment(
                id=f"c{len(made)}",
                sqkm_amount=draw(st.integers(1, 900)) * STEP,
                rate_credits=draw(st.integers(0, 2_000_000)),
                products=frozenset(products),
                start_date=start,
                end_date=start + timedelta(days=draw(st.integers(0, 20))),
                adjusted_sqkm=draw(st.integers(-300, 300)) * STEP,
            )
        )
    return made


@st.composite
def histories(draw):
    """Deliveries at hours around the terms, each its pieces; a third of them paid from the balance."""
    found = []
    for index in range(draw(st.integers(0, 12))):
        parts = tuple(draw(st.lists(pieces, max_size=3)))
        found.append(
            Delivery(
                key=f"d{index:02}",
                at=DAY_ONE + timedelta(hours=draw(st.integers(-24, 24 * 45))),
                credits=draw(st.one_of(st.just(sum(piece.credits for piece in parts)), st.integers(0, 9_000))),
                pieces=parts,
                is_owed=draw(st.integers(0, 2)) > 0,
            )
        )
    return found


def modelled(promises, deliveries):
    """The same by hand: walk through time, take each step of area from what is left."""
    left = {each.id: int((each.sqkm_amount - each.adjusted_sqkm) / STEP) for each in promises}
    covered = dict.fromkeys(left, 0)
    beyond = dict.fromkeys(left, 0)
    for delivery in sorted(deliveries, key=lambda each: (each.at, each.key)):
        day = delivery.at.date()
        for piece in delivery.pieces:
            name = next(iter(piece.names))
            for promise in promises:
                if promise.start_date <= day <= promise.end_date and (not promise.products or name in promise.products):
                    for _ in range(int(piece.sqkm / STEP)):
                        taken = left[promise.id] > 0
                        left[promise.id] -= taken
                        covered[promise.id] += taken
                        beyond[promise.id] += not taken
    return {key: (count * STEP, beyond[key] * STEP) for key, count in covered.items()}


@settings(max_examples=150, deadline=None)
@given(commitments(), histories())
def test_area_is_used_up_in_order_of_fulfilment(promises, deliveries):
    found = allot(promises, deliveries)
    used = {key: (use.covered_sqkm, use.overage_sqkm) for key, use in found.uses.items()}
    assert used == modelled(promises, deliveries)
    for use in found.uses.values():
        unused = use.commitment.sqkm_amount - use.covered_sqkm - use.commitment.adjusted_sqkm
        assert use.remaining_sqkm == max(Decimal(0), unused)


@settings(max_examples=150, deadline=None)
@given(commitments(), histories())
def test_money_is_never_more_than_the_order_and_exactly_its_rest(promises, deliveries):
    found = allot(promises, deliveries)
    rates = {each.id: each.rate_credits for each in promises}
    for delivery in deliveries:
        parts = found.parts[delivery.key]
        assert parts, "every delivery is billed somewhere"
        assert all(part.credits >= 0 and part.sqkm >= 0 for part in parts.values())
        assert sum(part.sqkm for part in parts.values()) == sum(piece.sqkm for piece in delivery.pieces)
        total = sum(part.credits for part in parts.values())
        assert total <= delivery.credits
        if not delivery.is_owed or set(parts) == {None}:
            assert total == delivery.credits
        for commitment_id, part in parts.items():
            if commitment_id is not None and delivery.is_owed:
                assert part.credits <= part.sqkm * rates[commitment_id] + Decimal("0.5")
    for key, use in found.uses.items():
        assert use.credits == sum(parts[key].credits for parts in found.parts.values() if key in parts)


@settings(max_examples=150, deadline=None)
@given(commitments(), histories(), st.sets(st.integers(0, 11)))
def test_billing_some_changes_nothing_about_the_rest(promises, deliveries, chosen):
    before = allot(promises, deliveries)
    after = allot(
        promises,
        [
            replace(each, billed=before.parts[each.key]) if index in chosen and each.is_owed else each
            for index, each in enumerate(deliveries)
        ],
    )
    assert after.parts == before.parts
    figures = [
        {key: (use.covered_sqkm, use.overage_sqkm, use.credits, use.shortfall_credits) for key, use in found.uses.items()}
        for found in (before, after)
    ]
    assert figures[0] == figures[1]


@settings(max_examples=100, deadline=None)
@given(commitments(), histories(), st.integers(0, 24 * 40))
def test_uses_until_a_moment_are_those_of_what_came_before(promises, deliveries, hours):
    moment = DAY_ONE + timedelta(hours=hours)
    until = allot(promises, deliveries, until=moment)
    early = allot(promises, [each for each in deliveries if each.at < moment])
    assert {key: use.covered_sqkm for key, use in until.uses.items()} == {
        key: use.covered_sqkm for key, use in early.uses.items()
    }
    assert until.parts == allot(promises, deliveries).parts


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=8), st.integers(0, 10_000))
def test_shares_add_up(weights, total):
    parts = tuple(Piece(names=frozenset({"a"}), sqkm=Decimal(area), credits=price) for area, price in weights)
    shares = spread(Delivery(key="d", at=DAY_ONE, credits=total, pieces=parts))
    assert all(share >= 0 for share in shares)
    assert sum(shares) == (total if any(area or price for area, price in weights) else 0)
