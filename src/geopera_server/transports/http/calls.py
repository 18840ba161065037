"""From a request to a call and from a reply to a response; the only place where HTTP meets the pipeline.

Nearly every request comes this way, so it is written against ASGI itself: Starlette's request, response, router and CORS
layers cost more than a short read does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from geopera_server.kernel.context import Asked
from geopera_server.kernel.errors import InvalidInput, NotFound, OperationError, TooLarge
from geopera_server.kernel.operation import Operation
from geopera_server.kernel.pipeline import Call, Kernel
from geopera_server.kernel.principal import Credential
from geopera_server.kernel.registry import Registry
from geopera_server.kernel.reply import Reply
from geopera_server.kernel.validation import from_query, parse_body
from geopera_server.transports.http.problems import MEDIA_TYPE, Crashed, headers_of, problem_body
from geopera_server.values.encoding import dumps
from geopera_server.values.ids import new_id

logger = logging.getLogger(__name__)

CANONICAL_PREFIX = "/v1/op/"
ALIAS_PREFIX = "/v1/"
DISCARDED_BYTES = 64 * 1024 * 1024
READING = frozenset({"GET", "HEAD"})
OUR_HEADERS = ("X-Invocation-Id", "X-Request-Id", "Idempotency-Replayed", "Retry-After")
_CORS = ((b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", ", ".join(OUR_HEADERS).encode()))
_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class MethodNotAllowed(OperationError):
    """The address exists and takes other methods; `allow` names them."""

    default_code = "method_not_allowed"

    def __init__(self, detail: str, *, allow: str) -> None:
        super().__init__(f"{detail} Use {allow.replace(', ', ' or ')}.")
        self.allow = allow


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request as far as a call needs it; header names are lower case."""

    method: str
    path: str
    query: bytes
    headers: Mapping[bytes, bytes]
    ip: str | None
    invocation_id: str

    @property
    def asked(self) -> Asked:
        """Returns what a handler may know of how the call came in."""
        return Asked(
            ip=self.ip,
            user_agent=self.header(b"user-agent"),
            accept=self.header(b"accept") or "*/*",
            if_none_match=self.header(b"if-none-match"),
        )

    def header(self, name: bytes) -> str | None:
        """Returns a header's text, or None."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


class Operations:
    """An ASGI application that runs whichever operation the address names."""

    def __init__(self, kernel: Kernel, registry: Registry, *, max_body_bytes: int) -> None:
        self._kernel = kernel
        self._registry = registry
        self._max_body_bytes = max_body_bytes

    @staticmethod
    def takes(scope: Scope) -> bool:
        """Says whether a request is for an operation; a browser's preflight is not."""
        return bool(scope["type"] == "http" and scope["path"].startswith(ALIAS_PREFIX) and scope["method"] != "OPTIONS")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope["client"]
        incoming = Incoming(
            scope["method"],
            scope["path"],
            scope["query_string"],
            dict(scope["headers"]),
            client[0] if client else None,
            new_id(),
        )
        try:
            reply = await self._run(incoming, receive)
        except ClientDisconnect:
            return
        except OperationError as error:
            reply = _refusal(error, incoming)
        except Exception:
            logger.exception("call %s %s crashed as %s", incoming.method, incoming.path, incoming.invocation_id)
            reply = _refusal(Crashed(), incoming)
        await (_send if reply.pieces is None else _send_pieces)(reply, incoming, receive, send)

    async def _run(self, incoming: Incoming, receive: Receive) -> Reply:
        operation_id = _operation_id(incoming.path)
        operation = self._registry.find(operation_id)
        if operation is None:
            raise NotFound(
                detail=f"There is no operation {operation_id!r}. /openapi.json lists them all.", code="unknown_operation"
            )
        if incoming.method != "POST" and not (operation.reads and incoming.method in READING):
            raise MethodNotAllowed(
                f"{operation.id} does not take {incoming.method}.", allow="GET, POST" if operation.reads else "POST"
            )
        body = await _body(incoming.header(b"content-length") or "", receive, self._max_body_bytes)
        call = Call(
            operation=operation,
            given=lambda: _given(incoming, operation, body),
            credential=_credential(incoming),
            idempotency_key=incoming.header(b"idempotency-key"),
            asked=incoming.asked,
            invocation_id=incoming.invocation_id,
        )
        return await self._kernel.run(call)


def _given(incoming: Incoming, operation: Operation, body: bytes) -> Mapping[str, Any]:
    query = _query(incoming, operation) if incoming.query and operation.reads else {}
    if incoming.method != "POST":
        return query
    # The address of a next page carries its cursor, for clients that repost the body they had.
    return {**parse_body(body), **query}


