"""A loopback HTTP server for a folder of files, which can be told to misbehave.

    with HttpFiles(folder) as files:
        files.status("B04.tif", 500, times=2)   # two bad answers, good ones from the third on
        clip(files.url("B04.tif"))
        assert files.requests[0].range == "bytes=0-16383"

A fault is set for one name. `skip` lets that many requests through first, `times` ends it after that many bad
answers. Nothing here sleeps: a slow answer waits on an event that `close` releases at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Self, cast
from urllib.parse import quote, unquote, urlsplit

from support.loopback import LoopbackServer

LOGIN_PAGE = b"<!doctype html><html><body><h1>Please sign in</h1></body></html>"


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    name: str
    query: str
    range: str | None


@dataclass
class _Fault:
    answer: Callable[[_Handler, bytes], None]
    skip: int
    times: int | None


@dataclass
class HttpFiles:
    """Serves the files below `root` on 127.0.0.1, honouring Range, until `close`."""

    root: Path
    requests: list[Request] = field(default_factory=list)
    _faults: dict[str, _Fault] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stops listening and drops the connections that clients still hold open."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._server.drop_connections()
        self._thread.join()

    @property
    def port(self) -> int:
        return self._server.server_port

    def url(self, name: str, query: str = "") -> str:
        return f"http://127.0.0.1:{self.port}/{quote(name)}" + (f"?{query}" if query else "")

    def requests_for(self, name: str) -> list[Request]:
        return [request for request in self.requests if request.name == name]

    def status(self, name: str, code: int, *, skip: int = 0, times: int | None = None) -> None:
        """Answers with this status and a short text."""

        def answer(handler: _Handler, _body: bytes) -> None:
            handler.reply(code, HTTPStatus(code).phrase.encode(), "text/plain")

        self._set(name, answer, skip, times)

    def missing(self, name: str, *, skip: int = 0, times: int | None = None) -> None:
        """Answers 404."""
        self.status(name, HTTPStatus.NOT_FOUND, skip=skip, times=times)

    def html(self, name: str, *, skip: int = 0, times: int | None = None) -> None:
        """Answers 200 with a login page, as an expired session does."""

        def answer(handler: _Handler, _body: bytes) -> None:
            handler.reply_file(LOGIN_PAGE, "text/html")

        self._set(name, answer, skip, times)

    def redirect(self, name: str, to: str, *, skip: int = 0, times: int | None = None) -> None:
        """Answers 302 to the given URL."""

        def answer(handler: _Handler, _body: bytes) -> None:
            handler.reply(HTTPStatus.FOUND, b"", "text/plain", {"Location": to})

        self._set(name, answer, skip, times)

    def slow(self, name: str, delay_s: float, *, skip: int = 0, times: int | None = None) -> None:
        """Sends the right answer after `delay_s`, or as soon as the server closes."""

        def answer(handler: _Handler, body: bytes) -> None:
            self._closing.wait(delay_s)
            handler.reply_file(body, "image/tiff")

        self._set(name, answer, skip, times)

    def cut(self, name: str, keep_bytes: int, *, skip: int = 0, times: int | None = None) -> None:
        """Announces the whole reply, sends `keep_bytes` of it and closes the connection."""

        def answer(handler: _Handler, body: bytes) -> None:
            handler.reply_file(body, "image/tiff", keep_bytes=keep_bytes)

        self._set(name, answer, skip, times)

    def ignore_range(self, name: str, *, skip: int = 0, times: int | None = None) -> None:
        """Answers every request with 200 and the whole file."""

        def answer(handler: _Handler, body: bytes) -> None:
            handler.reply(HTTPStatus.OK, body, "image/tiff")

        self._set(name, answer, skip, times)

    def heal(self, name: str) -> None:
        """Ends any fault of this name."""
        with self._lock:
            self._faults.pop(name, None)

    def _set(self, name: str, answer: Callable[[_Handler, bytes], None], skip: int, times: int | None) -> None:
        with self._lock:
            self._faults[name] = _Fault(answer, skip, times)

    def _arrived(self, request: Request) -> _Fault | None:
        with self._lock:
            self.requests.append(request)
            fault = self._faults.get(request.name)
            if fault is None:
                return None
            if fault.skip:
                fault.skip -= 1
                return None
            if fault.times is not None:
                fault.times -= 1
                if fault.times == 0:
                    del self._faults[request.name]
            return fault


class _Server(LoopbackServer):
    def __init__(self, files: HttpFiles) -> None:
        self.files = files
        super().__init__(_Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        name = unquote(parts.path).lstrip("/")
        files = cast("_Server", self.server).files
        fault = files._arrived(Request(self.command, name, parts.query, self.headers.get("Range")))
        path = (files.root / name).resolve()
        known = path.is_relative_to(files.root.resolve()) and path.is_file()
        body = _contents(path, path.stat().st_mtime_ns, path.stat().st_size) if known else None
        if fault is not None:
            fault.answer(self, body or b"")
        elif body is None:
            self.reply(HTTPStatus.NOT_FOUND, b"Not Found", "text/plain")
        else:
            self.reply_file(body, "image/tiff")

    do_HEAD = do_GET  # noqa: N815

    def reply_file(self, body: bytes, media_type: str, *, keep_bytes: int | None = None) -> None:
        span = _span(self.headers.get("Range"), len(body))
        if span is None:
            return self.reply(HTTPStatus.OK, body, media_type, {"Accept-Ranges": "bytes"}, keep_bytes)
        first, last = span
        if first > last:
            whole = {"Content-Range": f"bytes */{len(body)}"}
            return self.reply(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", media_type, whole)
        part = {"Content-Range": f"bytes {first}-{last}/{len(body)}", "Accept-Ranges": "bytes"}
        return self.reply(HTTPStatus.PARTIAL_CONTENT, body[first : last + 1], media_type, part, keep_bytes)

    def reply(
        self,
        status: int,
        body: bytes,
        media_type: str,
        headers: dict[str, str] | None = None,
        keep_bytes: int | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:keep_bytes])
        self.close_connection = self.close_connection or keep_bytes is not None

    def log_message(self, *args: object) -> None:
        """The list of requests is the log."""


@lru_cache(maxsize=4)
def _contents(path: Path, _changed_ns: int, _size: int) -> bytes:
    return path.read_bytes()


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte asked for, (1, 0) when the range starts behind the end, None for the whole file."""
    if header is None or not header.startswith("bytes=") or "," in header:
        return None
    first, _, last = header.removeprefix("bytes=").partition("-")
    if not first:
        return max(0, size - int(last)), size - 1
    if int(first) >= size:
        return 1, 0
    return int(first), min(int(last), size - 1) if last else size - 1
