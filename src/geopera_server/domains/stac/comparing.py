"""Comparisons of operands, as SQL that is NULL where there is nothing to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from geopera_server.domains.stac.conditions import NO_TIME, Terms
from geopera_server.domains.stac.operands import KINDS, Kind, Operand, moment_of

UNKNOWN = "NULL::boolean"
_WORDS = {"=": " = ", "<>": " <> ", "<": " < ", "<=": " <= ", ">": " > ", ">=": " >= "}
_TURNED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
COMPARISONS = frozenset(_WORDS)


def comparison(operator: str, left: Operand, right: Operand) -> str:
    """Returns a comparison by the first kind that both can be read as; none means that it never holds."""
    if left.json is not None and right.json is not None:
        return _both_in_json(operator, left, right)
    kind = _common(left, right)
    if kind is None:
        return UNKNOWN
    return "(" + _ordered(kind, left) + _WORDS[operator] + _ordered(kind, right) + ")"


def _common(left: Operand, right: Operand) -> Kind | None:
    """A column's kind decides, since it has one; a literal that may be text or a time is text to a JSON property."""
    shared = [kind for kind in KINDS if kind in left.views and kind in right.views]
    return shared[0] if shared else None


def _ordered(kind: Kind, operand: Operand) -> str:
    # By code points, whatever the database sorts by.
    return "(" + operand.views[kind] + ')::text COLLATE "C"' if kind == "text" else operand.views[kind]


def _both_in_json(operator: str, left: Operand, right: Operand) -> str:
    texts = [
        "(" + _ordered(kind, left) + _WORDS[operator] + _ordered(kind, right) + ")" for kind in ("number", "text", "truth")
    ]
    return "coalesce(" + ", ".join(texts) + ")"


def between(value: Operand, low: Operand, high: Operand) -> str:
    """Returns whether a value lies between two others, both included."""
    return "(" + comparison(">=", value, low) + " AND " + comparison("<=", value, high) + ")"


def one_of(value: Operand, choices: Sequence[Operand]) -> str:
    """Returns whether a value equals any of several."""
    return "(" + " OR ".join(comparison("=", value, choice) for choice in choices) + ")" if choices else "false"


def like(value: Operand, pattern: Operand) -> str:
    """Returns whether text fits a pattern of `%`, `_` and backslashes before what stands for itself."""
    if "text" not in value.views or "text" not in pattern.views:
        return UNKNOWN
    return "((" + value.views["text"] + ") LIKE (" + pattern.views["text"] + ") ESCAPE '\\')"


def case_folded(operand: Operand) -> Operand:
    """Returns text without regard to upper and lower case."""
    return _over_text(operand, "lower(", ")")


def without_accents(operand: Operand) -> Operand:
    """Returns text without its diacritical marks."""
    return _over_text(operand, "regexp_replace(normalize(", ", NFD), '[\\u0300-\\u036f]', '', 'g')")


def _over_text(operand: Operand, before: str, after: str) -> Operand:
    text = operand.views.get("text")
    views: dict[Kind, str] = {} if text is None else {"text": before + text + after}
    return Operand(views=views, is_null=operand.is_null)


def window_of(operator: str, left: Operand, right: Operand, *, names: Sequence[str | None]) -> tuple[Any, Any]:
    """Returns the interval that an item's period meets when a comparison of its datetime with a literal holds."""
    if names == ["datetime", None]:
        moment = _moment(right)
    elif names == [None, "datetime"]:
        moment, operator = _moment(left), _TURNED[operator]
    else:
        return NO_TIME
    windows: Mapping[str, tuple[Any, Any]] = {
        "=": (moment, moment), "<": (None, moment), "<=": (None, moment), ">": (moment, None), ">=": (moment, None),
    }  # fmt: skip
    return windows.get(operator, NO_TIME) if moment is not None else NO_TIME


def _moment(operand: Operand) -> datetime | None:
    if isinstance(operand.given, datetime):
        return operand.given
    return moment_of(operand.given) if isinstance(operand.given, str) else None


def terms_of(value: Operand, choices: Sequence[Operand]) -> Terms | None:
    """Returns by which values of which property items are found that equal one of several literals; None when by none."""
    given = tuple(choice.given for choice in choices)
    if value.term is None or not given or not all(isinstance(each, (str, bool, int, float)) for each in given):
        return None
    return value.term, given
