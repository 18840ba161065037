"""The words of STAC API item search: what to ask, in which of its dialects, and where the next page is."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import orjson
from shapely.geometry import shape

from geopera_server.kernel.stac import Item
from geopera_server.ports.host import Comparison, HostFailed, HostQuery, PropertyFilter

Method = Literal["POST", "GET"]
FilterStyle = Literal["query", "cql2", "none"]
MAX_PAGES = 5_000
NEWEST_FIRST = [{"field": "properties.datetime", "direction": "desc"}, {"field": "id", "direction": "asc"}]
_OPERATORS: dict[Comparison, str] = {"eq": "=", "neq": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}


@dataclass(frozen=True, slots=True)
class Manners:
    """What one API understands beyond plain item search; a guess until its landing page has been read."""

    method: Method = "POST"
    sorts: bool = True
    filter_style: FilterStyle = "query"

    @classmethod
    def of_landing_page(cls, page: Mapping[str, Any]) -> Manners:
        """Returns what a landing page declares; pages that declare nothing leave the guess."""
        declared = [each for each in page.get("conformsTo") or [] if isinstance(each, str)]
        links = [link for link in page.get("links") or [] if isinstance(link, Mapping) and link.get("rel") == "search"]
        methods = {str(link.get("method", "GET")).upper() for link in links}
        manners = cls(method="GET" if methods == {"GET"} and any("method" in link for link in links) else "POST")
        if not any("item-search" in each for each in declared):
            return manners
        return replace(manners, sorts=any("#sort" in each for each in declared), filter_style=_style(declared))


def _style(declared: Sequence[str]) -> FilterStyle:
    if any("item-search#query" in each for each in declared):
        return "query"
    return "cql2" if any("item-search#filter" in each for each in declared) else "none"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a walk through pages stands: what the next request changes, and a mark of the page before it."""

    method: Method
    changes: Mapping[str, Any]
    page: int
    mark: str

    def token(self) -> str:
        """Returns the position as text."""
        return base64.urlsafe_b64encode(orjson.dumps([self.method, self.changes, self.page, self.mark])).decode()

    @classmethod
    def of(cls, token: str) -> Position:
        """Returns the position of a token; raises HostFailed for what is none."""
        try:
            method, changes, page, mark = orjson.loads(base64.urlsafe_b64decode(token))
            return cls(method, dict(changes), int(page), str(mark))
        except (ValueError, TypeError) as error:
            raise HostFailed("This is no cursor of this host. Start again without it.", refused=True) from error


@dataclass(frozen=True, slots=True)
class Search:
    """One request to /search, before it has become HTTP."""

    method: Method
    fields: Mapping[str, Any] = field(default_factory=dict)

    def parameters(self) -> dict[str, str]:
        """Returns the fields as query parameters."""
        return {name: value if isinstance(value, str) else _as_parameter(name, value) for name, value in self.fields.items()}


def search_for(query: HostQuery, manners: Manners, position: Position | None) -> Search:
    """Returns the request for the first page, or for the page that a position tells."""
    method = manners.method if position is None else position.method
    fields = {**_plain(query), **_filters(query.filters, manners.filter_style, method)}
    if manners.sorts:
        fields["sortby"] = NEWEST_FIRST if method == "POST" else "-properties.datetime,+id"
    if position is not None:
        fields.update(position.changes)
    return Search(method, fields)


def _plain(query: HostQuery) -> dict[str, Any]:
    fields: dict[str, Any] = {"limit": query.limit}
    if query.ids:
        fields["ids"] = list(query.ids)
    if query.collections:
        fields["collections"] = list(query.collections)
    if query.geometry is not None:
        geometry = shape(dict(query.geometry))
        # Every API knows bbox well; a rectangle is sent as one.
        is_box = geometry.geom_type == "Polygon" and geometry.equals(geometry.envelope)
        fields.update({"bbox": list(geometry.bounds)} if is_box else {"intersects": query.geometry})
    if query.start is not None or query.end is not None:
        fields["datetime"] = f"{_moment(query.start)}/{_moment(query.end)}"
    return fields


def _moment(at: datetime | None) -> str:
    return ".." if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _filters(filters: Sequence[PropertyFilter], style: FilterStyle, method: Method) -> dict[str, Any]:
    if not filters or style == "none":
        return {}
    if style == "query":
        conditions: dict[str, dict[str, Any]] = {}
        for each in filters:
            conditions.setdefault(each.name, {})[each.comparison] = each.value
        return {"query": conditions}
    if method == "GET":
        return {"filter": " AND ".join(_cql2_text(each) for each in filters), "filter-lang": "cql2-text"}
    args = [{"op": _OPERATORS[each.comparison], "args": [{"property": each.name}, each.value]} for each in filters]
    return {"filter": args[0] if len(args) == 1 else {"op": "and", "args": args}, "filter-lang": "cql2-json"}


def _cql2_text(condition: PropertyFilter) -> str:
    name = condition.name.replace('"', "")
    value = condition.value
    literal = "'" + value.replace("'", "''") + "'" if isinstance(value, str) else orjson.dumps(value).decode()
    return f'"{name}" {_OPERATORS[condition.comparison]} {literal}'


def _as_parameter(name: str, value: Any) -> str:
    if name in {"ids", "collections", "bbox"}:
        return ",".join(str(each) for each in value)
    return orjson.dumps(value).decode()


def next_position(
    reply: Mapping[str, Any], items: Sequence[Item], sent: Search, before: Position | None, *, mark: str
) -> Position | None:
    """Returns where a reply's `next` link leads; None at the end, and where the walk would go round in circles.

    Only the parameters or the body of the link are taken, never its address: many an API behind a gateway writes addresses
    that nobody outside can reach, and nobody else's address is any of ours to call.
    """
    links = reply.get("links")
    candidates = [link for link in links if isinstance(link, Mapping)] if isinstance(links, list) else []
    link = next((each for each in candidates if each.get("rel") == "next"), None)
    pages = 1 if before is None else before.page + 1
    if link is None or not items or pages > MAX_PAGES or (before is not None and before.mark == mark):
        return None
    body = link.get("body")
    if sent.method == "POST" and isinstance(body, Mapping):
        asked: Mapping[str, Any] = body
        method: Method = "POST"
    else:
        asked = dict(parse_qsl(urlsplit(str(link.get("href", ""))).query))
        method = "POST" if str(link.get("method", "GET")).upper() == "POST" else "GET"
    known = sent.fields if method == "POST" else Search(method, sent.fields).parameters()
    changes = {name: value for name, value in asked.items() if known.get(name) != value}
    if before is not None:
        changes = {**({} if method != before.method else before.changes), **changes}
    if not changes or (before is not None and changes == before.changes):
        return None
    return Position(method, changes, pages, mark)
