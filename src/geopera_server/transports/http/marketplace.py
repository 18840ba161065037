"""Addresses that clients of imagery marketplaces know, each for an operation."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from geopera_server.kernel.errors import OperationError
from geopera_server.kernel.validation import parse_body
from geopera_server.transports.http.calls import read_body
from geopera_server.transports.http.problems import MEDIA_TYPE, problem_body, problem_response
from geopera_server.transports.http.ways import PREFIXES, Ways, as_response
from geopera_server.values.encoding import dumps


class Marketplace:
    """Answers the marketplace's addresses."""

    def __init__(self, ways: Ways, *, max_body_bytes: int) -> None:
        self._ways = ways
        self._max_body_bytes = max_body_bytes

    def routes(self) -> list[Route]:
        """Returns the routes to mount."""
        picture = "/catalog/{host_name}/image/{image_id}"
        return [
            route
            for prefix in PREFIXES
            for route in (
                Route(f"{prefix}/assets/{{asset_id}}/download-url", self.download_url, methods=["POST"]),
                Route(f"{prefix}/catalog/hosts/{{host_name}}/stac/search", self.search, methods=["POST"]),
                Route(f"{prefix}{picture}/quicklook", self.quicklook, methods=["GET"]),
                Route(f"{prefix}{picture}/thumbnail", self.thumbnail, methods=["GET"]),
            )
        ]

    async def download_url(self, request: Request) -> Response:
        """Gives out an address to fetch a file from."""
        return await self._ways.answered(request, "items.asset.download_by_id", dict(request.path_params))

    async def quicklook(self, request: Request) -> Response:
        """Leads to a scene's large preview."""
        return await self._ways.answered(request, "catalog.image.quicklook", dict(request.path_params))

    async def thumbnail(self, request: Request) -> Response:
        """Leads to a scene's small preview."""
        return await self._ways.answered(request, "catalog.image.thumbnail", dict(request.path_params))

    async def search(self, request: Request) -> Response:
        """Searches one host's catalogue; what is wrong with the question is also told as these clients read it."""
        try:
            given = parse_body(await read_body(request, self._max_body_bytes))
            reply = await self._ways.call(request, "catalog.search", {**given, **self._page(request), **request.path_params})
        except OperationError as error:
            return _told(request, error)
        return as_response(request, reply)

    def _page(self, request: Request) -> dict[str, Any]:
        return {"next": request.query_params["next"]} if "next" in request.query_params else {}


def _told(request: Request, error: OperationError) -> Response:
    if error.status != 422:
        return problem_response(error, request.state.invocation_id)
    problem = {**problem_body(error, request.state.invocation_id), "error": {"message": error.detail}}
    return Response(dumps(problem), 422, media_type=MEDIA_TYPE)
