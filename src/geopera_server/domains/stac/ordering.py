"""The order of a search's results, and the place in it that a page begins after.

Missing values come last in either direction; ties are in the order of the items' STAC ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geopera_server.domains.stac.conditions import Bindings
from geopera_server.domains.stac.operands import named
from geopera_server.kernel.errors import InvalidInput

MAX_KEYS = 8
_CASTS = {"time": "timestamptz", "number": "float8", "text": "text", "truth": "boolean"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One thing to sort by: SQL over an item, its type, and which way."""

    name: str
    sql: str
    type: str
    descending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The last row of a page: its keys as text, None for missing ones, and its ids."""

    keys: tuple[str | None, ...]
    stac_id: str
    id: str


def read_order(bindings: Bindings, clauses: Sequence[Mapping[str, Any]] | None, aliases: Mapping[str, str]) -> tuple[Key, ...]:
    """Returns the keys of a sortby; none means newest first. Raises InvalidInput for a clause without field or direction."""
    wanted: dict[str, bool] = {}
    for clause in clauses or ():
        name, descending = _read_clause(clause)
        wanted.setdefault(aliases.get(name, name), descending)
    if len(wanted) > MAX_KEYS:
        raise InvalidInput(f"Sort by at most {MAX_KEYS} fields.", loc=("sortby",))
    return tuple(_key(bindings, name, descending=down) for name, down in (wanted or {"datetime": True}).items())


def _read_clause(clause: Mapping[str, Any]) -> tuple[str, bool]:
    field, direction = clause.get("field"), str(clause.get("direction", "asc")).lower()
    if not isinstance(field, str) or not field or direction not in {"asc", "desc"}:
        raise InvalidInput('Sort by {"field": ..., "direction": "asc" or "desc"}.', loc=("sortby",), code="unknown_field_value")
    return field.removeprefix("properties.") or field, direction == "desc"


def _key(bindings: Bindings, name: str, *, descending: bool) -> Key:
    operand = named(bindings, name)
    if operand.json is not None:
        return Key(name=name, sql=operand.json, type="jsonb", descending=descending)
    if not operand.views:
        raise InvalidInput("Results cannot be sorted by geometry.", loc=("sortby",), code="unknown_field_value")
    [(kind, sql)] = operand.views.items()
    if kind == "text":
        sql = "(" + sql + ') COLLATE "C"'
    return Key(name=name, sql=sql, type=_CASTS[kind], descending=descending)


def selected(keys: Sequence[Key]) -> str:
    """Returns the keys as columns k0, k1 and so on, for a select list."""
    return "".join(", " + key.sql + " AS k" + str(number) for number, key in enumerate(keys))


def as_texts(keys: Sequence[Key]) -> str:
    """Returns those columns as an array of texts."""
    return "ARRAY[" + ", ".join("k" + str(number) + "::text" for number in range(len(keys))) + "]"


def ordered(keys: Sequence[Key]) -> str:
    """Returns the sort list over those columns."""
    terms = ["k" + str(number) + (" DESC" if key.descending else " ASC") + " NULLS LAST" for number, key in enumerate(keys)]
    return ", ".join([*terms, 'stac_id COLLATE "C"', "id"])


def beyond(bindings: Bindings, keys: Sequence[Key], position: Position) -> str:
    """Returns SQL over those columns that holds for what comes after a position."""
    stac_id, item_id = bindings.bind(position.stac_id) + "::text", bindings.bind(position.id) + "::uuid"
    later = '(stac_id COLLATE "C" > ' + stac_id + " OR (stac_id = " + stac_id + " AND id > " + item_id + "))"
    for number in reversed(range(len(keys))):
        column, key, value = "k" + str(number), keys[number], position.keys[number]
        if value is None:
            later = "(" + column + " IS NULL AND " + later + ")"
            continue
        bound = bindings.bind(value) + "::" + key.type
        word = " < " if key.descending else " > "
        later = (
            "(" + column + word + bound + " OR " + column + " IS NULL OR (" + column + " = " + bound + " AND " + later + "))"
        )
    return later


def by_time(keys: Sequence[Key]) -> bool:
    """Says whether the index by time has this order."""
    return len(keys) == 1 and keys[0].name == "datetime"
