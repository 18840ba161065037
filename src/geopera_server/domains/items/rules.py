"""What holds for items whatever stores them: their box and time, their names, and what a plan lets be downloaded. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from shapely.geometry.base import BaseGeometry

from geopera_server.kernel.geometry import extents

MAX_COLLECTION_NAME = 255
LINK_TTL_S = 900
EXPIRED = "expired"


def bbox_of(geometry: BaseGeometry) -> list[float]:
    """Returns west, south, east, north; west is greater than east across the antimeridian (RFC 7946, 5.2)."""
    west, south, east, north = geometry.bounds
    if extents(geometry)[1] is not None:
        parts = [part.bounds for part in getattr(geometry, "geoms", ())]
        west = min(bounds[0] for bounds in parts if bounds[0] > 0)
        east = max(bounds[2] for bounds in parts if bounds[2] < 0)
    return [west, south, east, north]


def joined_bbox(row: Mapping[str, Any]) -> list[float] | None:
    """Returns the box around many items from their least and greatest edges; None when nobody knows where they are.

    `west_360` and `east_360` are edges with the degrees west of Greenwich counted on from 180; they serve where an item lies
    `across` the antimeridian and none `on_zero`, the prime meridian.
    """
    if row["west"] is None:
        return None
    if not row["across"]:
        return [row["west"], row["south"], row["east"], row["north"]]
    if row["on_zero"]:
        return [-180.0, row["south"], 180.0, row["north"]]
    west, east = row["west_360"], row["east_360"]
    return [west if west <= 180 else west - 360, row["south"], east - 360 if east > 180 else east, row["north"]]


def period_of(at: datetime | None, start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """Returns first and last moment of an item; raises ValueError for one without any time or that ends before it starts."""
    known = [moment for moment in (at, start, end) if moment is not None]
    if at is None and (start is None or end is None):
        raise ValueError("an item has a datetime, or a start and an end")
    if start is not None and end is not None and end < start:
        raise ValueError("an item cannot end before it starts")
    return min(known), max(known)


def numbered(name: str, number: int, *, longest: int | None = None) -> str:
    """Returns the name with a number behind it, cut so that both fit; the first has none."""
    suffix = "" if number == 1 else f"-{number}"
    return name[: None if longest is None else longest - len(suffix)] + suffix


def link_expiry(at: datetime) -> datetime:
    """Returns until when an address given out at that time serves, on a whole second."""
    return (at + timedelta(seconds=LINK_TTL_S)).replace(microsecond=0)


def egress_limit(plan: Mapping[str, Any] | None) -> int | None:
    """Returns how many bytes a plan includes each month; None when it has no limit."""
    return None if plan is None else plan["included"].get("egress_bytes")


def egress_is_open(plan: Mapping[str, Any] | None, *, used_bytes: int, more_bytes: int) -> bool:
    """Says whether more may be downloaded: within what the plan includes, or beyond where the plan sells more."""
    limit = egress_limit(plan)
    if plan is None or limit is None or used_bytes + more_bytes <= limit:
        return True
    return bool(plan["overage"].get("egress_gb_credits"))
