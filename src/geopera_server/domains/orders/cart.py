"""Prices a cart of captures. Estimate and place both come here, so they cannot disagree."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import shapely
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from geopera_server.domains.catalog.captures import CaptureProblem, FoundCapture
from geopera_server.domains.orders.shapes import GroupMoney, PricedCapture, PriceGroup
from geopera_server.domains.pricing.rules import OPEN_LICENSE, Price, PriceBook, aud
from geopera_server.kernel.geometry import area_sqkm, polygonal, to_geojson
from geopera_server.values.clock import iso
from geopera_server.values.encoding import canonical


@dataclass(frozen=True, slots=True, kw_only=True)
class CartLine:
    """One capture as the buyer asked for it; no AOI means its whole footprint."""

    index: int
    capture_id: str
    host: str | None
    aoi: BaseGeometry | None = None
    license_type: str = "standard"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineError:
    """Why a line cannot be priced."""

    index: int
    capture_id: str
    code: str
    message: str

    def as_json(self) -> dict[str, Any]:
        return {"index": self.index, "captureId": self.capture_id, "code": self.code, "message": self.message}


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedLine:
    """A line whose capture was found and covers some of the AOI."""

    line: CartLine
    found: FoundCapture
    covered: BaseGeometry
    license_type: str


@dataclass(slots=True)
class Quote:
    """What the cart costs, group by group, and what could not be priced."""

    groups: list[PriceGroup] = field(default_factory=list)
    lines: list[list[PricedLine]] = field(default_factory=list)
    errors: list[LineError] = field(default_factory=list)

    def lines_in_order(self) -> list[PricedLine]:
        """Returns the priced lines as they stood in the cart."""
        return sorted((line for lines in self.lines for line in lines), key=lambda placed: placed.line.index)

    @property
    def total_credits(self) -> int:
        return sum(group["totalCredits"] for group in self.groups)

    @property
    def total_aud(self) -> float:
        return aud(self.total_credits)


def quote(
    book: PriceBook, cart: Sequence[CartLine], found: Sequence[FoundCapture | CaptureProblem], *, split_by_date: bool
) -> Quote:
    """Returns the price of a cart under a price book.

    Captures of one host, vendor, resolution, AOI and licence (and UTC date, if split) form a group; a group's area is the
    union of AOI ∩ footprint, so that what two captures both show is paid for once.
    """
    result = Quote()
    grouped: dict[tuple[str, ...], list[PricedLine]] = {}
    for line, capture in zip(cart, found, strict=True):
        placed = _place(line, capture)
        if isinstance(placed, LineError):
            result.errors.append(placed)
        else:
            grouped.setdefault(_group_key(placed, split_by_date=split_by_date), []).append(placed)
    for key, lines in grouped.items():
        group = _price_group(book, key, lines, index=len(result.groups), split_by_date=split_by_date)
        if group is None:
            result.errors.extend(_unpriced(each) for each in lines)
        else:
            result.groups.append(group)
            result.lines.append(lines)
    result.errors.sort(key=lambda error: error.index)
    return result


def _place(line: CartLine, capture: FoundCapture | CaptureProblem) -> PricedLine | LineError:
    if isinstance(capture, CaptureProblem):
        return _error(line, capture.code, capture.message)
    if not capture.orderable:
        return _error(line, "not_orderable", f"{capture.id} is not for sale at {capture.host}.")
    footprint = shape(capture.footprint)
    covered = footprint if line.aoi is None else polygonal(shapely.intersection(line.aoi, footprint))
    if covered.is_empty:
        return _error(line, "aoi_outside_capture", f"The area lies outside the footprint of {capture.id}.")
    license_type = OPEN_LICENSE if capture.open_data else line.license_type
    return PricedLine(line=line, found=capture, covered=covered, license_type=license_type)


def _error(line: CartLine, code: str, message: str) -> LineError:
    return LineError(index=line.index, capture_id=line.capture_id, code=code, message=message)


def _unpriced(placed: PricedLine) -> LineError:
    found = placed.found
    message = f"There is no price for {found.vendor} at {found.resolution} under the {placed.license_type} licence."
    return _error(placed.line, "no_price", message)


def _group_key(placed: PricedLine, *, split_by_date: bool) -> tuple[str, ...]:
    found = placed.found
    aoi = "" if placed.line.aoi is None else aoi_id(placed.line.aoi)
    date = found.captured_at.date().isoformat() if split_by_date else ""
    return found.host, found.vendor, found.resolution, aoi, placed.license_type, date


def aoi_id(aoi: BaseGeometry) -> str:
    """Returns the id of an area: the same for the same geometry."""
    return "aoi_" + hashlib.sha256(canonical(to_geojson(aoi))).hexdigest()[:32]


def _price_group(
    book: PriceBook, key: tuple[str, ...], lines: Sequence[PricedLine], *, index: int, split_by_date: bool
) -> PriceGroup | None:
    first = lines[0].found
    geometry = polygonal(shapely.union_all([each.covered for each in lines]))
    area = area_sqkm(geometry)
    license_type = lines[0].license_type
    price = book.price(
        area, vendor=first.vendor, resolution=first.resolution, capture_type="archive", license_type=license_type
    )
    if price is None and not first.open_data:
        return None
    capture_ids = [each.found.id for each in lines]
    group: PriceGroup = {
        "groupId": "grp_" + hashlib.sha256("|".join([*key, *capture_ids]).encode()).hexdigest()[:24],
        "index": index,
        "name": None,
        "host": first.host,
        "vendor": first.vendor,
        "collection": first.collection,
        "dataProductId": None,
        "resolution": first.resolution,
        "date": first.captured_at.date().isoformat() if split_by_date else None,
        "captureIds": capture_ids,
        "captures": [_priced_capture(each) for each in lines],
        "geometry": to_geojson(geometry),
        "areaSqkm": float(area),
        **_money(area, price, open_data=first.open_data),
        "licenseType": license_type,
        "eula": None,
    }
    return group


def _money(area: Decimal, price: Price | None, *, open_data: bool) -> GroupMoney:
    if open_data or price is None:
        return {
            "billableAreaSqkm": float(area),
            "minimumAreaSqkm": 0.0,
            "pricePerSqkm": 0.0,
            "licenseFactor": 0.0,
            "priceRuleId": price.rule.id if price else None,
            "totalAud": 0.0,
            "totalCredits": 0,
        }
    return {
        "billableAreaSqkm": float(price.billable_area_sqkm),
        "minimumAreaSqkm": float(price.minimum_area_sqkm),
        "pricePerSqkm": float(price.rule.price_per_sqkm_aud),
        "licenseFactor": float(price.license_factor),
        "priceRuleId": price.rule.id,
        "totalAud": aud(price.credits),
        "totalCredits": price.credits,
    }


def _priced_capture(placed: PricedLine) -> PricedCapture:
    found = placed.found
    return PricedCapture(
        id=found.id,
        host=found.host,
        collection=found.collection,
        datetime=iso(found.captured_at),
        cloudCover=found.cloud_cover,
        resolution=found.resolution,
        geometry=to_geojson(placed.covered),
        areaSqkm=float(area_sqkm(placed.covered)),
    )


def share_of(group: PriceGroup, delivered: Collection[tuple[str, str]]) -> int:
    """Returns the credits for a part of a group: its price by the share of its area that the delivered captures cover."""
    shapes = [shape(each["geometry"]) for each in group["captures"] if (each["host"], each["id"]) in delivered]
    covered = area_sqkm(polygonal(shapely.union_all(shapes)))
    due = (group["totalCredits"] * covered / Decimal(str(group["areaSqkm"]))).quantize(Decimal(1), ROUND_HALF_UP)
    return min(group["totalCredits"], int(due))
