"""Where an item is, as a caller says it: a geometry, a box, or both when the box holds the geometry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from geopera_server.domains.items import rules
from geopera_server.kernel.errors import InvalidInput
from geopera_server.kernel.geometry import read_bbox, read_geometry, to_geojson

_SLACK_DEG = 1e-6


def place_of(geometry: Any, bbox: Sequence[float] | None) -> tuple[dict[str, Any] | None, list[float] | None]:
    """Returns the valid geometry and the box of an item; either follows from the other where only one is given.

    Raises InvalidInput (`invalid_geometry`), also for a box that does not hold the geometry.
    """
    if bbox is None:
        if geometry is None:
            return None, None
        found = read_geometry(geometry, loc=("geometry",), polygonal=False)
        return to_geojson(found), rules.bbox_of(found)
    area = read_bbox(bbox, loc=("bbox",))
    half = len(bbox) // 2
    sides = [bbox[0], bbox[1], bbox[half], bbox[half + 1]]
    if geometry is None:
        return to_geojson(read_geometry(to_geojson(area), loc=("bbox",))), sides
    found = read_geometry(geometry, loc=("geometry",), polygonal=False)
    if not area.buffer(_SLACK_DEG).covers(found):
        raise InvalidInput(
            "The bbox does not hold the geometry. Leave the bbox out, and it is taken from the geometry.",
            loc=("bbox",),
            code="invalid_geometry",
        )
    return to_geojson(found), sides
