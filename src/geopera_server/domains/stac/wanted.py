"""What a search wants, read from what callers send."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime as Time  # noqa: N812  (a field has that name)
from typing import Any

from psycopg.types.range import TimestamptzRange
from shapely.geometry.base import BaseGeometry

from geopera_server.domains.stac import spatial
from geopera_server.domains.stac.conditions import NO_TIME, Bindings, Both, Condition, Plain, Spatial, Terms, conjuncts
from geopera_server.domains.stac.filtering import read_filter
from geopera_server.domains.stac.ordering import Key, read_order
from geopera_server.domains.stac.querying import ITEM_COLUMNS, read_query
from geopera_server.kernel.errors import InvalidInput
from geopera_server.kernel.geometry import read_bbox, read_geometry, read_interval
from geopera_server.values.ids import is_id

MAX_NAMED = 1_000
MAX_TERMS = 4
OF_PROJECT = "project-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A search of one organization's items: what must hold, where and when at least, in which order, and which page."""

    organization_id: str
    bindings: Bindings
    condition: Condition
    order: tuple[Key, ...]
    near: Spatial | None
    timed: Plain | None
    terms: tuple[Terms, ...]
    start: Time | None
    end: Time | None
    ids: tuple[str, ...] | None
    collection_id: str | None
    limit: int
    offset: int = 0
    token: str | None = None
    bound_to: str = ""

    @property
    def area(self) -> BaseGeometry | None:
        return None if self.near is None else self.near.near

    @property
    def window(self) -> tuple[Time | None, Time | None]:
        return (self.start, self.end)

    @property
    def during(self) -> TimestamptzRange:
        return TimestamptzRange(self.start, self.end, "[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The filters of every kind of search, as callers send them; `item_columns` takes the words of items.list as well.

    Those are names of collections beside their ids, and of columns beside STAC's names.
    """

    collections: Sequence[str] | None = None
    item_columns: bool = False
    ids: Sequence[str] | None = None
    bbox: Sequence[float] | None = None
    intersects: Any = None
    datetime: str | None = None
    filter: Any = None
    filter_lang: str | None = None
    query: Mapping[str, Any] | None = None
    sortby: Sequence[Mapping[str, Any]] | None = None
    type: str | None = None


def read_wanted(
    filters: Filters,
    *,
    organization_id: str,
    project_id: str | None = None,
    limit: int,
    offset: int = 0,
    token: str | None = None,
    bound_to: str = "",
) -> Wanted:
    """Returns the search that filters mean. Raises InvalidInput for those that mean none."""
    bindings = Bindings()
    timed, area = _timed(bindings, filters), _area(filters)
    parts: list[Condition] = [
        *_tenancy(bindings, organization_id, project_id),
        *_plain_filters(bindings, filters, organization_id),
        *([] if timed is None else [timed]),
        *([] if area is None else [spatial.spatial(bindings, "s_intersects", area)]),
        *_filter(bindings, filters),
    ]
    condition = Both(tuple(parts))
    leaves = list(conjuncts(condition))
    start, end = _window([leaf.during for leaf in leaves if isinstance(leaf, Plain)])
    return Wanted(
        organization_id=organization_id,
        bindings=bindings,
        condition=condition,
        order=read_order(bindings, filters.sortby, ITEM_COLUMNS if filters.item_columns else {}),
        near=next((leaf for leaf in leaves if isinstance(leaf, Spatial) and leaf.near is not None), None),
        timed=timed,
        terms=tuple(leaf.terms for leaf in leaves if isinstance(leaf, Plain) and leaf.terms is not None)[:MAX_TERMS],
        start=start,
        end=end,
        ids=_named(filters.ids, "ids"),
        collection_id=_one_collection(filters),
        limit=limit,
        offset=offset,
        token=token,
        bound_to=bound_to,
    )


def _filter(bindings: Bindings, filters: Filters) -> Iterator[Condition]:
    if filters.filter is not None:
        yield read_filter(bindings, filters.filter, filters.filter_lang)
    elif filters.filter_lang not in {None, "cql2-json", "cql2-text"}:
        raise InvalidInput("filter-lang is cql2-json.", loc=("filter-lang",), code="unknown_field_value")
    if filters.query:
        yield read_query(bindings, filters.query, ITEM_COLUMNS if filters.item_columns else {})


def _timed(bindings: Bindings, filters: Filters) -> Plain | None:
    start, end = read_interval(filters.datetime, loc=("datetime",))
    if (start, end) == NO_TIME:
        return None
    period = bindings.bind(TimestamptzRange(start, end, "[]")) + "::tstzrange"
    return Plain(sql="(i.period && " + period + ")", during=(start, end))


def _tenancy(bindings: Bindings, organization_id: str, project_id: str | None) -> list[Plain]:
    """One organization's items in its live projects, or in one of them."""
    own, project = bindings.column("organization_id"), bindings.column("project_id")
    organization = bindings.bind(organization_id) + "::uuid"
    live = "SELECT id FROM project WHERE organization_id = " + organization + " AND deleted_at IS NULL"
    parts = [Plain(sql=own + " = " + organization), Plain(sql=project + " = ANY (ARRAY(" + live + "))")]
    if project_id is not None:
        parts.append(Plain(sql=project + " = " + bindings.bind(project_id) + "::uuid"))
    return parts


def _plain_filters(bindings: Bindings, filters: Filters, organization_id: str) -> list[Plain]:
    parts: list[Plain] = []
    if filters.type is not None:
        parts.append(Plain(sql=bindings.column("type") + " = " + bindings.bind(filters.type) + "::text"))
    collections = _named(filters.collections, "collections")
    if collections is not None:
        parts.append(_in_collections(bindings, collections, organization_id if filters.item_columns else None))
    return parts


def _in_collections(bindings: Bindings, names: Sequence[str], organization_id: str | None) -> Plain:
    own, project = bindings.column("collection_id"), bindings.column("project_id")
    ids = [name for name in names if is_id(name)]
    projects = [name.removeprefix(OF_PROJECT) for name in names if name.startswith(OF_PROJECT)]
    texts = [own + " = ANY (" + bindings.bind(ids) + "::uuid[])"]
    projects = [each for each in projects if is_id(each)]
    if projects:
        texts.append("(" + own + " IS NULL AND " + project + " = ANY (" + bindings.bind(projects) + "::uuid[]))")
    if organization_id is not None:
        texts.append(
            own + " = ANY (ARRAY(SELECT id FROM collection WHERE organization_id = " + bindings.bind(organization_id) + "::uuid"
            " AND deleted_at IS NULL AND lower(name) = ANY (" + bindings.bind([name.lower() for name in names]) + "::text[])))"
        )
    return Plain(sql="(" + " OR ".join(texts) + ")")


def _one_collection(filters: Filters) -> str | None:
    names = filters.collections
    return names[0] if names is not None and len(names) == 1 and is_id(names[0]) and not filters.item_columns else None


def _named(names: Sequence[str] | None, what: str) -> tuple[str, ...] | None:
    if not names:
        return None
    if len(names) > MAX_NAMED:
        raise InvalidInput(f"Name at most {MAX_NAMED} {what} in one search.", loc=(what,))
    return tuple(names)


def _area(filters: Filters) -> BaseGeometry | None:
    if filters.bbox is not None and filters.intersects is not None:
        raise InvalidInput("Search by bbox or by intersects, not by both.", loc=("intersects",))
    if filters.bbox is not None:
        return read_bbox(filters.bbox, loc=("bbox",))
    return None if filters.intersects is None else read_geometry(filters.intersects, loc=("intersects",), polygonal=False)


def _window(windows: Sequence[tuple[Time | None, Time | None]]) -> tuple[Time | None, Time | None]:
    """Returns what every match's period meets; of windows that do not meet each other, only one can be used."""
    start = max((first for first, _ in windows if first is not None), default=None)
    end = min((last for _, last in windows if last is not None), default=None)
    return (start, None) if start is not None and end is not None and end < start else (start, end)
