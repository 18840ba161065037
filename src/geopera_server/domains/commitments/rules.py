"""How promised areas are used up, and what that costs: pure arithmetic in decimals and whole credits.

A commitment is an amount of km² at a rate, for some products, over a term of whole UTC days. Deliveries use it up in order of
fulfilment; what an invoice has billed under it comes first, since it cannot change any more. The area that is covered costs the
rate, but never more than the order's own price of that area, which is what its buyer agreed to; the area beyond the amount
costs the order's own price. What a prepaid order has paid stays what it was: it uses the amount up at its own price.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal

NOTHING = Decimal(0)
ALERT_PERCENTS = (50, 80, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitment:
    """An amount promised; `adjusted_sqkm` is what operators have added to its use or taken from it.

    `settled_sqkm` is what was billed as promised and not ordered: nothing delivered falls under that any more.
    """

    id: str
    sqkm_amount: Decimal
    rate_credits: int
    products: frozenset[str] = frozenset()
    start_date: date
    end_date: date
    adjusted_sqkm: Decimal = NOTHING
    settled_sqkm: Decimal = NOTHING

    @property
    def begins(self) -> datetime:
        """The first moment of the term."""
        return datetime.combine(self.start_date, time(), UTC)

    @property
    def ends(self) -> datetime:
        """The first moment after the term."""
        return datetime.combine(self.end_date + timedelta(days=1), time(), UTC)

    @property
    def committed_credits(self) -> int:
        return at_rate(self.sqkm_amount, self.rate_credits)

    def takes(self, piece: Piece, at: datetime) -> bool:
        """Says whether an area delivered at a moment counts towards this commitment."""
        return self.begins <= at < self.ends and (not self.products or not self.products.isdisjoint(piece.names))

    def status(self, at: datetime) -> str:
        """Returns upcoming, active or completed."""
        if at < self.begins:
            return "upcoming"
        return "active" if at < self.ends else "completed"

    def expected_percent(self, at: datetime) -> float:
        """Returns the elapsed share of the term."""
        elapsed = (at - self.begins) / (self.ends - self.begins)
        return round(100 * min(1.0, max(0.0, elapsed)), 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A delivered area of one product; its credits are its weight in what the order costs."""

    names: frozenset[str]
    sqkm: Decimal
    credits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An order or job that was delivered; `billed` is what an invoice says of it, by commitment."""

    key: str
    at: datetime
    credits: int
    pieces: tuple[Piece, ...] = ()
    is_owed: bool = True  # not paid from the balance already
    billed: Mapping[str | None, Part] | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """What of a delivery falls under one commitment, or under none; jobs have no area."""

    sqkm: Decimal
    credits: int


@dataclass(slots=True)
class Use:
    """How far a commitment is used up."""

    commitment: Commitment
    covered_sqkm: Decimal = NOTHING
    overage_sqkm: Decimal = NOTHING
    credits: int = 0

    @property
    def consumed_sqkm(self) -> Decimal:
        return self.covered_sqkm + self.commitment.adjusted_sqkm

    @property
    def remaining_sqkm(self) -> Decimal:
        return max(NOTHING, self.commitment.sqkm_amount - self.consumed_sqkm)

    @property
    def percent(self) -> Decimal:
        """The share that is used up, unrounded."""
        return 100 * self.consumed_sqkm / self.commitment.sqkm_amount

    @property
    def shortfall_credits(self) -> int:
        """What is owed for the area that was promised and not used."""
        return at_rate(self.remaining_sqkm, self.commitment.rate_credits)


@dataclass(slots=True)
class Allotment:
    """What each delivery is made of, by commitment with None for none, and the use of each commitment."""

    parts: dict[str, dict[str | None, Part]] = field(default_factory=dict)
    uses: dict[str, Use] = field(default_factory=dict)


def at_rate(sqkm: Decimal, rate_credits: int) -> int:
    """Returns what an area costs at a rate per km², half a credit rounded up."""
    return rounded(sqkm * rate_credits)


def allot(commitments: Iterable[Commitment], deliveries: Sequence[Delivery], *, until: datetime | None = None) -> Allotment:
    """Returns how deliveries use commitments up; with `until` the uses count only what was delivered before.

    Billing any of the deliveries changes nothing about the others: they are allotted what they were before.
    """
    ordered = sorted(commitments, key=lambda each: (each.start_date, each.id))
    result = Allotment(uses={each.id: Use(each) for each in ordered})
    left = {each.id: each.sqkm_amount - each.adjusted_sqkm - each.settled_sqkm for each in ordered}
    for delivery in deliveries:
        for commitment_id, part in (delivery.billed or {}).items():
            if commitment_id in left:
                left[commitment_id] -= part.sqkm
    for delivery in sorted(deliveries, key=lambda each: (each.at, each.key)):
        counts = until is None or delivery.at < until
        result.parts[delivery.key] = _parts(delivery, ordered, left, result.uses if counts else {})
    return result


def _parts(
    delivery: Delivery, commitments: Sequence[Commitment], left: dict[str, Decimal], uses: Mapping[str, Use]
) -> dict[str | None, Part]:
    matched: dict[str, Decimal] = {}
    covered: dict[str, Decimal] = {}
    own_price: dict[str, int] = {}
    for piece, piece_credits in zip(delivery.pieces, spread(delivery), strict=True):
        commitment = next((each for each in commitments if each.takes(piece, delivery.at)), None)
        if commitment is None:
            continue
        matched[commitment.id] = matched.get(commitment.id, NOTHING) + piece.sqkm
        taken = NOTHING if delivery.billed is not None else min(piece.sqkm, max(NOTHING, left[commitment.id]))
        if taken > 0:
            left[commitment.id] -= taken
            covered[commitment.id] = covered.get(commitment.id, NOTHING) + taken
            share = rounded(piece_credits * taken / piece.sqkm)
            own_price[commitment.id] = own_price.get(commitment.id, 0) + share
    parts = dict(delivery.billed) if delivery.billed is not None else _priced(delivery, commitments, covered, own_price)
    for commitment_id, use in uses.items():
        part = parts.get(commitment_id, Part(NOTHING, 0))
        use.covered_sqkm += part.sqkm
        use.credits += part.credits
        use.overage_sqkm += max(NOTHING, matched.get(commitment_id, NOTHING) - part.sqkm)
    return parts


def _priced(
    delivery: Delivery, commitments: Sequence[Commitment], covered: Mapping[str, Decimal], own_price: Mapping[str, int]
) -> dict[str | None, Part]:
    parts: dict[str | None, Part] = {}
    for commitment in commitments:
        if (sqkm := covered.get(commitment.id)) is None:
            continue
        own = own_price[commitment.id]
        parts[commitment.id] = Part(sqkm, min(own, at_rate(sqkm, commitment.rate_credits)) if delivery.is_owed else own)
    area = sum((piece.sqkm for piece in delivery.pieces), NOTHING)
    rest = area - sum(covered.values(), NOTHING)
    if rest > 0 or not parts or delivery.credits > sum(own_price.values()):
        parts[None] = Part(rest, delivery.credits - sum(own_price.values()))
    return parts


def spread(delivery: Delivery) -> list[int]:
    """Returns each piece's share of what the delivery costs, by their credits or else their areas; the shares add up."""
    weights = [Decimal(piece.credits) for piece in delivery.pieces]
    if not any(weights):
        weights = [piece.sqkm for piece in delivery.pieces]
    total = sum(weights, NOTHING)
    shares: list[int] = []
    running = NOTHING
    for weight in weights:
        running += weight
        upto = rounded(delivery.credits * running / total) if total else 0
        shares.append(upto - sum(shares))
    return shares


def rounded(amount: Decimal) -> int:
    """Returns whole credits, half a credit rounded up."""
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP))


def same_product_and_time(one: Commitment, other: Commitment) -> bool:
    """Says whether a delivery could count towards either of two commitments."""
    meet = one.start_date <= other.end_date and other.start_date <= one.end_date
    return meet and (not one.products or not other.products or not one.products.isdisjoint(other.products))


def percents_reached(percent: Decimal, alerted_percent: int) -> list[int]:
    """Returns the percentages to tell of that burn-down has reached and nobody was told of."""
    return [each for each in ALERT_PERCENTS if alerted_percent < each <= percent]
