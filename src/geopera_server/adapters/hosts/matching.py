"""Holds items against a query exactly, whatever the catalogue that gave them made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import shapely
from shapely.geometry.base import BaseGeometry

from geopera_server.kernel.stac import Item, captured_at, holds, period_of
from geopera_server.ports.host import HostQuery

_NEVER = datetime.min.replace(tzinfo=UTC)


def geometry_of(value: Any) -> BaseGeometry | None:
    """Returns a GeoJSON object as a shape; None for what is no geometry."""
    if not isinstance(value, Mapping):
        return None
    try:
        return shapely.from_geojson(orjson.dumps(dict(value)))
    except (shapely.errors.ShapelyError, ValueError, TypeError):
        return None


def matching(items: Sequence[Item], query: HostQuery) -> list[Item]:
    """Returns the items that the query asks for, each id and collection once, newest first."""
    found = [item for item in items if _matches(item, query)]
    if query.geometry is not None:
        found = touching(found, query.geometry)
    unique = {(item["id"], item.get("collection")): item for item in reversed(found)}
    return newest_first(unique.values())


def touching(items: Sequence[Item], geometry: Mapping[str, Any], *, footprint: str = "geometry") -> list[Item]:
    """Returns the items whose footprint has a point in common with the geometry."""
    wanted = geometry_of(geometry)
    shapely.prepare(wanted)
    footprints = [geometry_of(item.get(footprint)) for item in items]
    return [item for item, meets in zip(items, shapely.intersects(wanted, footprints), strict=True) if meets]


def newest_first(items: Iterable[Item]) -> list[Item]:
    """Returns the items by time, the newest first, and by id where times are equal."""
    by_id = sorted(items, key=lambda item: str(item["id"]))
    return sorted(by_id, key=lambda item: captured_at(item) or _NEVER, reverse=True)


def _matches(item: Item, query: HostQuery) -> bool:
    if not isinstance(item.get("id"), str) or item.get("type") != "Feature":
        return False
    if query.ids and item["id"] not in query.ids:
        return False
    if query.collections and item.get("collection") not in query.collections:
        return False
    return _within(item, query.start, query.end) and all(holds(item, each) for each in query.filters)


def _within(item: Item, start: datetime | None, end: datetime | None) -> bool:
    if start is None and end is None:
        return True
    period = period_of(item)
    if period is None:
        return False
    return (end is None or period[0] <= end) and (start is None or period[1] >= start)
