"""Queries as people write them and as hosts are asked: filters in both spellings, one order, duplicates once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from shapely.geometry.base import BaseGeometry

from geopera_server.kernel.errors import InvalidInput
from geopera_server.kernel.geometry import read_bbox, read_geometry, read_interval, to_geojson
from geopera_server.kernel.stac import CLOUD_COVER, CLOUD_COVER_SPELLINGS
from geopera_server.ports.host import Comparison, HostQuery, PropertyFilter
from geopera_server.values.encoding import canonical

MAX_LISTED = 500
MAX_FILTERS = 32
COMPARISONS: dict[str, Comparison] = {"eq": "eq", "neq": "neq", "lt": "lt", "lte": "lte", "gt": "gt", "gte": "gte"}
_NAMES = {spelling.lower(): CLOUD_COVER for spelling in CLOUD_COVER_SPELLINGS} | {"resolution": "gsd"}
_METRES = re.compile(r"(\d+(?:\.\d+)?)\s*(cm|m)?", re.IGNORECASE)


def search_area(bbox: Sequence[float] | None, intersects: Mapping[str, Any] | None) -> BaseGeometry | None:
    """Returns the area searched; raises InvalidInput when both forms are given or one is no geometry."""
    if bbox is not None and intersects is not None:
        raise InvalidInput("Give bbox or intersects, not both.", loc=("intersects",))
    if bbox is not None:
        return read_bbox(bbox, loc=("bbox",))
    return None if intersects is None else read_geometry(intersects, loc=("intersects",), polygonal=False)


def property_filters(query: Mapping[str, Mapping[str, Any]] | None) -> tuple[PropertyFilter, ...]:
    """Returns conditions under STAC names: `{"cloudCoverage": {"LTE": 20}}` is `eo:cloud_cover lte 20`.

    Operators are read in either case; nulls are no conditions. Raises InvalidInput for other operators and values.
    """
    found = []
    for name, operators in (query or {}).items():
        for operator, value in operators.items():
            if value is not None:
                found.append(_condition(name, operator, value))
    if len(found) > MAX_FILTERS:
        raise InvalidInput(f"At most {MAX_FILTERS} conditions are taken.", loc=("query",))
    return tuple(dict.fromkeys(found))


def _condition(name: str, operator: str, value: Any) -> PropertyFilter:
    comparison = COMPARISONS.get(operator.lower())
    if comparison is None:
        raise InvalidInput(f"{operator!r} is none of {', '.join(COMPARISONS)}.", loc=("query", name, operator))
    if not isinstance(value, (int, float, str, bool)):
        raise InvalidInput("Compare with a number, a text or a truth value.", loc=("query", name, operator))
    return PropertyFilter(name=_NAMES.get(name.lower(), name), comparison=comparison, value=value)


def host_query(
    *,
    area: BaseGeometry | None,
    limit: int,
    collections: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    datetime: str | None = None,
    query: Mapping[str, Mapping[str, Any]] | None = None,
) -> HostQuery:
    """Returns what hosts are asked; equal searches give equal queries, however they were written."""
    start, end = read_interval(datetime, loc=("datetime",))
    return HostQuery(
        collections=_listed(collections, "collections"),
        ids=_listed(ids, "ids"),
        geometry=None if area is None else to_geojson(area),
        start=start,
        end=end,
        filters=property_filters(query),
        limit=limit,
    )


def _listed(values: Sequence[str] | None, name: str) -> tuple[str, ...]:
    found = tuple(sorted(set(values or ())))
    if len(found) > MAX_LISTED:
        raise InvalidInput(f"At most {MAX_LISTED} {name} are taken in one search.", loc=(name,))
    return found


def query_key(query: HostQuery) -> str:
    """Returns the same short text for the same question."""
    return hashlib.sha256(canonical(asdict(query))).hexdigest()


def resolution_label(told: Any, gsd: float | None) -> str:
    """Returns the price book's label: `0.5m` from 0.5, "0.5 m", "50cm", or else from the GSD; empty when nobody tells."""
    metres = metres_of(told)
    if metres is None:
        metres = gsd
    return "" if metres is None else f"{round(metres, 3):g}m"


def metres_of(told: Any) -> float | None:
    """Returns a resolution in metres from a number or a text such as "0.5m" or "50 cm"; None for anything else."""
    if isinstance(told, Mapping):
        told = told.get("value")
    if isinstance(told, bool) or told is None:
        return None
    found = _METRES.fullmatch(str(told).strip())
    if found is None:
        return None
    metres = float(found[1]) / (100 if (found[2] or "m").lower() == "cm" else 1)
    return metres if metres > 0 else None
