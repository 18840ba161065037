"""A small STAC API on loopback that serves given items, and can be told to misbehave.

    with StacApi(items) as api:
        api.fail(503, times=1, retry_after="0")
        await StacHost(client, api.url, timeout_s=5).search(query)
        assert [request.method for request in api.searches] == ["POST", "POST"]

It matches items with its own few lines, not with the product's. Nothing here sleeps: a slow answer waits on an event that
`close` releases at once.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import parse_qsl, quote, urlsplit

from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from support.loopback import LoopbackServer

SHARED_DATA = Path(os.environ.get("GEOPERA_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
_OPERATORS = {"=": "eq", "<>": "neq", "<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}


def real_items(name: str = "100-s2.json") -> list[dict[str, Any]]:
    """Items as a real API answered them; fails where the shared data folder is missing, since nothing is tested then."""
    path = SHARED_DATA / "stac" / name
    assert path.exists(), f"{path} is missing: set GEOPERA_TEST_DATA to the folder of real imagery and STAC items."
    found = json.loads(path.read_bytes())
    return found["features"] if isinstance(found, dict) else found


@dataclass(frozen=True)
class Request:
    """One request as it arrived, its fields from body or query."""

    method: str
    path: str
    fields: dict[str, Any]
    authorization: str | None


@dataclass
class StacApi:
    """Serves items below `/api` on 127.0.0.1 until `close`.

    `posts`, `sorts` and `filters` (query, cql2 or none) are what it understands and declares; with `strict` it declines
    what it does not understand with 400, else passes over it. `next_by` is how it writes next links: as a body to merge, as
    a whole body, or as a query string. `next_host` replaces its own address in them.
    """

    items: Sequence[dict[str, Any]]
    posts: bool = True
    sorts: bool = True
    filters: str = "query"
    strict: bool = False
    declares: bool = True
    next_by: str = "merge"
    next_host: str | None = None
    endless: bool = False
    requests: list[Request] = field(default_factory=list)
    _faults: list[_Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)
    waking: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stops listening and drops the connections that clients still hold open; from then on it refuses."""
        self.closing.set()
        self.waking.set()
        self._server.shutdown()
        self._server.server_close()
        self._server.drop_connections()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/api"

    @property
    def searches(self) -> list[Request]:
        return [request for request in self.requests if request.path == "/api/search"]

    def fail(self, status: int, *, times: int | None = None, retry_after: str | None = None) -> None:
        """Answers searches with this status."""
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        self._fault(lambda handler, _reply: handler.reply(status, {"description": "no luck"}, headers), times)

    def slow(self, delay_s: float, *, times: int | None = None) -> None:
        """Sends the right answer after `delay_s`, or when the API closes."""

        def answer(handler: _Handler, reply: dict[str, Any]) -> None:
            self.closing.wait(delay_s)
            handler.reply(200, reply)

        self._fault(answer, times)

    def hold(self, *, times: int | None = None) -> None:
        """Sends the right answer when `wake` is called, or when the API closes."""

        def answer(handler: _Handler, reply: dict[str, Any]) -> None:
            self.waking.wait()
            handler.reply(200, reply)

        self._fault(answer, times)

    def wake(self) -> None:
        """Lets go the answers that are held."""
        self.waking.set()

    def drip(self, pause_s: float, *, times: int | None = None) -> None:
        """Sends the right answer byte by byte."""

        def answer(handler: _Handler, reply: dict[str, Any]) -> None:
            body = json.dumps(reply).encode()
            handler.start(200, {"Content-Length": str(len(body))})
            for position in range(len(body)):
                handler.wfile.write(body[position : position + 1])
                if self.closing.wait(pause_s):
                    return

        self._fault(answer, times)

    def answer(self, body: bytes, *, headers: dict[str, str] | None = None, times: int | None = None) -> None:
        """Answers searches with 200 and these bytes."""

        def answer(handler: _Handler, _reply: dict[str, Any]) -> None:
            handler.start(200, {"Content-Length": str(len(body)), **(headers or {})})
            handler.wfile.write(body)

        self._fault(answer, times)

    def hang_up(self, *, times: int | None = None) -> None:
        """Closes the connection in the middle of the answer."""

        def answer(handler: _Handler, _reply: dict[str, Any]) -> None:
            handler.start(200, {"Content-Length": "1000"})
            handler.wfile.write(b'{"type": "Feature')
            handler.close_connection = True

        self._fault(answer, times)

    def redirect(self, to: str, *, times: int | None = None) -> None:
        """Answers searches with 307."""
        self._fault(lambda handler, _reply: handler.reply(307, {}, {"Location": to}), times)

    def heal(self) -> None:
        """Ends every fault."""
        with self._lock:
            self._faults.clear()

    def _fault(self, answer: Callable[[_Handler, dict[str, Any]], None], times: int | None) -> None:
        with self._lock:
            self._faults.append(_Fault(answer, times))

    def arrived(self, request: Request) -> _Fault | None:
        with self._lock:
            self.requests.append(request)
            if request.path != "/api/search" or not self._faults:
                return None
            fault = self._faults[0]
            if fault.times is not None:
                fault.times -= 1
                if fault.times == 0:
                    self._faults.pop(0)
            return fault

    def landing_page(self) -> dict[str, Any]:
        parts = ["core", "item-search", *(["item-search#sort"] if self.sorts else [])]
        parts += {"query": ["item-search#query"], "cql2": ["item-search#filter"]}.get(self.filters, [])
        links = [{"rel": "search", "href": f"{self.url}/search", "method": "GET"}]
        if self.posts:
            links.append({"rel": "search", "href": f"{self.url}/search", "method": "POST"})
        conforms_to = [f"https://api.stacspec.org/v1.0.0/{part}" for part in parts]
        return {"type": "Catalog", "id": "loopback", "links": links, "conformsTo": conforms_to} if self.declares else {}

    def search(self, request: Request) -> tuple[int, dict[str, Any]]:
        fields = request.fields
        unknown = {"sortby"} - ({"sortby"} if self.sorts else set())
        unknown |= {"query", "filter"} - {"query": {"query"}, "cql2": {"filter"}}.get(self.filters, set())
        if self.strict and (declined := unknown & fields.keys()):
            return 400, {"code": "BadRequest", "description": f"{sorted(declined)} are not understood"}
        found = [item for item in self.items if stac_matches(item, {k: v for k, v in fields.items() if k not in unknown})]
        if "sortby" in fields and self.sorts:
            found.sort(key=lambda item: item["id"])
            found.sort(key=lambda item: item["properties"]["datetime"], reverse=True)
        limit, offset = int(fields.get("limit", 10)), int(fields.get("token", 0))
        page = found[offset : offset + limit]
        reply = {"type": "FeatureCollection", "features": page, "links": [], "numberMatched": len(found)}
        if self.endless:
            reply["features"] = found[:limit]
        if self.endless or offset + limit < len(found):
            reply["links"] = [self._next(request, str(offset + limit))]
        return 200, reply

    def _next(self, request: Request, token: str) -> dict[str, Any]:
        href = f"{self.next_host or self.url}/search"
        if request.method == "POST" and self.next_by == "merge":
            return {"rel": "next", "href": href, "method": "POST", "body": {"token": token}, "merge": True}
        if request.method == "POST" and self.next_by == "body":
            return {"rel": "next", "href": href, "method": "POST", "body": {**request.fields, "token": token}}
        parameters = {**{k: _as_text(k, v) for k, v in request.fields.items()}, "token": token}
        query = "&".join(f"{name}={quote(value)}" for name, value in parameters.items())
        return {"rel": "next", "href": f"{href}?{query}", "method": "GET"}


