"""Shows captures to a customer as STAC features with what they would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from geopera_server.domains.catalog.captures import FoundCapture
from geopera_server.domains.catalog.reading import Reading, shown_assets
from geopera_server.domains.catalog.rules import metres_of
from geopera_server.domains.catalog.sources import Source
from geopera_server.domains.pricing.rules import CREDITS_PER_AUD, OPEN_LICENSE, Price, PriceBook, aud
from geopera_server.kernel.geometry import area_sqkm, polygonal
from geopera_server.kernel.stac import properties_of
from geopera_server.values.clock import iso

LIST_LICENSE = "standard"
_OURS = frozenset({"geopera:vendor", "geopera:resolution", "geopera:pricing"})


@dataclass(frozen=True, slots=True)
class Feature:
    """A capture as a customer sees it, with what merging needs to know of it."""

    id: str
    captured_at: datetime
    orderable: bool
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Counter:
    """Tells one organization's archive prices; keeps the bands of each vendor and resolution at hand."""

    book: PriceBook
    _bands: dict[tuple[str, str], PriceBook] = field(default_factory=dict)

    def knows(self, vendor: str) -> bool:
        """Says whether anything of a vendor's archive has a price."""
        return any(rule.vendor == vendor and rule.capture_type == "archive" for rule in self.book.rules)

    def sells(self, vendor: str, resolution: str) -> bool:
        """Says whether a resolution of a vendor has a price for some area."""
        return bool(self._book_of(vendor, resolution).rules)

    def price(self, capture: FoundCapture, area: BaseGeometry) -> Price | None:
        """Returns what an area of a capture costs under the standard licence; None when it has no price."""
        vendor, resolution = capture.vendor, capture.resolution
        book = self._book_of(vendor, resolution)
        measured = area_sqkm(polygonal(area)) if book.rules else Decimal(0)
        return book.price(measured, vendor=vendor, resolution=resolution, capture_type="archive", license_type=LIST_LICENSE)

    def _book_of(self, vendor: str, resolution: str) -> PriceBook:
        if (vendor, resolution) not in self._bands:
            bands = self.book.bands(vendor, resolution, "archive")
            self._bands[vendor, resolution] = PriceBook(rules=bands, license_factors=self.book.license_factors)
        return self._bands[vendor, resolution]


def present(readings: Sequence[Reading], source: Source, area: BaseGeometry | None, counter: Counter) -> list[Feature]:
    """Returns captures as features with prices.

    The estimate covers the search area ∩ footprint; it is null when no area was searched.
    """
    parts: Sequence[BaseGeometry | None] = [None] * len(readings)
    if area is not None and area.area > 0:
        parts = list(shapely.intersection(area, [each.footprint for each in readings]))
    return [_feature(each, source, part, counter) for each, part in zip(readings, parts, strict=True)]


def _feature(reading: Reading, source: Source, part: BaseGeometry | None, counter: Counter) -> Feature:
    item, capture = reading.item, reading.capture
    price = None if capture.open_data else counter.price(capture, reading.footprint if part is None else part)
    reason = _not_orderable(capture, price)
    offer = {
        "geopera:data_type": source.collection(capture.collection).get("data_type"),
        "geopera:source_id": source.id,
        "geopera:orderable": reason is None,
        "geopera:pricing": _pricing(capture, price, part, counter) if reason is None else None,
    }
    if reason is not None:
        offer["geopera:not_orderable_reason"] = reason
    body = {
        "type": "Feature",
        "stac_version": item.get("stac_version") or "1.0.0",
        "stac_extensions": item.get("stac_extensions") or [],
        "id": capture.id,
        "collection": capture.collection,
        "host": capture.host,
        "geometry": item["geometry"],
        "bbox": item.get("bbox") or list(reading.footprint.bounds),
        "properties": {**_described(reading, source), **offer},
        "assets": shown_assets(capture.assets, open_data=capture.open_data),
        "links": [],
    }
    return Feature(capture.id, capture.captured_at, reason is None, body)


def _described(reading: Reading, source: Source) -> dict[str, Any]:
    """Returns the properties with the names that both families of clients look for."""
    capture, own = reading.capture, properties_of(reading.item)
    return {
        **{name: value for name, value in own.items() if name not in _OURS},
        "id": capture.id,
        "datetime": iso(capture.captured_at),
        "collection": capture.collection,
        "constellation": own.get("constellation") or own.get("platform"),
        "producer": own.get("producer") or _producer(own) or source.title,
        "eo:cloud_cover": capture.cloud_cover,
        "cloudCoverage": capture.cloud_cover,
        "gsd": capture.gsd,
        "resolution": metres_of(capture.resolution) or capture.gsd,
        "deliveryTime": own.get("deliveryTime") or ("MINUTES" if capture.open_data else "DAYS"),
        "providerProperties": own.get("providerProperties") or {},
    }


def _producer(properties: Mapping[str, Any]) -> str | None:
    providers = properties.get("providers")
    for provider in providers if isinstance(providers, list) else []:
        if isinstance(provider, Mapping) and "producer" in (provider.get("roles") or []):
            return str(provider.get("name"))
    return None


def _not_orderable(capture: FoundCapture, price: Price | None) -> str | None:
    if not capture.orderable:
        return "not_for_sale"
    return None if capture.open_data or price is not None else "no_price"


def _pricing(capture: FoundCapture, price: Price | None, part: BaseGeometry | None, counter: Counter) -> dict[str, Any]:
    per_sqkm = Decimal(0) if price is None else price.rule.price_per_sqkm_aud
    estimated = part is not None and not polygonal(part).is_empty
    credits_ = 0 if price is None else price.credits
    return {
        "vendor": capture.vendor,
        "resolution": capture.resolution,
        "currency": "AUD",
        "price_per_sqkm": float(per_sqkm),
        "credits_per_sqkm": float(per_sqkm * CREDITS_PER_AUD),
        "minimum_area_sqkm": 0.0 if price is None else float(price.minimum_area_sqkm),
        "license_types": [OPEN_LICENSE] if capture.open_data else counter.book.license_types(),
        **({"license": capture.license} if capture.open_data else {}),
        "estimated_total_aud": aud(credits_) if estimated else None,
        "estimated_total_credits": credits_ if estimated else None,
    }
