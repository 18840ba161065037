"""The one body every failure has: problem+json that the typed clients can read too."""

from __future__ import annotations

import http
from typing import Any

from starlette.responses import Response

from geopera_server.kernel.errors import InvalidInput, OperationError
from geopera_server.values.encoding import dumps

MEDIA_TYPE = "application/problem+json"


def problem_body(error: OperationError, invocation_id: str) -> dict[str, Any]:
    """Returns the members of a problem (RFC 9457) with our code and, for a 422, the list that typed clients expect."""
    body: dict[str, Any] = {
        "type": f"urn:geopera:problem:{error.code}",
        "title": _title(error.status),
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "invocation_id": invocation_id,
        **error.members,
    }
    if isinstance(error, InvalidInput):
        body["detail"] = error.issues
        body["errors"] = [{**issue, "name": _name(issue["loc"]), "message": issue["msg"]} for issue in error.issues]
    return body


def _title(status: int) -> str:
    return http.HTTPStatus(status).phrase


def _name(loc: list[str | int]) -> str:
    return ".".join(str(part) for part in loc[1:]) or "body"


def headers_of(error: OperationError) -> dict[str, str]:
    """Returns the headers a problem travels with: when to come back, and how to identify oneself."""
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == http.HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="public"'
    return headers


def problem_response(error: OperationError, invocation_id: str, *, headers: dict[str, str] | None = None) -> Response:
    """Returns the problem as a response."""
    sent = {**(headers or {}), **headers_of(error)}
    return Response(dumps(problem_body(error, invocation_id)), error.status, headers=sent, media_type=MEDIA_TYPE)


class Crashed(OperationError):
    """A defect of ours, told without its insides."""

    default_code = "internal_error"

    def __init__(self) -> None:
        super().__init__("Something broke on our side and nothing was changed. Report the invocation id to your operator.")
