"""Spatial tests: by boxes in the database as far as those can tell, and exactly where they cannot.

Every footprint has a bounding box, two when it lies across the antimeridian, and most have a box that lies inside of them. Only
footprints whose bounding box meets an area while their inner box does not are looked at closely. PostgreSQL's boxes meet
generously, by 1e-6 degrees, so what is certain is tested with boxes that are smaller by twice that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import shapely
from shapely.geometry import MultiPolygon, Polygon, box
from shapely.geometry.base import BaseGeometry

from geopera_server.domains.stac.conditions import Bindings, Spatial
from geopera_server.kernel.geometry import extents

_MARGIN = 2e-6
_RELATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "s_intersects": shapely.intersects,
    "s_disjoint": shapely.disjoint,
    "s_within": shapely.within,
    "s_contains": shapely.contains,
    "s_touches": shapely.touches,
    "s_crosses": shapely.crosses,
    "s_overlaps": shapely.overlaps,
    "s_equals": shapely.equals,
}
RELATIONS = frozenset(_RELATIONS)
TURNED = {"s_within": "s_contains", "s_contains": "s_within"}


def spatial(bindings: Bindings, relation: str, area: BaseGeometry, *, negated: bool = False) -> Spatial:
    """Returns the test whether an item's footprint stands in a relation, one of `RELATIONS`, to an area.

    An item without footprint stands in none and in no negation of one.
    """
    if relation == "s_disjoint":
        return spatial(bindings, "s_intersects", area, negated=not negated)
    exact = _exactly(relation, area, negated=negated)
    overlap, sure = _overlap(bindings, area), _surely(bindings, relation, area)
    if negated:
        known = "(" + bindings.column("extent") + " IS NOT NULL AND "
        return Spatial(possible=known + sure + " IS NOT TRUE)", certain=known + overlap + " IS NOT TRUE)", exact=exact)
    return Spatial(possible=overlap, certain="(" + sure + " IS TRUE)", exact=exact, near=area)


def boxes_of(area: BaseGeometry) -> tuple[str, str | None]:
    """Returns the one or two boxes of an area as PostgreSQL writes them."""
    return extents(area)


def _exactly(relation: str, area: BaseGeometry, *, negated: bool) -> Callable[[Any], bool]:
    shapely.prepare(area)
    compare = _RELATIONS[relation]

    def holds(footprint: Any) -> bool:
        return footprint is not None and bool(compare(footprint, area)) is not negated

    return holds


def _overlap(bindings: Bindings, area: BaseGeometry) -> str:
    texts = []
    for corners in boxes_of(area):
        if corners is not None:
            place = bindings.bind(corners) + "::box"
            texts.append(bindings.column("extent") + " && " + place)
            texts.append("coalesce(" + bindings.column("extent_across") + " && " + place + ", false)")
    return "(" + " OR ".join(texts) + ")"


def _surely(bindings: Bindings, relation: str, area: BaseGeometry) -> str:
    """Returns SQL that is true only where boxes alone show that the relation holds; it may be NULL."""
    outer, across = boxes_of(area)
    inside = bindings.column("inside")
    if relation == "s_contains" and across is None:
        return "(" + inside + " @> " + bindings.bind(outer) + "::box)"
    if relation not in {"s_intersects", "s_within"}:
        return "false"
    extent = bindings.column("extent")
    texts = []
    for part in _boxes_inside(area):
        place = bindings.bind(part) + "::box"
        # Only a footprint in one piece has an inner box.
        within = extent + " <@ " + place
        texts.append("(" + within + " AND " + inside + " IS NOT NULL)" if relation == "s_within" else within)
        if relation == "s_intersects":
            texts.append(inside + " && " + place)
    return "(" + " OR ".join(texts) + ")" if texts else "false"


def _boxes_inside(area: BaseGeometry) -> list[str]:
    """Returns boxes that certainly lie inside an area, in PostgreSQL's writing."""
    parts = area.geoms if isinstance(area, MultiPolygon) else [area]
    found = (_box_inside(part) for part in parts if isinstance(part, Polygon))
    return [extents(each)[0] for each in found if each is not None][:4]


def _box_inside(part: Polygon) -> BaseGeometry | None:
    west, south, east, north = part.bounds
    xs = sorted(x for x, _ in part.exterior.coords[:-1])
    ys = sorted(y for _, y in part.exterior.coords[:-1])
    middle = len(xs) // 2
    width, height = (east - west) / 4, (north - south) / 4
    for bounds in (
        (west, south, east, north),
        (xs[middle - 1], ys[middle - 1], xs[middle], ys[middle]),
        (west + width, south + height, east - width, north - height),
    ):
        smaller = (bounds[0] + _MARGIN, bounds[1] + _MARGIN, bounds[2] - _MARGIN, bounds[3] - _MARGIN)
        if smaller[0] < smaller[2] and smaller[1] < smaller[3]:
            tried = box(*smaller)
            if part.covers(tried):
                return tried
    return None
