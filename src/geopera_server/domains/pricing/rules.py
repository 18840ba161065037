"""What a group of captures costs: pure arithmetic on stored rules, in decimals and whole credits.

A credit is one cent. A group's price is area times price per km² times licence factor, rounded half up to the cent once per
group; totals are sums of groups. An area below the smallest band of its rules is charged as that band's minimum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

ANY_RESOLUTION = "any"
OPEN_LICENSE = "open"
CREDITS_PER_AUD = 100
CaptureType = Literal["archive", "tasking"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRule:
    """One band of one price: [min_area_sqkm, max_area_sqkm), the maximum None for no end."""

    id: str
    vendor: str
    resolution: str
    capture_type: CaptureType
    price_per_sqkm_aud: Decimal
    min_area_sqkm: Decimal
    max_area_sqkm: Decimal | None
    negotiated: bool

    def overlaps(self, other: PriceRule) -> bool:
        """Says whether two bands share an area."""
        ends_before = self.max_area_sqkm is not None and self.max_area_sqkm <= other.min_area_sqkm
        starts_after = other.max_area_sqkm is not None and other.max_area_sqkm <= self.min_area_sqkm
        return not (ends_before or starts_after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What an area costs under a rule."""

    rule: PriceRule
    billable_area_sqkm: Decimal
    minimum_area_sqkm: Decimal
    license_factor: Decimal
    credits: int


@dataclass(frozen=True, slots=True)
class PriceBook:
    """The rules that bind one organization: its own where it has any for a key, else the list."""

    rules: Sequence[PriceRule]
    license_factors: Mapping[str, Decimal]

    def bands(self, vendor: str, resolution: str, capture_type: CaptureType) -> list[PriceRule]:
        """Returns the bands of the most specific key that has any: negotiated before list, the resolution before any."""
        for negotiated in (True, False):
            for label in (resolution, ANY_RESOLUTION):
                key = (vendor, label, capture_type, negotiated)
                found = [rule for rule in self.rules if _key(rule) == key]
                if found:
                    return sorted(found, key=lambda rule: rule.min_area_sqkm)
        return []

    def price(
        self, area_sqkm: Decimal, *, vendor: str, resolution: str, capture_type: CaptureType, license_type: str
    ) -> Price | None:
        """Returns the price of an area; None when no rule covers it or the licence is not sold."""
        bands = self.bands(vendor, resolution, capture_type)
        factor = self.license_factors.get(license_type)
        if not bands or factor is None:
            return None
        minimum = bands[0].min_area_sqkm
        billable = max(area_sqkm, minimum)
        rule = next((band for band in bands if _covers(band, billable)), None)
        if rule is None:
            return None
        return Price(
            rule=rule,
            billable_area_sqkm=billable,
            minimum_area_sqkm=minimum,
            license_factor=factor,
            credits=credits_for(billable, rule.price_per_sqkm_aud, factor),
        )

    def license_types(self) -> list[str]:
        """Returns the licences that can be chosen, cheapest first; `open` is forced for open data and never chosen."""
        return sorted((name for name in self.license_factors if name != OPEN_LICENSE), key=lambda n: self.license_factors[n])


def _key(rule: PriceRule) -> tuple[str, str, str, bool]:
    return rule.vendor, rule.resolution, rule.capture_type, rule.negotiated


def _covers(band: PriceRule, area_sqkm: Decimal) -> bool:
    return band.min_area_sqkm <= area_sqkm and (band.max_area_sqkm is None or area_sqkm < band.max_area_sqkm)


def credits_for(area_sqkm: Decimal, price_per_sqkm_aud: Decimal, license_factor: Decimal) -> int:
    """Returns whole credits, half a credit rounded up."""
    exact = area_sqkm * price_per_sqkm_aud * license_factor * CREDITS_PER_AUD
    return int(exact.quantize(Decimal(1), ROUND_HALF_UP))


def aud(amount_credits: int) -> float:
    """Returns the dollar form of credits, for display."""
    return amount_credits / CREDITS_PER_AUD


def first_overlap(rules: Iterable[PriceRule], candidate: PriceRule) -> PriceRule | None:
    """Returns a rule of the same key whose band the candidate's would overlap."""
    same = (rule for rule in rules if _key(rule) == _key(candidate) and rule.id != candidate.id)
    return next((rule for rule in same if rule.overlaps(candidate)), None)