def _query(incoming: Incoming, operation: Operation) -> dict[str, Any]:
    try:
        pairs = parse_qsl(incoming.query.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise InvalidInput(f"The query string cannot be read: {error}.") from error
    return from_query(operation, pairs)


def _operation_id(path: str) -> str:
    if path.startswith(CANONICAL_PREFIX):
        return path.removeprefix(CANONICAL_PREFIX)
    return path.removeprefix(ALIAS_PREFIX).strip("/").replace("/", ".")


def _refusal(error: OperationError, incoming: Incoming) -> Reply:
    headers = headers_of(error)
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = error.allow
    body = dumps(problem_body(error, incoming.invocation_id))
    return Reply(status=error.status, body=body, media_type=MEDIA_TYPE, headers=headers)


async def _send(reply: Reply, incoming: Incoming, _receive: Receive, send: Send) -> None:
    status = _status(reply, incoming)
    body = b"" if status == 304 else reply.body
    headers = _headers(reply, incoming)
    if status != 304:
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if incoming.method == "HEAD" else body})


async def _send_pieces(reply: Reply, incoming: Incoming, receive: Receive, send: Send) -> None:
    """Sends each piece as it comes; when the caller leaves, the making of more is cancelled."""
    assert reply.pieces is not None
    sending = asyncio.create_task(_pieces(reply, reply.pieces, incoming, send))
    leaving = asyncio.create_task(_left(receive))
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, leaving):
            task.cancel()
        ended, _ = await asyncio.gather(sending, leaving, return_exceptions=True)
    if isinstance(ended, Exception):
        logger.error("the answer to %s broke off", incoming.invocation_id, exc_info=ended)


async def _pieces(reply: Reply, pieces: AsyncGenerator[bytes, None], incoming: Incoming, send: Send) -> None:
    headers = [*_headers(reply, incoming), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if incoming.method != "HEAD":
        # Whoever leaves while a piece is sent ends the making of more at once.
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _status(reply: Reply, incoming: Incoming) -> int:
    if incoming.method not in READING:
        return reply.status
    if reply.status_of_get is not None:
        return reply.status_of_get
    tag, known = reply.headers.get("ETag"), incoming.header(b"if-none-match")
    return 304 if reply.status == 200 and tag and known and has_tag(known, tag) else reply.status


def has_tag(known: str, tag: str) -> bool:
    """Says whether an If-None-Match header names an entity tag, compared weakly (RFC 9110, 13.1.2)."""
    return known.strip() == "*" or tag.removeprefix("W/") in {each.strip().removeprefix("W/") for each in known.split(",")}


def _headers(reply: Reply, incoming: Incoming) -> list[tuple[bytes, bytes]]:
    invocation_id = incoming.invocation_id.encode()
    request_id = incoming.headers.get(b"x-request-id")
    headers = [
        (b"content-type", reply.media_type.encode("latin-1")),
        (b"x-invocation-id", invocation_id),
        (b"x-request-id", request_id if request_id and _SANE_REQUEST_ID.fullmatch(request_id) else invocation_id),
    ]
    headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers.items()]
    return headers + list(_CORS) if b"origin" in incoming.headers else headers


def _credential(incoming: Incoming) -> Credential | None:
    """Returns what the caller identifies with: X-API-Key before Authorization; None when neither was sent."""
    return _credential_in(
        incoming.header(b"x-api-key"), incoming.header(b"authorization"), incoming.header(b"x-organization-id")
    )


def credential_of(request: Request) -> Credential | None:
    """Returns the same for a request that is not for an operation."""
    headers = request.headers
    return _credential_in(headers.get("x-api-key"), headers.get("authorization"), headers.get("x-organization-id"))


def _credential_in(key: str | None, authorization: str | None, organization_id: str | None) -> Credential | None:
    token = key
    if not token:
        if not authorization:
            return None
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() not in {"bearer", "apikey"}:
            token = authorization
    return Credential(token=token.strip(), requested_organization_id=organization_id)


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Returns the body of a request that is not for an operation, under the same limit."""
    return await _body(request.headers.get("content-length", ""), request.receive, max_bytes)


async def _body(declared: str, receive: Receive, max_bytes: int) -> bytes:
    """Returns the body, refusing it with TooLarge as soon as it is known to be over the limit."""
    if declared.isdigit() and int(declared) > max_bytes:
        if int(declared) <= DISCARDED_BYTES:
            # Many clients read no answer before they have sent everything.
            while (await receive()).get("more_body"):
                pass
        raise _too_large(max_bytes)
    message = await receive()
    if not message.get("more_body"):
        return _chunk(message)
    body = bytearray(_chunk(message))
    while message.get("more_body"):
        message = await receive()
        body += _chunk(message)
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


def _chunk(message: Mapping[str, Any]) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    chunk: bytes = message.get("body", b"")
    return chunk


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The body is larger than {max_bytes:,} bytes. Send less in one call.")
