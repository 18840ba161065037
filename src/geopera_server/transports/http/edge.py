"""The outermost layer: ids on every reply, and a problem body in place of whatever would otherwise leave the house."""

from __future__ import annotations

import logging
import re

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from geopera_server.transports.http.problems import Crashed, problem_response
from geopera_server.values.ids import new_id

logger = logging.getLogger(__name__)

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Ids:
    """Gives every request an invocation id and a request id, and every response both."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        invocation_id = new_id()
        request_id = _request_id(scope) or invocation_id
        scope.setdefault("state", {})["invocation_id"] = invocation_id

        async def send_with_ids(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Invocation-Id"] = invocation_id
                headers["X-Request-Id"] = request_id
            await send(message)

        await self._app(scope, receive, send_with_ids)


class Crashes:
    """Answers a defect with a problem; the log has the rest."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answered = False

        async def noting(message: Message) -> None:
            nonlocal answered
            answered = answered or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            if scope["type"] != "http" or answered:
                raise
            invocation_id = scope["state"]["invocation_id"]
            logger.exception("call %s %s crashed as %s", scope["method"], scope["path"], invocation_id)
            await problem_response(Crashed(), invocation_id)(scope, receive, send)


def _request_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            return text if _SANE_REQUEST_ID.fullmatch(text) else None
    return None
