"""CQL2-JSON filters as conditions: comparisons, logic, patterns, spatial and temporal functions (OGC 21-065r2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import cql2
import orjson
from shapely.geometry.base import BaseGeometry

from geopera_server.domains.stac import comparing, spatial, temporal
from geopera_server.domains.stac.conditions import EVERYTHING, NOTHING, Bindings, Both, Condition, Either, Plain
from geopera_server.domains.stac.filter_text import tree_of
from geopera_server.domains.stac.operands import Operand, literal, moment_of, named
from geopera_server.domains.stac.temporal import Span
from geopera_server.kernel.errors import InvalidInput
from geopera_server.kernel.geometry import read_bbox, read_geometry

MAX_TERMS = 500
LANGUAGE = "cql2-json"
Json = Mapping[str, Any]
_FILTER = ("filter",)
_FLIPPED = {"and": "or", "or": "and"}


def read_filter(bindings: Bindings, given: Json | str, language: str | None) -> Condition:
    """Returns the condition that a filter means; raises InvalidInput for other languages, operators and arguments."""
    if language not in {None, LANGUAGE, "cql2-text"}:
        raise InvalidInput(
            f"Filters are written in {LANGUAGE}, not in {language}.", loc=("filter-lang",), code="unknown_field_value"
        )
    if isinstance(given, str) and language == "cql2-text":
        return _Reading(bindings).condition(tree_of(given), negated=False)
    try:
        tree = cql2.parse_json(given if isinstance(given, str) else orjson.dumps(given).decode()).to_json()
    except (cql2.ParseError, cql2.ValidationError, ValueError) as error:
        raise InvalidInput(f"The filter is no CQL2: {_shortened(error)}.", loc=_FILTER) from error
    return _Reading(bindings).condition(tree, negated=False)


def _shortened(error: Exception) -> str:
    return str(error).splitlines()[0][:200].rstrip(".") if str(error) else "it cannot be read"


class _Reading:
    """One filter while it is read; negations are carried down to the leaves."""

    def __init__(self, bindings: Bindings) -> None:
        self._bindings = bindings
        self._terms = 0

    def condition(self, node: Any, *, negated: bool) -> Condition:  # noqa: PLR0911  (one for each kind of node)
        """Returns what a node means where a condition belongs."""
        if isinstance(node, bool):
            return EVERYTHING if node is not negated else NOTHING
        if isinstance(node, Mapping) and "property" in node:
            views = self._operand(node).views
            return self._plain("(" + views["truth"] + ")" if "truth" in views else comparing.UNKNOWN, negated=negated)
        name, arguments = self._call(node)
        if name == "not":
            return self.condition(self._only(name, arguments, 1)[0], negated=not negated)
        if name in _FLIPPED:
            if not arguments:
                _refuse(f"{name} takes at least one condition.")
            parts = tuple(self.condition(each, negated=negated) for each in arguments)
            return (Both if (name == "and") is not negated else Either)(parts)
        if name in spatial.RELATIONS:
            return self._spatial(name, arguments, negated=negated)
        if name in temporal.RELATIONS:
            return self._temporal(name, arguments, negated=negated)
        if name in comparing.COMPARISONS:
            return self._comparison(name, arguments, negated=negated)
        if name == "in":
            return self._one_of(arguments, negated=negated)
        return self._plain(self._predicate(name, arguments), negated=negated)

    def _call(self, node: Any) -> tuple[str, Sequence[Any]]:
        self._terms += 1
        if self._terms > MAX_TERMS:
            _refuse(f"The filter has more than {MAX_TERMS} terms. Narrow it.")
        if not isinstance(node, Mapping) or not isinstance(node.get("op"), str) or not isinstance(node.get("args"), list):
            _refuse('A condition is {"op": ..., "args": [...]}.')
        return _ALIASES.get(node["op"].lower(), node["op"].lower()), node["args"]

    def _only(self, name: str, arguments: Sequence[Any], count: int) -> Sequence[Any]:
        if len(arguments) != count:
            _refuse(f"{name} takes {count} argument{'' if count == 1 else 's'}, not {len(arguments)}.")
        return arguments

    def _plain(self, sql: str, *, negated: bool) -> Plain:
        return Plain(sql="(NOT " + sql + ")" if negated else sql)

    def _comparison(self, name: str, arguments: Sequence[Any], *, negated: bool) -> Condition:
        pair = self._only(name, arguments, 2)
        left, right = (self._operand(each) for each in pair)
        sql = comparing.comparison(name, left, right)
        if negated:
            return self._plain(sql, negated=True)
        names = [each.get("property") if isinstance(each, Mapping) else None for each in pair]
        terms = (comparing.terms_of(left, [right]) or comparing.terms_of(right, [left])) if name == "=" else None
        return Plain(sql=sql, during=comparing.window_of(name, left, right, names=names), terms=terms)

    def _one_of(self, arguments: Sequence[Any], *, negated: bool) -> Plain:
        value, choices = self._only("in", arguments, 2)
        if not isinstance(choices, list) or len(choices) > MAX_TERMS:
            _refuse(f"The second argument of in is a list of at most {MAX_TERMS} values.")
        operand, literals = self._operand(value), [self._operand(each) for each in choices]
        plain = self._plain(comparing.one_of(operand, literals), negated=negated)
        return plain if negated else replace(plain, terms=comparing.terms_of(operand, literals))

    def _predicate(self, name: str, arguments: Sequence[Any]) -> str:
        if name == "isnull":
            [argument] = self._only(name, arguments, 1)
            return self._operand(argument, geometry=True).is_null
        if name == "between":
            # Drafts of CQL2 had the two bounds in a list of their own, and clients still write them so.
            if len(arguments) == 2 and isinstance(arguments[1], list):
                arguments = [arguments[0], *arguments[1]]
            return comparing.between(*(self._operand(each) for each in self._only(name, arguments, 3)))
        if name == "like":
            value, pattern = self._only(name, arguments, 2)
            text = pattern
            while _is_call(text) and text["args"]:
                text = text["args"][0]
            if not isinstance(text, str) or (len(text) - len(text.rstrip("\\"))) % 2:
                _refuse("The second argument of like is a text, in which no single backslash ends the pattern.")
            return comparing.like(self._operand(value), self._operand(pattern))
        return _refuse(f"{name!r} is no operator that filters know here.", code="unknown_field_value")

    def _operand(self, node: Any, *, geometry: bool = False) -> Operand:
        if isinstance(node, (bool, int, float, str)):
            return literal(self._bindings, node)
        if not isinstance(node, Mapping):
            _refuse("An argument is a property, a number, a text, a truth value, a timestamp or a date.")
        if isinstance(node.get("property"), str):
            found = named(self._bindings, node["property"])
            if found.geometry and not geometry:
                _refuse("The geometry is compared with spatial functions, such as s_intersects.")
            return found
        for kind in ("timestamp", "date"):
            if kind in node:
                moment = moment_of(node[kind]) if isinstance(node[kind], str) else None
                if moment is None:
                    _refuse(f"A {kind} is an RFC 3339 text such as 2024-01-31T00:00:00Z or 2024-01-31.")
                return literal(self._bindings, moment)
        name, arguments = self._call(node)
        if name not in _FOLDING:
            _refuse(f"{name!r} is no function that filters know here.", code="unknown_field_value")
        [argument] = self._only(name, arguments, 1)
        return _FOLDING[name](self._operand(argument))

    def _spatial(self, name: str, arguments: Sequence[Any], *, negated: bool) -> Condition:
        left, right = self._only(name, arguments, 2)
        if _is_property(right) and not _is_property(left):
            left, right, name = right, left, spatial.TURNED.get(name, name)
        if not _is_property(left) or _is_property(right):
            _refuse(f"{name} compares the property geometry with a GeoJSON geometry or a bbox.")
        area = _area(right)
        if left["property"].removeprefix("properties.") != "geometry":
            return NOTHING
        return spatial.spatial(self._bindings, name, area, negated=negated)

    def _temporal(self, name: str, arguments: Sequence[Any], *, negated: bool) -> Condition:
        first, second = (self._span(each) for each in self._only(name, arguments, 2))
        sql = temporal.relation(name, first, second)
        return self._plain(sql, negated=True) if negated else Plain(sql=sql, during=temporal.window_of(name, first, second))

    def _span(self, node: Any) -> Span:
        if isinstance(node, Mapping) and node.get("property") in {"datetime", "properties.datetime"}:
            period = self._bindings.column("period")
            return Span(start="lower(" + period + ")", end="upper(" + period + ")", is_period=True)
        if isinstance(node, Mapping) and "interval" in node:
            ends = node["interval"]
            if not isinstance(ends, list) or len(ends) != 2:
                _refuse('An interval is {"interval": [start, end]}, with ".." for an open end.')
            (start, first), (end, last) = (self._end(each, open_end) for each, open_end in zip(ends, _OPEN, strict=True))
            if first is not None and last is not None and last < first:
                _refuse("The interval ends before it starts.")
            return Span(start=start, end=end, window=(first, last))
        sql, moment = self._end(node, "")
        return Span(start=sql, end=sql, window=(moment, moment))

    def _end(self, node: Any, open_end: str) -> tuple[str, Any]:
        if node == ".." and open_end:
            return open_end, None
        operand = self._operand(node)
        if "time" not in operand.views:
            if isinstance(node, str):
                _refuse(f"{node[:60]!r} is no RFC 3339 time such as 2024-01-31T00:00:00Z.")
            return "NULL::timestamptz", None
        given = operand.given
        return operand.views["time"], moment_of(given) if isinstance(given, str) else given


_OPEN = ("'-infinity'::timestamptz", "'infinity'::timestamptz")
_ALIASES = {"eq": "=", "neq": "<>", "!=": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_FOLDING: dict[str, Callable[[Operand], Operand]] = {
    "casei": comparing.case_folded,
    "accenti": comparing.without_accents,
}


def _area(node: Any) -> BaseGeometry:
    if isinstance(node, Mapping) and isinstance(node.get("bbox"), list):
        numbers = node["bbox"]
        if not all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in numbers):
            _refuse("A bbox has four numbers: west, south, east, north.")
        return read_bbox(numbers, loc=_FILTER)
    return read_geometry(node, loc=_FILTER, polygonal=False)


def _is_property(node: Any) -> bool:
    return isinstance(node, Mapping) and isinstance(node.get("property"), str)


def _is_call(node: Any) -> bool:
    return isinstance(node, Mapping) and isinstance(node.get("args"), list)


def _refuse(msg: str, *, code: str | None = None) -> NoReturn:
    raise InvalidInput(msg, loc=_FILTER, code=code)
