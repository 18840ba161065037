"""What can be compared: literals and the properties of items, each readable as number, text, truth or time where it is one.

A property that an item has not, or that is of another kind than what it is compared with, compares to nothing: neither the
comparison nor its negation holds. Names of properties are parameters, never part of a statement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from geopera_server.domains.stac.conditions import Bindings

Kind = Literal["number", "text", "truth", "time"]
KINDS: tuple[Kind, ...] = ("number", "text", "truth", "time")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """SQL for each kind that a value can be read as, JSON for comparing whatever there is, and SQL that says it is missing.

    `term` is the name under which items with one value of a property are found, `given` what a literal was.
    """

    views: dict[Kind, str]
    is_null: str
    json: str | None = None
    term: str | None = None
    geometry: bool = False
    given: Any = None


def literal(bindings: Bindings, value: Any) -> Operand:
    """Returns a number, text, truth or time that a caller has written."""
    if isinstance(value, bool):
        return Operand(views={"truth": bindings.bind(value) + "::boolean"}, is_null="false", given=value)
    if isinstance(value, (int, float)):
        return Operand(views={"number": bindings.bind(Decimal(repr(value))) + "::numeric"}, is_null="false", given=value)
    if isinstance(value, datetime):
        return Operand(views={"time": bindings.bind(value) + "::timestamptz"}, is_null="false", given=value)
    views: dict[Kind, str] = {"text": bindings.bind(value) + "::text"}
    moment = moment_of(value)
    if moment is not None:
        views["time"] = bindings.bind(moment) + "::timestamptz"
    return Operand(views=views, is_null="false", given=value)


def moment_of(text: str) -> datetime | None:
    """Returns an RFC 3339 time or date, which is its midnight in UTC; None for anything else."""
    try:
        found = datetime.fromisoformat(text.upper()) if len(text) >= len("2024-01-01") else None
    except ValueError:
        return None
    if found is None:
        return None
    try:
        return (found.replace(tzinfo=UTC) if found.tzinfo is None else found).astimezone(UTC)
    except OverflowError:
        return None


def named(bindings: Bindings, name: str) -> Operand:
    """Returns a property of an item by its STAC name, with or without `properties.` before it."""
    name = name.removeprefix("properties.") or name
    if name == "geometry":
        return Operand(views={}, is_null="(" + bindings.column("geometry") + " IS NULL)", geometry=True)
    made = _COLUMNS.get(name)
    return _in_json(bindings, name) if made is None else made(bindings)


def _column(kind: Kind, name: str, cast: str = "", *, term: str | None = None) -> Callable[[Bindings], Operand]:
    def made(bindings: Bindings) -> Operand:
        sql = bindings.column(name) + cast
        return Operand(views={kind: sql}, is_null="(" + sql + " IS NULL)", term=term)

    return made


def _collection(bindings: Bindings) -> Operand:
    own, project = bindings.column("collection_id"), bindings.column("project_id")
    sql = "coalesce(" + own + "::text, 'project-' || " + project + "::text)"
    return Operand(views={"text": sql}, is_null="false", term="collection")


def _before_json(kind: Kind, column: str, name: str) -> Callable[[Bindings], Operand]:
    """A column that, where it is empty, leaves the word to the item's properties, as in the item's feature."""

    def made(bindings: Bindings) -> Operand:
        own, other = bindings.column(column), _in_json(bindings, name)
        sql = "coalesce(" + own + ", " + other.views[kind] + ")"
        return Operand(views={kind: sql}, is_null="(" + own + " IS NULL AND " + other.is_null + ")")

    return made


_COLUMNS: dict[str, Callable[[Bindings], Operand]] = {
    "id": _column("text", "stac_id", term="id"),
    "collection": _collection,
    "datetime": _column("time", "datetime"),
    "start_datetime": _before_json("time", "start_datetime", "start_datetime"),
    "end_datetime": _before_json("time", "end_datetime", "end_datetime"),
    "created": _column("time", "created_at"),
    "updated": _column("time", "updated_at"),
    "title": _column("text", "name"),
    "description": _before_json("text", "description", "description"),
    "gsd": _column("number", "shown_gsd"),
    "eo:cloud_cover": _column("number", "shown_cloud_cover"),
    "geopera:item_id": _column("text", "id", "::text"),
    "geopera:item_type": _column("text", "type"),
    "geopera:lifecycle_state": _column("text", "lifecycle_state"),
}


def _in_json(bindings: Bindings, name: str) -> Operand:
    key = bindings.bind(name) + "::text"
    whole = bindings.column("properties")
    value, text = "(" + whole + " -> " + key + ")", "(" + whole + " ->> " + key + ")"
    kind = "jsonb_typeof(" + value + ")"
    return Operand(
        views={
            "number": "CASE WHEN " + kind + " = 'number' THEN " + text + "::numeric END",
            "text": "CASE WHEN " + kind + " = 'string' THEN " + text + " END",
            "truth": "CASE WHEN " + kind + " = 'boolean' THEN " + text + "::boolean END",
            "time": "CASE WHEN " + kind + " = 'string' THEN time_in(" + text + ") END",
        },
        is_null="(nullif(" + value + ", 'null'::jsonb) IS NULL)",
        json="nullif(" + value + ", 'null'::jsonb)",
        term=name,
    )
