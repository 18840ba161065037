"""CQL2's temporal functions: Allen's relations of instants and intervals, ends included as the standard has them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from geopera_server.domains.stac.conditions import NO_TIME

Window = tuple[datetime | None, datetime | None]

# In terms of start and end of the first (a, b) and of the second (c, d).
_RELATIONS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "t_after": (("a", ">", "d"),),
    "t_before": (("b", "<", "c"),),
    "t_contains": (("a", "<", "c"), ("b", ">", "d")),
    "t_during": (("a", ">", "c"), ("b", "<", "d")),
    "t_equals": (("a", "=", "c"), ("b", "=", "d")),
    "t_finishedby": (("a", "<", "c"), ("b", "=", "d")),
    "t_finishes": (("a", ">", "c"), ("b", "=", "d")),
    "t_intersects": (("a", "<=", "d"), ("b", ">=", "c")),
    "t_meets": (("b", "=", "c"),),
    "t_metby": (("a", "=", "d"),),
    "t_overlappedby": (("a", ">", "c"), ("a", "<", "d"), ("b", ">", "d")),
    "t_overlaps": (("a", "<", "c"), ("b", ">", "c"), ("b", "<", "d")),
    "t_startedby": (("a", "=", "c"), ("b", ">", "d")),
    "t_starts": (("a", "=", "c"), ("b", "<", "d")),
}
_MEETING = frozenset(_RELATIONS) - {"t_after", "t_before"}
RELATIONS = frozenset({*_RELATIONS, "t_disjoint", "anyinteracts"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """SQL for both ends of an instant or interval; its literal ends, and whether it is the item's own period."""

    start: str
    end: str
    window: Window = NO_TIME
    is_period: bool = False


def relation(name: str, first: Span, second: Span) -> str:
    """Returns whether two spans stand in a relation, which is one of `RELATIONS`."""
    if name == "t_disjoint":
        return "(NOT " + relation("t_intersects", first, second) + ")"
    ends = {"a": first.start, "b": first.end, "c": second.start, "d": second.end}
    terms = _RELATIONS["t_intersects" if name == "anyinteracts" else name]
    return "(" + " AND ".join(ends[left] + " " + word + " " + ends[right] for left, word, right in terms) + ")"


def window_of(name: str, first: Span, second: Span) -> Window:
    """Returns an interval that the item's period meets whenever the relation holds."""
    if second.is_period and not first.is_period:
        turned = {"t_after": "t_before", "t_before": "t_after"}.get(name, name)
        return window_of(turned, second, first)
    if not first.is_period or second.is_period:
        return NO_TIME
    start, end = second.window
    if name in _MEETING or name == "anyinteracts":
        return second.window
    if name == "t_after":
        return (end, None)
    return (None, start) if name == "t_before" else NO_TIME
