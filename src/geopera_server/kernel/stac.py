"""What can be read from any STAC item, whoever wrote it: its time, its place, and whether a property filter holds."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from geopera_server.ports.host import Comparison, PropertyFilter

Item = Mapping[str, Any]
CLOUD_COVER = "eo:cloud_cover"
CLOUD_COVER_SPELLINGS = (CLOUD_COVER, "cloudCoverage", "cloud_cover", "cloudCover")

_COMPARE: dict[Comparison, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}


def properties_of(item: Item) -> Mapping[str, Any]:
    """Returns the item's properties, empty when it has none."""
    found = item.get("properties")
    return found if isinstance(found, Mapping) else {}


def time_of(value: Any) -> datetime | None:
    """Returns an RFC 3339 text as a UTC time; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value.strip().upper())
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def captured_at(item: Item) -> datetime | None:
    """Returns the item's nominal time, or where its period starts."""
    properties = properties_of(item)
    for name in ("datetime", "start_datetime", "end_datetime"):
        found = time_of(properties.get(name))
        if found is not None:
            return found
    return None


def period_of(item: Item) -> tuple[datetime, datetime] | None:
    """Returns first and last moment of the item, the same for an instant; None for an item without any time."""
    properties = properties_of(item)
    times = [time_of(properties.get(name)) for name in ("datetime", "start_datetime", "end_datetime")]
    known = [each for each in times if each is not None]
    return (min(known), max(known)) if known else None


def number_of(value: Any) -> float | None:
    """Returns a JSON number as a float; None for anything else, booleans among it."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def cloud_cover(item: Item) -> float | None:
    """Returns the cloud cover in percent, under whichever name the item has it."""
    properties = properties_of(item)
    known = (number_of(properties.get(name)) for name in CLOUD_COVER_SPELLINGS)
    return next((value for value in known if value is not None), None)


def property_of(item: Item, name: str) -> Any:
    """Returns a property by its STAC name; cloud cover is found under its other spellings too."""
    if name == CLOUD_COVER:
        return cloud_cover(item)
    return properties_of(item).get(name)


def holds(item: Item, condition: PropertyFilter) -> bool:
    """Says whether a condition holds; it does not for a property that is missing or of another kind."""
    found = property_of(item, condition.name)
    if found is None or _kind(found) != _kind(condition.value):
        return False
    return _COMPARE[condition.comparison](found, condition.value)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "text" if isinstance(value, str) else "other"
