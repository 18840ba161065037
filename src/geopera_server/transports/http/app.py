"""The ASGI application: which address leads where."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import psycopg
from psycopg_pool import PoolTimeout
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from geopera_server.kernel.errors import Denied, NotFound, OperationError, Unauthenticated
from geopera_server.kernel.pipeline import Kernel, as_refusal
from geopera_server.kernel.registry import Registry
from geopera_server.transports.http.calls import OUR_HEADERS, MethodNotAllowed, Operations, credential_of
from geopera_server.transports.http.edge import Crashes, Ids
from geopera_server.transports.http.openapi import openapi_bytes
from geopera_server.transports.http.problems import Crashed, problem_response
from geopera_server.transports.http.uploads import UPLOAD_HEADERS

HEALTH_WITHIN_S = 2.0
CALLERS_HEADERS = (
    "Authorization",
    "Content-Type",
    "Content-Range",
    "Range",
    "If-None-Match",
    "Accept",
    "X-API-Key",
    "Idempotency-Key",
    "X-Organization-Id",
    "X-Request-Id",
)
FILE_HEADERS = ("Accept-Ranges", "Content-Range")


def make_app(kernel: Kernel, registry: Registry, *, max_body_bytes: int, more_routes: Sequence[BaseRoute] = ()) -> ASGIApp:
    """Returns the application over a kernel; `more_routes` are sign-in, downloads and whatever is not an operation."""
    operations = Operations(kernel, registry, max_body_bytes=max_body_bytes)
    rest = _everything_else(Documents(kernel, registry), more_routes)
    apart = frozenset(route.path for route in more_routes if isinstance(route, Route))

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        await (operations if operations.takes(scope) and scope["path"] not in apart else rest)(scope, receive, send)

    return front


def _everything_else(documents: Documents, more_routes: Sequence[BaseRoute]) -> Starlette:
    return Starlette(
        routes=[
            Route("/openapi.json", documents.customer, methods=["GET"]),
            Route("/openapi.admin.json", documents.operator, methods=["GET"]),
            Route("/healthz", documents.health, methods=["GET"]),
            *more_routes,
        ],
        middleware=[
            Middleware(Ids),
            Middleware(
                CORSMiddleware,
                allow_origins=["*"],
                allow_methods=["GET", "POST", "PATCH", "PUT", "DELETE"],
                allow_headers=list(CALLERS_HEADERS),
                expose_headers=[*OUR_HEADERS, *UPLOAD_HEADERS, *FILE_HEADERS],
                max_age=86_400,
            ),
            Middleware(Crashes),
        ],
        exception_handlers={HTTPException: _http_exception},
    )


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "GET")
        refusal: OperationError = MethodNotAllowed(f"{request.url.path} does not take {request.method}.", allow=allowed)
    else:
        refusal = NotFound(detail=f"There is nothing at {request.url.path}. /openapi.json lists what there is.")
    return problem_response(refusal, request.state.invocation_id, headers=dict(error.headers or {}))


class Documents:
    """The descriptions of the interface, and whether it is up."""

    def __init__(self, kernel: Kernel, registry: Registry) -> None:
        self._kernel = kernel
        self._registry = registry

    @functools.cached_property
    def _customer(self) -> bytes:
        return openapi_bytes(self._registry, operator=False)

    @functools.cached_property
    def _operator(self) -> bytes:
        return openapi_bytes(self._registry, operator=True)

    async def customer(self, _request: Request) -> Response:
        """Serves /openapi.json to anybody."""
        return Response(self._customer, media_type="application/json", headers={"Cache-Control": "public, max-age=300"})

    async def operator(self, request: Request) -> Response:
        """Serves /openapi.admin.json to operators."""
        try:
            credential = credential_of(request)
            if credential is None:
                raise Unauthenticated("No credential was sent. Send 'Authorization: Bearer <token or API key>'.")
            if not (await self._kernel.identify(credential)).holds("admin:read"):
                raise Denied("missing scope 'admin:read' for '/openapi.admin.json'", code="missing_scope")
        except OperationError as error:
            return problem_response(error, request.state.invocation_id)
        return Response(self._operator, media_type="application/json")

    async def health(self, request: Request) -> Response:
        """Says whether the database answers: 200, or 503 with a problem."""
        try:
            async with self._kernel.pool.connection(timeout=HEALTH_WITHIN_S) as conn:
                await conn.execute("SELECT 1")
        except (psycopg.Error, PoolTimeout) as error:
            refusal = as_refusal(error) or Crashed()
            return problem_response(refusal, request.state.invocation_id)
        return Response(b'{"status":"ok"}', media_type="application/json")
