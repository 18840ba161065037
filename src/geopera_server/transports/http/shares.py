"""Where visitors of shares fetch tiles and files: a ticket in the address stands for token and password."""

from __future__ import annotations

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from geopera_server.kernel.errors import OperationError
from geopera_server.transports.http.files import Files
from geopera_server.transports.http.problems import problem_response
from geopera_server.transports.http.ways import Ways


class ShareRoutes:
    """Runs share operations for the addresses that they give out themselves."""

    def __init__(self, ways: Ways, files: Files) -> None:
        self._ways = ways
        self._files = files

    def routes(self) -> list[Route]:
        """Returns the routes to mount."""
        return [
            Route("/api/v1/shares/{ticket}/tiles/{item_id}/{z}/{x}/{y}.{format}", self.tile, methods=["GET", "HEAD"]),
            Route("/api/v1/shares/{ticket}/files/{asset_id}/{name:path}", self.file, methods=["GET", "HEAD"]),
        ]

    async def tile(self, request: Request) -> Response:
        """Serves one tile of a shared item."""
        path = dict(request.path_params)
        given = {"token": path.pop("ticket"), **path}
        if profile := request.query_params.get("profile"):
            given["profile"] = profile
        return await self._ways.answered(request, "share.tile.render", given)

    async def file(self, request: Request) -> Response:
        """Serves one shared file, or one range of it; each request asks anew whether the share still lives."""
        given = {"token": request.path_params["ticket"], "asset_id": request.path_params["asset_id"]}
        try:
            opened = orjson.loads((await self._ways.call(request, "share.file.open", given)).body)
        except OperationError as error:
            return problem_response(error, request.state.invocation_id)
        return await self._files.sent(request, opened["path"], file_name=opened["file_name"], media_type=opened["media_type"])
