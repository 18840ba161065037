"""A plain reading of searches: every item looked at, one after the other, in Python, for the real one to be compared with."""

from __future__ import annotations

import operator
import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import shapely
from shapely.geometry import MultiPolygon, box, shape

Feature = Mapping[str, Any]
Truth = bool | None
OPERATORS = {
    "=": operator.eq, "<>": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
COLUMNS_OF_TIME = {"datetime", "start_datetime", "end_datetime", "created", "updated"}


def moment(text: Any) -> datetime | None:
    if not isinstance(text, str) or len(text) < 10:
        return None
    try:
        found = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def kind(value: Any) -> str:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, (int, float)):
        return "number"
    return "time" if isinstance(value, datetime) else "text" if isinstance(value, str) else "none"


def value_of(feature: Feature, name: str) -> Any:
    name = name.removeprefix("properties.")
    if name in {"id", "collection"}:
        return feature[name]
    found = feature["properties"].get(name)
    return moment(found) if name in COLUMNS_OF_TIME else found


def folded(op: str, text: Any) -> Any:
    if not isinstance(text, str):
        return None
    if op == "casei":
        return text.lower()
    return re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFD", text))


def operand(feature: Feature, node: Any) -> Any:
    if isinstance(node, Mapping):
        if "property" in node:
            return value_of(feature, node["property"])
        if "timestamp" in node or "date" in node:
            return moment(node.get("timestamp") or node.get("date"))
        return folded(node["op"], operand(feature, node["args"][0]))
    return node


def compare(op: str, left: Any, right: Any) -> Truth:
    if isinstance(left, datetime) and isinstance(right, str):
        right = moment(right)
    elif isinstance(right, datetime) and isinstance(left, str):
        left = moment(left)
    if left is None or right is None or kind(left) != kind(right) or kind(left) == "none":
        return None
    return OPERATORS[op](left, right)


def both(values: Sequence[Truth]) -> Truth:
    return False if False in values else None if None in values else True


def either(values: Sequence[Truth]) -> Truth:
    return True if True in values else None if None in values else False


def negated(value: Truth) -> Truth:
    return None if value is None else not value


def like(text: Any, pattern: Any) -> Truth:
    if not isinstance(text, str) or not isinstance(pattern, str):
        return None
    parts, escaped = [], False
    for letter in pattern:
        if escaped or letter not in "%_\\":
            parts.append(re.escape(letter))
            escaped = False
        elif letter == "\\":
            escaped = True
        else:
            parts.append(".*" if letter == "%" else ".")
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


def area_of(node: Mapping[str, Any]) -> Any:
    if "bbox" in node:
        west, south, east, north = node["bbox"]
        if west <= east:
            return box(west, south, east, north)
        return MultiPolygon([box(west, south, 180, north), box(-180, south, east, north)])
    return shape(node)


def period(feature: Feature) -> tuple[datetime, datetime]:
    known = [moment(feature["properties"].get(name)) for name in ("datetime", "start_datetime", "end_datetime")]
    known = [each for each in known if each is not None]
    return min(known), max(known)


def span(feature: Feature, node: Any) -> tuple[Any, Any] | None:
    if isinstance(node, Mapping) and node.get("property") == "datetime":
        return period(feature)
    if isinstance(node, Mapping) and "interval" in node:
        start, end = node["interval"]
        first = datetime.min.replace(tzinfo=UTC) if start == ".." else moment(start)
        last = datetime.max.replace(tzinfo=UTC) if end == ".." else moment(end)
        return first, last
    found = operand(feature, node)
    found = moment(found) if isinstance(found, str) else found
    return None if not isinstance(found, datetime) else (found, found)


def temporal(op: str, first: tuple[Any, Any] | None, second: tuple[Any, Any] | None) -> Truth:
    if first is None or second is None:
        return None
    (a, b), (c, d) = first, second
    return {
        "t_after": a > d, "t_before": b < c, "t_contains": a < c and b > d, "t_during": a > c and b < d,
        "t_equals": a == c and b == d, "t_intersects": a <= d and b >= c, "t_disjoint": a > d or b < c,
        "t_starts": a == c and b < d, "t_finishes": a > c and b == d, "t_overlaps": a < c < b < d, "t_meets": b == c,
    }[op]  # fmt: skip


def holds(feature: Feature, node: Any) -> Truth:  # noqa: PLR0911  (one for each kind of node)
    """Says whether a CQL2 filter holds; None where there is nothing to compare."""
    if isinstance(node, bool):
        return node
    op, args = node["op"], node["args"]
    if op == "not":
        return negated(holds(feature, args[0]))
    if op in {"and", "or"}:
        return (both if op == "and" else either)([holds(feature, each) for each in args])
    if op.startswith("s_"):
        if feature["geometry"] is None:
            return None
        return bool(getattr(shapely, op[2:])(shape(feature["geometry"]), area_of(args[1])))
    if op.startswith("t_"):
        return temporal(op, span(feature, args[0]), span(feature, args[1]))
    if op == "isNull":
        return operand(feature, args[0]) is None
    if op == "between":
        value, low, high = (operand(feature, each) for each in args)
        return both([compare(">=", value, low), compare("<=", value, high)])
    if op == "in":
        value = operand(feature, args[0])
        return either([compare("=", value, operand(feature, each)) for each in args[1]])
    if op == "like":
        return like(operand(feature, args[0]), operand(feature, args[1]))
    return compare(op, operand(feature, args[0]), operand(feature, args[1]))


def matches(feature: Feature, given: Mapping[str, Any]) -> bool:
    """Says whether a search finds a feature."""
    if given.get("ids") and feature["id"] not in given["ids"]:
        return False
    if given.get("collections") and feature["collection"] not in given["collections"]:
        return False
    for name in ("bbox", "intersects"):
        if given.get(name) is not None:
            area = area_of({"bbox": given[name]}) if name == "bbox" else shape(given[name])
            if feature["geometry"] is None or not shapely.intersects(shape(feature["geometry"]), area):
                return False
    if given.get("datetime"):
        start, _, end = given["datetime"].partition("/")
        first, last = period(feature)
        if (start not in {"", ".."} and last < moment(start)) or (
            (end or start) not in {"", ".."} and first > moment(end or start)
        ):
            return False
    return given.get("filter") is None or holds(feature, given["filter"]) is True


def in_order(features: Sequence[Feature], sortby: Sequence[Mapping[str, str]] | None) -> list[Feature]:
    """Returns features as a search orders them: missing values last, ties by id."""
    found = sorted(features, key=lambda feature: feature["id"])
    for clause in reversed(sortby or [{"field": "datetime", "direction": "desc"}]):
        there = [each for each in found if value_of(each, clause["field"]) is not None]
        missing = [each for each in found if value_of(each, clause["field"]) is None]
        there.sort(key=lambda each: value_of(each, clause["field"]), reverse=clause["direction"] == "desc")
        found = there + missing
    return found
