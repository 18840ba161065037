"""From a request to a call and from a reply to a response; the only place where HTTP meets the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from geopera_server.kernel.errors import NotFound, OperationError, TooLarge
from geopera_server.kernel.operation import Operation
from geopera_server.kernel.pipeline import Call, Kernel
from geopera_server.kernel.principal import Credential
from geopera_server.kernel.registry import Registry
from geopera_server.kernel.reply import Reply
from geopera_server.kernel.validation import from_query, parse_body
from geopera_server.transports.http.problems import problem_response

ALIAS_PREFIX = "/v1/"


class MethodNotAllowed(OperationError):
    """The address exists and takes other methods; Allow names them."""

    default_code = "method_not_allowed"


class Operations:
    """Endpoints that run whichever operation the address names."""

    def __init__(self, kernel: Kernel, registry: Registry, *, max_body_bytes: int) -> None:
        self._kernel = kernel
        self._registry = registry
        self._max_body_bytes = max_body_bytes

    async def canonical(self, request: Request) -> Response:
        """Serves /v1/op/{operation_id}."""
        return await self._serve(request, request.path_params["operation_id"])

    async def alias(self, request: Request) -> Response:
        """Serves /v1/{resource}/{action}: the id with its dots as slashes."""
        return await self._serve(request, request.path_params["path"].strip("/").replace("/", "."))

    async def _serve(self, request: Request, operation_id: str) -> Response:
        invocation_id: str = request.state.invocation_id
        try:
            operation = self._registry.find(operation_id)
            if operation is None:
                raise NotFound(
                    detail=f"There is no operation {operation_id!r}. /openapi.json lists them all.", code="unknown_operation"
                )
            if request.method != "POST" and not operation.reads:
                return problem_response(
                    MethodNotAllowed(f"{operation.id} changes things: use POST."), invocation_id, headers={"Allow": "POST"}
                )
            given = await self._given(request, operation)
            reply = await self._kernel.run(self._call(request, operation, given, invocation_id))
        except OperationError as error:
            return problem_response(error, invocation_id)
        return as_response(reply)

    async def _given(self, request: Request, operation: Operation) -> Mapping[str, Any]:
        if request.method == "POST":
            return parse_body(await read_body(request, self._max_body_bytes))
        return from_query(operation, request.query_params.multi_items())

    def _call(self, request: Request, operation: Operation, given: Mapping[str, Any], invocation_id: str) -> Call:
        return Call(
            operation=operation,
            given=given,
            credential=credential_of(request),
            idempotency_key=request.headers.get("idempotency-key"),
            ip=request.client.host if request.client else None,
            user_agent=request.headers.get("user-agent"),
            invocation_id=invocation_id,
        )


def credential_of(request: Request) -> Credential | None:
    """Returns what the caller identifies with: X-API-Key before Authorization; None when neither was sent."""
    headers = request.headers
    token = headers.get("x-api-key")
    if not token:
        authorization = headers.get("authorization")
        if not authorization:
            return None
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() not in {"bearer", "apikey"}:
            token = authorization
    return Credential(token=token.strip(), requested_organization_id=headers.get("x-organization-id"))


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Returns the body, refusing it with TooLarge as soon as it is known to be over the limit."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise _too_large(max_bytes)
    except ClientDisconnect:
        return b""
    return bytes(body)


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The body is larger than {max_bytes:,} bytes. Send less in one call.")


def as_response(reply: Reply) -> Response:
    """Returns the reply as sent."""
    return Response(reply.body, reply.status, headers=reply.headers, media_type=reply.media_type)