@dataclass
class _Fault:
    answer: Callable[[_Handler, dict[str, Any]], None]
    times: int | None


class _Server(LoopbackServer):
    def __init__(self, api: StacApi) -> None:
        self.api = api
        super().__init__(_Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    disable_nagle_algorithm = True  # else each answer waits 40 ms for the acknowledgement of its headers

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        fields = {name: _from_text(name, value) for name, value in parse_qsl(parts.query)}
        self._serve(parts.path, fields)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._serve(urlsplit(self.path).path, json.loads(body))

    def _serve(self, path: str, fields: dict[str, Any]) -> None:
        api = cast("_Server", self.server).api
        request = Request(self.command, path, fields, self.headers.get("Authorization"))
        fault = api.arrived(request)
        if path == "/api":
            return self.reply(200, api.landing_page())
        if path != "/api/search":
            return self.reply(404, {"code": "NotFound"})
        if self.command == "POST" and not api.posts:
            return self.reply(405, {"code": "MethodNotAllowed"})
        status, reply = api.search(request)
        if fault is not None:
            return fault.answer(self, reply)
        return self.reply(status, reply)

    def reply(self, status: int, value: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.start(status, {"Content-Type": "application/geo+json", "Content-Length": str(len(body)), **(headers or {})})
        self.wfile.write(body)

    def start(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """The list of requests is the log."""


def _from_text(name: str, value: str) -> Any:
    if name in {"ids", "collections"}:
        return value.split(",")
    if name == "bbox":
        return [float(number) for number in value.split(",")]
    return json.loads(value) if name in {"intersects", "query"} else value


def _as_text(name: str, value: Any) -> str:
    if name in {"ids", "collections", "bbox"}:
        return ",".join(str(each) for each in value)
    return value if isinstance(value, str) else json.dumps(value)


def stac_matches(item: dict[str, Any], fields: dict[str, Any]) -> bool:
    area = _area(fields)
    return (
        item["id"] in fields.get("ids", [item["id"]])
        and item["collection"] in fields.get("collections", [item["collection"]])
        and (area is None or shape(item["geometry"]).intersects(area))
        and _within(item["properties"], fields.get("datetime", "../.."))
        and all(_compares(item["properties"], *condition) for condition in _conditions(fields))
    )


def _area(fields: dict[str, Any]) -> BaseGeometry | None:
    if "intersects" in fields:
        return shape(fields["intersects"])
    return box(*fields["bbox"]) if "bbox" in fields else None


def _within(properties: dict[str, Any], interval: str) -> bool:
    start, end = interval.split("/")
    first = _time(properties.get("start_datetime") or properties["datetime"])
    last = _time(properties.get("end_datetime") or properties["datetime"])
    return (end == ".." or first <= _time(end)) and (start == ".." or last >= _time(start))


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _conditions(fields: dict[str, Any]) -> list[tuple[str, str, Any]]:
    found = [(name, op, value) for name, each in fields.get("query", {}).items() for op, value in each.items()]
    condition = fields.get("filter")
    if isinstance(condition, dict):
        parts = condition["args"] if condition["op"] == "and" else [condition]
        found += [(part["args"][0]["property"], _OPERATORS[part["op"]], part["args"][1]) for part in parts]
    elif isinstance(condition, str):
        for part in condition.split(" AND "):
            name, operator, value = part.split(" ", 2)
            literal = value.strip("'") if value.startswith("'") else json.loads(value)
            found.append((name.strip('"'), _OPERATORS[operator], literal))
    return found


def _compares(properties: dict[str, Any], name: str, operator: str, value: Any) -> bool:
    present = properties.get(name)
    if present is None:
        return False
    outcomes = {"eq": present == value, "neq": present != value}
    if operator in outcomes:
        return outcomes[operator]
    return {"lt": present < value, "lte": present <= value, "gt": present > value, "gte": present >= value}[operator]
