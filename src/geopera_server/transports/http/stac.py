"""The STAC API at /assets/stac: the organization's items for any client that speaks STAC API 1.0.

Each address builds the input of an operation and runs it like any other call. What is wrong with a request is told with 400
here, as the STAC API has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from geopera_server.domains.stac.filter_text import tree_of
from geopera_server.kernel.errors import InvalidInput, OperationError
from geopera_server.kernel.validation import parse_body
from geopera_server.ports import Links
from geopera_server.transports.http.calls import read_body
from geopera_server.transports.http.problems import MEDIA_TYPE, problem_body, problem_response
from geopera_server.transports.http.stac_description import CONFORMS_TO, landing_page, openapi_of_stac
from geopera_server.transports.http.ways import PREFIXES, Ways, as_response
from geopera_server.values.encoding import dumps

ROOT = "/assets/stac"
SEARCH = f"{ROOT}/search"
GEOJSON = "application/geo+json"
MAX_LIMIT = 10_000
_LISTS = ("collections", "ids")
_JSON = ("intersects", "query")
_TEXTS = ("datetime", "token")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})")


class StacApi:
    """Answers the STAC API."""

    def __init__(self, ways: Ways, links: Links, *, max_body_bytes: int) -> None:
        self._ways = ways
        self._links = links
        self._max_body_bytes = max_body_bytes

    def routes(self) -> list[Route]:
        """Returns the routes to mount."""
        one = "/collections/{collection_id}"
        found = {
            "": self.landing,
            "/": self.landing,
            "/conformance": self.conformance,
            "/api": self.description,
            "/queryables": self.queryables,
            "/collections": self.collections,
            one: self.collection,
            f"{one}/queryables": self.queryables,
            f"{one}/items": self.items,
            f"{one}/items/{{stac_id:path}}": self.item,
        }
        return [
            *(Route(f"{prefix}{ROOT}{path}", serve, methods=["GET"]) for prefix in PREFIXES for path, serve in found.items()),
            *(Route(f"{prefix}{SEARCH}", self.search, methods=["GET", "POST"]) for prefix in PREFIXES),
        ]

    async def landing(self, _request: Request) -> Response:
        """Says what there is; to anybody, since it tells of nobody's data."""
        return _json(landing_page(self._links.base_url))

    async def conformance(self, _request: Request) -> Response:
        """Lists what the API conforms to."""
        return _json({"conformsTo": list(CONFORMS_TO)})

    async def description(self, _request: Request) -> Response:
        """Serves the OpenAPI document of the STAC API."""
        body = dumps(openapi_of_stac(self._links.base_url))
        return Response(body, media_type="application/vnd.oai.openapi+json;version=3.0")

    async def collections(self, request: Request) -> Response:
        """Lists the collections."""
        return await self._answered(request, "stac.collections.list", {})

    async def collection(self, request: Request) -> Response:
        """Serves one collection."""
        return await self._answered(request, "stac.api.collection", dict(request.path_params))

    async def queryables(self, request: Request) -> Response:
        """Serves what filters may name."""
        return await self._answered(
            request, "stac.api.queryables", dict(request.path_params), media_type="application/schema+json"
        )

    async def item(self, request: Request) -> Response:
        """Serves one item."""
        return await self._answered(request, "stac.api.item", dict(request.path_params))

    async def items(self, request: Request) -> Response:
        """Serves a page of a collection's items."""
        collection_id = request.path_params["collection_id"]
        asked = {"at": f"{ROOT}/collections/{collection_id}/items", "method": "GET"}
        try:
            given = {**_from_query(request), "collections": [collection_id]}
        except OperationError as error:
            return _refused(request, error)
        return await self._answered(request, "stac.api.search", {**given, **asked})

    async def search(self, request: Request) -> Response:
        """Searches all items, by GET or by POST."""
        try:
            if request.method == "POST":
                given = _from_body(parse_body(await read_body(request, self._max_body_bytes)))
            else:
                given = _from_query(request)
        except OperationError as error:
            return _refused(request, error)
        method = "POST" if request.method == "POST" else "GET"
        return await self._answered(request, "stac.api.search", {**given, "at": SEARCH, "method": method})

    async def _answered(
        self, request: Request, operation_id: str, given: Mapping[str, Any], *, media_type: str | None = None
    ) -> Response:
        try:
            response = as_response(request, await self._ways.call(request, operation_id, given))
        except OperationError as error:
            return _refused(request, error)
        if media_type is not None:
            response.headers["content-type"] = media_type
        return response


