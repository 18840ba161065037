"""Serves the JSON schemas that replies name by address."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from geopera_server.domains.items.stac_extension import GEOPERA_EXTENSION_PATH, extension_schema
from geopera_server.values.encoding import dumps


def schema_routes(base_url: str) -> list[Route]:
    """Returns the routes to mount; schemas name themselves by the address that clients reach this server under."""

    async def geopera_extension(request: Request) -> Response:  # noqa: ARG001
        headers = {"Cache-Control": "public, max-age=3600"}
        return Response(dumps(extension_schema(base_url)), media_type="application/schema+json", headers=headers)

    return [Route(GEOPERA_EXTENSION_PATH, geopera_extension, methods=["GET"])]
