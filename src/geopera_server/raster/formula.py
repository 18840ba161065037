"""Band arithmetic: `(b4 - b3) / (b4 + b3)`, parsed by an allow-list and evaluated with numpy.

From loose to tight: `or`, `and`, `not`, comparisons (one at a time), `+ -`, `* /`, unary `+ -`, `**` (from the right).
Numbers are decimal, names are `b1` to `bN` or those given, and the functions are those of `FUNCTIONS`; nothing else parses.
True is 1 and false 0; any number but 0 counts as true.

No-data spreads: an operation on a missing value, a division by zero or a function outside its domain has no value, and
neither has a comparison with one. Only `where` picks one side and leaves the other out of account.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from geopera_server.raster.errors import FormulaError

MAX_CHARACTERS = 1000
MAX_NODES = 256
MAX_DEPTH = 64
PIECE_PX = 65_536

Floats = npt.NDArray[Any]
Node = tuple[Any, ...]

# How many arguments each function takes, at least and at most.
FUNCTIONS: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(("abs", "sqrt", "exp", "log", "log10", "floor", "ceil"), (1, 1)),
    "min": (2, 16),
    "max": (2, 16),
    "where": (3, 3),
    "clip": (3, 3),
}

_WORDS = {"and", "or", "not"}
_TOKEN = re.compile(
    r"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign>\*\*|<=|>=|==|!=|[-+*/<>(),])"
)
_SPACE = re.compile(r"[ \t\r\n]*")
_BAND = re.compile(r"b([1-9][0-9]{0,4})")

_OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _SIGN, _POWER = range(1, 9)
_BINDING = {"or": _OR, "and": _AND, "+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "**": _POWER} | dict.fromkeys(
    ("<", "<=", ">", ">=", "==", "!="), _COMPARE
)


@dataclass(frozen=True)
class Formula:
    """A parsed formula; `bands` are the numbers, from 1, of the bands it uses, in ascending order."""

    text: str
    root: Node
    bands: tuple[int, ...]

    def evaluate(
        self, arrays: Mapping[int, npt.NDArray[Any]], valid: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """The value of each pixel as float32, and where there is one; `arrays` holds the bands by number."""
        wide = any(array.dtype.itemsize > (4 if array.dtype.kind == "f" else 2) for array in arrays.values())
        found = np.empty(valid.shape, dtype=np.float32)
        present = np.empty(valid.shape, dtype=np.bool_)
        # A formula may hold dozens of intermediate values at once: so many rows at a time, whatever the raster's size.
        step = max(1, PIECE_PX // max(1, valid.shape[-1]))
        for top in range(0, valid.shape[0], step):
            rows = slice(top, top + step)
            self._evaluate(arrays, rows, np.float64 if wide else np.float32, found[rows])
            np.isfinite(found[rows], out=present[rows])
        present &= valid
        found[~present] = 0
        return found, present

    def _evaluate(
        self, arrays: Mapping[int, npt.NDArray[Any]], rows: slice, dtype: type[Any], found: npt.NDArray[np.float32]
    ) -> None:
        bands = {number: arrays[number][rows].astype(dtype, copy=False) for number in self.bands}
        with np.errstate(all="ignore"):
            found[...] = _value(self.root, bands, dtype)


def parse(text: str, *, names: Mapping[str, int] | None = None, band_count: int | None = None) -> Formula:
    """Parses a formula; raises FormulaError, which says where and why.

    `names` maps names to band numbers from 1. Upper and lower case are one where no exact name is known. With
    `band_count`, bands beyond it are refused.
    """
    if len(text) > MAX_CHARACTERS:
        raise FormulaError(f"The formula has {len(text):,} characters; at most {MAX_CHARACTERS:,} are read", MAX_CHARACTERS)
    parser = _Parser(_tokens(text), names or {}, band_count)
    root = parser.expression(0)
    end = parser.peek()
    if end.kind != "end":
        raise FormulaError(f"'{end.text}' was not expected here", end.position)
    return Formula(text, root, tuple(sorted(parser.bands)))


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    place = 0
    while (place := _end(_SPACE, text, place)) < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise FormulaError(f"{text[place]!r} has no meaning in a formula", place)
        kind = str(found.lastgroup)
        tokens.append(_Token("word" if found[0] in _WORDS else kind, found[0], place))
        place = found.end()
    return [*tokens, _Token("end", "the end", len(text))]


def _end(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    return found.end() if found else place


class _Parser:
    """A Pratt parser: each operator binds as tightly as its number in `_BINDING` says."""

    def __init__(self, tokens: list[_Token], names: Mapping[str, int], band_count: int | None) -> None:
        self._tokens = tokens
        self._next = 0
        self._names = names
        self._folded = {name.lower(): number for name, number in names.items()}
        self._band_count = band_count
        self._nodes = 0
        self._depth = 0
        self.bands: set[int] = set()

    def peek(self) -> _Token:
        return self._tokens[self._next]

    def expression(self, binding: int) -> Node:
        """Parses as much as binds tighter than `binding`."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise FormulaError(f"The formula is nested more than {MAX_DEPTH} deep", self.peek().position)
        left = self._operand()
        while (power := _BINDING.get(self.peek().text, 0)) > binding:
            operator = self._take()
            right = self.expression(power - 1 if power == _POWER else power)
            left = self._node(operator, operator.text, left, right)
            if power == _COMPARE and _BINDING.get(self.peek().text) == _COMPARE:
                raise FormulaError("Comparisons cannot be chained; join them with 'and'", self.peek().position)
        self._depth -= 1
        return left

    def _operand(self) -> Node:
        token = self._take()
        if token.kind == "number":
            return self._node(token, "number", float(token.text))
        if token.kind == "name":
            return self._call(token) if self.peek().text == "(" else self._band(token)
        if token.text == "(":
            inner = self.expression(0)
            self._expect(")")
            return inner
        if token.text in {"-", "+"}:
            return self._node(token, f"unary {token.text}", self.expression(_SIGN))
        if token.text == "not":
            return self._node(token, "not", self.expression(_NOT))
        raise FormulaError(f"A number, a band or a function was expected, not {_shown(token)}", token.position)

    def _call(self, name: _Token) -> Node:
        if name.text not in FUNCTIONS:
            raise FormulaError(f"There is no function '{name.text}'; there are {', '.join(FUNCTIONS)}", name.position)
        self._expect("(")
        arguments = [self.expression(0)]
        while self.peek().text == ",":
            self._take()
            arguments.append(self.expression(0))
        self._expect(")")
        least, most = FUNCTIONS[name.text]
        if not least <= len(arguments) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise FormulaError(f"'{name.text}' takes {wanted} arguments, not {len(arguments)}", name.position)
        return self._node(name, name.text, *arguments)

    def _band(self, name: _Token) -> Node:
        number = self._names.get(name.text)
        if number is None and (found := _BAND.fullmatch(name.text)):
            number = int(found[1])
        if number is None:
            number = self._folded.get(name.text.lower())
        if number is None:
            known = ", ".join(list(self._names)[:20])
            raise FormulaError(
                f"There is no band '{name.text}'; write b1, b2, ...{f' or {known}' if known else ''}", name.position
            )
        if self._band_count is not None and not 1 <= number <= self._band_count:
            raise FormulaError(f"'{name.text}' is band {number}, and there are {self._band_count}", name.position)
        self.bands.add(number)
        return self._node(name, "band", number)

    def _node(self, token: _Token, kind: str, *parts: Any) -> Node:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise FormulaError(f"The formula has more than {MAX_NODES} parts", token.position)
        return (kind, *parts)

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        if token.kind != "end":
            self._next += 1
        return token

    def _expect(self, text: str) -> None:
        token = self._take()
        if token.text != text or token.kind == "end":
            raise FormulaError(f"'{text}' was expected, not {_shown(token)}", token.position)


