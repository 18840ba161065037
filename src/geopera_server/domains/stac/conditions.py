"""What a search asks of items, as SQL with three answers where a footprint is concerned: certainly, certainly not, look closer.

A condition is a tree of conjunctions and disjunctions. Its leaves are SQL that the database decides, and spatial tests that it
decides by boxes as far as boxes can tell. Every text in here is made of constants; what callers send is bound as a parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shapely.geometry.base import BaseGeometry

NO_TIME: tuple[datetime | None, datetime | None] = (None, None)
Terms = tuple[str, tuple[float | str | bool, ...]]
"""The columns that the spatial index and the index by time hold, so that nobody needs to read the item itself."""
COVERED = frozenset(
    {
        "id", "stac_id", "organization_id", "project_id", "collection_id", "datetime", "extent", "extent_across", "inside",
        "shown_gsd", "shown_cloud_cover",
    }
)  # fmt: skip


@dataclass(slots=True)
class Bindings:
    """The parameters of one statement, by the names that its text has for them, and the columns that it reads."""

    values: dict[str, Any] = field(default_factory=dict)
    columns: set[str] = field(default_factory=set)

    def bind(self, value: Any) -> str:
        """Returns the placeholder of one more value."""
        name = "p" + str(len(self.values))
        self.values[name] = value
        return "%(" + name + ")s"

    def column(self, name: str) -> str:
        """Returns an item's column as SQL names it; the name is one of ours, never a caller's."""
        self.columns.add(name)
        return "i." + name


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """SQL that is true for what matches.

    An item that it holds for meets the `during` interval, and has one of the values of the property that `terms` name.
    """

    sql: str
    during: tuple[datetime | None, datetime | None] = NO_TIME
    terms: Terms | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spatial:
    """A test of the footprint: `possible` holds for all that match, `certain` only for what does, `exact` decides.

    `boxes` are where every match lies, if the test says so.
    """

    possible: str
    certain: str
    exact: Callable[[Any], Any]
    near: BaseGeometry | None = None


@dataclass(frozen=True, slots=True)
class Both:
    """Holds where every part does."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """Holds where any part does."""

    parts: tuple[Condition, ...]


Condition = Plain | Spatial | Both | Either
NOTHING = Plain(sql="false")
EVERYTHING = Plain(sql="true")


def possible(condition: Condition, *, skipping: Sequence[Condition] = ()) -> str:
    """Returns SQL that holds for every match and some others; without what is known to hold."""
    if any(condition is each for each in skipping):
        return "true"
    match condition:
        case Plain():
            return condition.sql
        case Spatial():
            return condition.possible
        case Both(parts=parts):
            texts = [possible(part, skipping=skipping) for part in parts]
            return _joined([text for text in texts if text != "true"], " AND ") or "true"
        case Either(parts=parts):
            return _joined([possible(part, skipping=skipping) for part in parts], " OR ") or "false"


def certain(condition: Condition, *, filtered: bool = True) -> str:
    """Returns SQL that holds for matches only, and for nearly all of them, among those that are `possible` when `filtered`."""
    match condition:
        case Plain():
            return condition.sql
        case Spatial():
            return condition.certain
        case Both(parts=parts):
            texts = [certain(part, filtered=filtered) for part in parts if is_spatial(part) or not filtered]
            return _joined(texts, " AND ") or "true"
        case Either(parts=parts):
            return _joined([certain(part, filtered=False) for part in parts], " OR ") or "false"


def is_spatial(condition: Condition) -> bool:
    """Says whether any footprint has to be looked at."""
    match condition:
        case Plain():
            return False
        case Spatial():
            return True
        case Both(parts=parts) | Either(parts=parts):
            return any(is_spatial(part) for part in parts)


def decided_by_sql(condition: Condition, *, inside_either: bool = False) -> Iterator[Condition]:
    """Yields what stands beside spatial tests in a disjunction: `holds` needs to know what SQL says of it."""
    if not is_spatial(condition):
        if inside_either:
            yield condition
    elif isinstance(condition, (Both, Either)):
        for part in condition.parts:
            yield from decided_by_sql(part, inside_either=inside_either or isinstance(condition, Either))


def holds(condition: Condition, footprint: Any, decided: Mapping[int, bool]) -> bool:
    """Says exactly whether a candidate matches; `decided` tells, by identity, what SQL said of `decided_by_sql`.

    What SQL was not asked for holds for every candidate.
    """
    match condition:
        case Spatial():
            return bool(condition.exact(footprint))
        case Both(parts=parts) if is_spatial(condition):
            return all(holds(part, footprint, decided) for part in parts)
        case Either(parts=parts) if is_spatial(condition):
            return any(holds(part, footprint, decided) for part in parts)
        case _:
            return decided.get(id(condition), True)


def conjuncts(condition: Condition) -> Iterator[Plain | Spatial]:
    """Yields the leaves that every match fulfils."""
    match condition:
        case Both(parts=parts):
            for part in parts:
                yield from conjuncts(part)
        case Plain() | Spatial():
            yield condition
        case Either():
            pass


def _joined(texts: list[str], word: str) -> str:
    return "(" + word.join(texts) + ")" if texts else ""
