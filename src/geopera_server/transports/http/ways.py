"""Other addresses for operations: a route builds the input, and the call goes through the pipeline like any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from geopera_server.kernel.context import Asked
from geopera_server.kernel.errors import OperationError
from geopera_server.kernel.pipeline import Call, Kernel
from geopera_server.kernel.principal import Principal
from geopera_server.kernel.registry import Registry
from geopera_server.kernel.reply import Reply
from geopera_server.transports.http.calls import READING, credential_of, has_tag
from geopera_server.transports.http.problems import problem_response

# The marketplace's addresses stand at the root and below its second version.
PREFIXES = ("", "/v2")


class Ways:
    """Runs operations for routes of other kinds than one address per operation."""

    def __init__(self, kernel: Kernel, registry: Registry) -> None:
        self.kernel = kernel
        self._registry = registry

    async def call(
        self, request: Request, operation_id: str, given: Mapping[str, Any], *, principal: Principal | None = None
    ) -> Reply:
        """Runs an operation as whoever the request's credential names, or as the principal that a ticket stands for.

        Raises OperationError for every refusal.
        """
        return await self.kernel.run(
            Call(
                operation=self._registry.get(operation_id),
                given=given,
                credential=None if principal is not None else credential_of(request),
                principal=principal,
                counted=principal is not None,
                idempotency_key=request.headers.get("idempotency-key"),
                asked=asked_by(request),
                invocation_id=request.state.invocation_id,
            )
        )

    async def answered(
        self, request: Request, operation_id: str, given: Mapping[str, Any], *, principal: Principal | None = None
    ) -> Response:
        """Runs an operation and returns its reply, or the problem it ended with, as a response."""
        try:
            return as_response(request, await self.call(request, operation_id, given, principal=principal))
        except OperationError as error:
            return problem_response(error, request.state.invocation_id)


def asked_by(request: Request) -> Asked:
    """Returns what a handler may know of how a request came in."""
    return Asked(
        ip=request.client.host if request.client else None,
        user_agent=request.headers.get("user-agent"),
        accept=request.headers.get("accept") or "*/*",
        if_none_match=request.headers.get("if-none-match"),
    )


def as_response(request: Request, reply: Reply) -> Response:
    """Returns a reply as a response; a reader who has it already is told so (304)."""
    if reply.pieces is not None:
        return StreamingResponse(reply.pieces, reply.status, media_type=reply.media_type)
    if request.method in READING and reply.status_of_get is not None:
        return Response(reply.body, reply.status_of_get, headers=reply.headers, media_type=reply.media_type)
    tag, known = reply.headers.get("ETag"), request.headers.get("if-none-match")
    if request.method in READING and reply.status == 200 and tag and known and has_tag(known, tag):
        return Response(status_code=304, headers=reply.headers)
    return Response(reply.body, reply.status, headers=reply.headers, media_type=reply.media_type)