def _shown(token: _Token) -> str:
    return token.text if token.kind == "end" else f"'{token.text}'"


def _value(node: Node, bands: Mapping[int, Floats], dtype: type[Any]) -> Floats:
    kind = node[0]
    if kind == "number":
        return np.asarray(node[1], dtype=dtype)
    if kind == "band":
        return bands[node[1]]
    return _OPERATIONS[kind](*(_value(part, bands, dtype) for part in node[1:]))


def _finite(found: Floats) -> Floats:
    return np.where(np.isfinite(found), found, found.dtype.type(np.nan))


def _finite_of(operation: Callable[..., Any]) -> Callable[..., Floats]:
    return lambda *parts: _finite(operation(*parts))


def _divided(above: Floats, below: Floats) -> Floats:
    return np.where(below == 0, below.dtype.type(np.nan), above / below)


def _truth(operation: Callable[..., Any]) -> Callable[[Floats, Floats], Floats]:
    """A yes or no about two values as 1 or 0, without a value where one of them has none."""

    def told(one: Floats, other: Floats) -> Floats:
        nothing = one.dtype.type(np.nan)
        told_of = operation(one, other).astype(one.dtype)
        return np.asarray(np.where(np.isnan(one) | np.isnan(other), nothing, told_of))

    return told


def _not(value: Floats) -> Floats:
    return np.asarray(np.where(np.isnan(value), value, value == 0), dtype=value.dtype)


def _where(condition: Floats, yes: Floats, no: Floats) -> Floats:
    return np.asarray(np.where(np.isnan(condition), condition, np.where(condition != 0, yes, no)))


def _clip(value: Floats, low: Floats, high: Floats) -> Floats:
    return np.asarray(np.minimum(np.maximum(value, low), high))


_OPERATIONS: Mapping[str, Callable[..., Floats]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": _divided,
    "**": _finite_of(np.power),
    "<": _truth(np.less),
    "<=": _truth(np.less_equal),
    ">": _truth(np.greater),
    ">=": _truth(np.greater_equal),
    "==": _truth(np.equal),
    "!=": _truth(np.not_equal),
    "and": _truth(np.logical_and),
    "or": _truth(np.logical_or),
    "not": _not,
    "unary -": np.negative,
    "unary +": np.positive,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "exp": _finite_of(np.exp),
    "log": _finite_of(np.log),
    "log10": _finite_of(np.log10),
    "floor": np.floor,
    "ceil": np.ceil,
    "min": lambda *parts: functools.reduce(np.minimum, parts),
    "max": lambda *parts: functools.reduce(np.maximum, parts),
    "where": _where,
    "clip": _clip,
}