def _json(value: Mapping[str, Any]) -> Response:
    return Response(dumps(value), media_type="application/json")


def _refused(request: Request, error: OperationError) -> Response:
    if error.status != 422:
        return problem_response(error, request.state.invocation_id)
    problem = {**problem_body(error, request.state.invocation_id), "status": 400, "description": error.detail}
    return Response(dumps(problem), 400, media_type=MEDIA_TYPE)


def _from_query(request: Request) -> dict[str, Any]:
    """Returns the search that a query string means. Raises InvalidInput."""
    asked = request.query_params
    given: dict[str, Any] = {name: asked[name] for name in _TEXTS if name in asked}
    _check_datetime(given.get("datetime"))
    given |= {name: [part for part in asked[name].split(",") if part] for name in _LISTS if asked.get(name)}
    given |= {name: _parsed(name, asked[name]) for name in _JSON if asked.get(name)}
    if asked.get("bbox"):
        given["bbox"] = _numbers(asked["bbox"])
    if "limit" in asked:
        given["limit"] = _limit(asked["limit"])
    if asked.get("sortby"):
        given["sortby"] = _sorting(asked["sortby"])
    if asked.get("fields"):
        given["fields"] = _fields(asked["fields"])
    if asked.get("filter"):
        given |= _filter(asked["filter"], asked.get("filter-lang"))
    return given


def _from_body(body: Mapping[str, Any]) -> dict[str, Any]:
    if "fields" in body and not isinstance(body["fields"], Mapping):
        raise InvalidInput('fields is {"include": [...], "exclude": [...]}.', loc=("fields",))
    given = {name: value for name, value in body.items() if value is not None and name not in {"filter-crs", "at", "method"}}
    given |= {name: [given[name]] for name in _LISTS if isinstance(given.get(name), str)}
    _check_datetime(given.get("datetime"))
    if isinstance(given.get("filter"), str):
        given |= _filter(given["filter"], given.get("filter-lang", "cql2-text"))
    if isinstance(given.get("limit"), int) and not isinstance(given["limit"], bool):
        given["limit"] = _limit(str(given["limit"]))
    return given


def _check_datetime(text: Any) -> None:
    """Raises InvalidInput for what is no RFC 3339 time or interval, which the STAC API asks for and operations do not."""
    if isinstance(text, str) and not all(part in {"", ".."} or _MOMENT.fullmatch(part) for part in text.split("/")):
        raise InvalidInput(
            "datetime is a time as 2024-01-31T00:00:00Z, or two with a slash between them, of which one may be ..",
            loc=("datetime",),
        )


def _limit(text: str) -> int:
    """Returns a page's size, at most `MAX_LIMIT`: asking for more is asking for as much as there can be."""
    try:
        limit = int(text)
    except ValueError as error:
        raise InvalidInput("limit is a whole number.", loc=("limit",)) from error
    if limit < 1:
        raise InvalidInput("limit is at least 1.", loc=("limit",))
    return min(limit, MAX_LIMIT)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InvalidInput("bbox is four or six numbers with commas between them.", loc=("bbox",)) from error


def _parsed(name: str, text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{name} is not JSON: {error}.", loc=(name,)) from error


def _sorting(text: str) -> list[dict[str, str]]:
    """Returns the clauses of `+properties.datetime,-id`; a plus that was not encoded has become a space."""
    parts = [part for part in text.split(",") if part]
    return [{"field": part.lstrip("+- "), "direction": "desc" if part.startswith("-") else "asc"} for part in parts]


def _fields(text: str) -> dict[str, list[str]]:
    names = [part.strip() for part in text.split(",") if part.strip("+- ")]
    return {
        "include": [name.lstrip("+") for name in names if not name.startswith("-")],
        "exclude": [name[1:] for name in names if name.startswith("-")],
    }


def _filter(text: str, language: str | None) -> dict[str, Any]:
    """Returns a filter as CQL2-JSON; text is the language of query strings where none is named (OGC 19-079r2)."""
    if language == "cql2-json" or (language is None and text.lstrip().startswith("{")):
        return {"filter": _parsed("filter", text), "filter-lang": "cql2-json"}
    if language not in {None, "cql2-text"}:
        raise InvalidInput("filter-lang is cql2-text or cql2-json.", loc=("filter-lang",), code="unknown_field_value")
    return {"filter": tree_of(text), "filter-lang": "cql2-json"}
