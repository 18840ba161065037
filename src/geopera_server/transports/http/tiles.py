"""Where maps fetch tiles of items: the marketplace's route, addresses with the key in their path, and WMTS.

QGIS drops what stands in the query of an address when it asks for tiles, so that a ticket or a tile key may also be part of the
path. Whoever holds one needs no header; everybody else sends a credential.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from geopera_server.domains.sharing.entry import ticket_holder
from geopera_server.domains.tiles.wmts import MATRIX_SET, exception
from geopera_server.kernel.errors import InvalidInput, NotFound, OperationError
from geopera_server.kernel.principal import Principal
from geopera_server.transports.http.problems import headers_of, problem_response
from geopera_server.transports.http.ways import PREFIXES, Ways, as_response
from geopera_server.values.clock import now

XML = "application/xml"
_ITEM = "/api/v1/items/{item_id}"
_TILE = "/{z}/{x}/{y}.{format}"
_TWICE = "@2x"
_WISHES = ("profile", "bands", "expression", "rescale", "colormap", "asset_key", "quality", "size")


class KvpRefused(Exception):
    """A WMTS request that breaks the rules of its own form."""

    def __init__(self, code: str, text: str, locator: str) -> None:
        super().__init__(text)
        self.code = code
        self.locator = locator


class TileRoutes:
    """Runs tile operations for the addresses that maps know."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    def routes(self) -> list[Route]:
        """Returns the routes to mount."""
        found = (
            # Before the tiles, whose address this could be taken for.
            (f"{_ITEM}/tiles/k/{{key}}/tilejson.json", self.tilejson),
            (f"{_ITEM}/tiles{_TILE}", self.tile),
            (f"{_ITEM}/tiles/k/{{key}}{_TILE}", self.tile),
            (f"{_ITEM}/tilejson.json", self.tilejson),
            (f"{_ITEM}/wmts", self.wmts),
            (f"{_ITEM}/wmts/k/{{key}}", self.wmts),
            (f"{_ITEM}/wmts/k/{{key}}/{{layer}}/{{matrix_set}}/{{matrix}}/{{row}}/{{column}}.{{format}}", self.wmts_tile),
        )
        return [Route(prefix + path, serve, methods=["GET", "HEAD"]) for prefix in PREFIXES for path, serve in found]

    async def tile(self, request: Request) -> Response:
        """Serves one tile."""
        path, query = request.path_params, request.query_params
        given = {name: path[name] for name in ("item_id", "z", "x", "y", "format")}
        given |= {name: query[name] for name in _WISHES if query.get(name)}
        if path["y"].endswith(_TWICE):
            given |= {"y": path["y"].removesuffix(_TWICE), "size": 512}
        return await self._answered(request, "items.tile.render", given)

    async def tilejson(self, request: Request) -> Response:
        """Serves TileJSON whose addresses are opened by what this one was."""
        query = request.query_params
        given = {"item_id": request.path_params["item_id"], "key": _key_in(request) or ""}
        given |= {name: query[name] for name in ("profile", "asset_key") if query.get(name)}
        return await self._answered(request, "items.tile.tilejson", given)

    async def wmts(self, request: Request) -> Response:
        """Answers WMTS requests in key-value form; the address alone, as people paste it, is answered with capabilities."""
        asked = {name.upper(): value for name, value in request.query_params.items() if name != "ticket"}
        try:
            operation_id, given = self._meant(asked)
            return as_response(request, await self._run(request, operation_id, given))
        except KvpRefused as refused:
            return _report(exception(refused.code, str(refused), refused.locator), 400)
        except OperationError as error:
            return _refused(error)

    async def wmts_tile(self, request: Request) -> Response:
        """Serves one tile at a WMTS resource address."""
        path = request.path_params
        try:
            if path["matrix_set"] != MATRIX_SET:
                raise NotFound("tile matrix set")
            given = {
                "profile": path["layer"],
                "z": path["matrix"],
                "x": path["column"],
                "y": path["row"],
                "format": path["format"],
            }
            return as_response(request, await self._run(request, "items.tile.wmts_get_tile", given))
        except OperationError as error:
            return _refused(error)

    def _meant(self, asked: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
        """Returns the operation that a WMTS request means, and what it is given; raises KvpRefused."""
        if not asked:
            return "items.tile.wmts_capabilities", {"base_url": self._ways.kernel.links.base_url}
        if _required(asked, "SERVICE").upper() != "WMTS":
            raise KvpRefused("InvalidParameterValue", "SERVICE is WMTS here.", "SERVICE")
        wanted = _required(asked, "REQUEST").lower()
        if wanted == "getcapabilities":
            return "items.tile.wmts_capabilities", {"base_url": self._ways.kernel.links.base_url}
        if wanted != "gettile":
            raise KvpRefused("OperationNotSupported", "REQUEST is GetCapabilities or GetTile.", "REQUEST")
        if asked.get("TILEMATRIXSET", MATRIX_SET) != MATRIX_SET:
            raise KvpRefused("InvalidParameterValue", f"TILEMATRIXSET is {MATRIX_SET}.", "TILEMATRIXSET")
        matrix = _required(asked, "TILEMATRIX").rpartition(":")[2]
        return "items.tile.wmts_get_tile", {
            "profile": _required(asked, "LAYER"),
            "z": _whole(matrix, "TILEMATRIX"),
            "x": _whole(_required(asked, "TILECOL"), "TILECOL"),
            "y": _whole(_required(asked, "TILEROW"), "TILEROW"),
            "format": asked.get("FORMAT") or "image/png",
        }

    async def _run(self, request: Request, operation_id: str, given: Mapping[str, Any]) -> Any:
        whole = {**given, "item_id": request.path_params["item_id"]}
        if operation_id == "items.tile.wmts_capabilities":
            whole["key"] = _key_in(request) or ""
        return await self._ways.call(request, operation_id, whole, principal=await self._holder(request))

    async def _answered(self, request: Request, operation_id: str, given: Mapping[str, Any]) -> Response:
        try:
            holder = await self._holder(request)
        except OperationError as error:
            return problem_response(error, request.state.invocation_id)
        return await self._ways.answered(request, operation_id, given, principal=holder)

    async def _holder(self, request: Request) -> Principal | None:
        """Returns whom a ticket or key in the address stands for, None without one; raises NotFound or Gone."""
        text = _key_in(request)
        if text is None:
            return None
        kernel = self._ways.kernel
        async with kernel.pool.connection() as conn:
            return await ticket_holder(conn, kernel.links, text, now())


def _key_in(request: Request) -> str | None:
    key = request.path_params.get("key") or request.query_params.get("ticket")
    return str(key) if key else None


def _required(asked: Mapping[str, str], name: str) -> str:
    value = asked.get(name, "").strip()
    if not value:
        raise KvpRefused("MissingParameterValue", f"{name} is missing.", name)
    return value


def _whole(text: str, name: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise KvpRefused("InvalidParameterValue", f"{name} is a whole number.", name)
    return int(text)


_LOCATORS = {"z": "TILEMATRIX", "x": "TILECOL", "y": "TILEROW", "profile": "LAYER", "format": "FORMAT"}


def _refused(error: OperationError) -> Response:
    """Returns an exception report; what is wrong with the request itself is a 400, as the standard has it."""
    if not isinstance(error, InvalidInput):
        return _report(exception("NoApplicableCode", error.detail), error.status, headers_of(error))
    field = str(error.issues[0]["loc"][-1])
    code = "TileOutOfRange" if field in {"x", "y"} else "InvalidParameterValue"
    return _report(exception(code, error.detail, _LOCATORS.get(field)), 400)


def _report(text: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return Response(text, status, headers=dict(headers or {}), media_type=XML)
