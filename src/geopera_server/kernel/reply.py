"""What an operation's result becomes on the wire."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import BaseModel

from geopera_server.kernel.answers import FRESH_FOR_S, Answer, Elsewhere, Freshness, NotModified, Stream
from geopera_server.kernel.context import Asked
from geopera_server.kernel.idempotency import StoredReply
from geopera_server.kernel.operation import Operation
from geopera_server.values.encoding import dumps


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A finished reply, or one whose body is still to come from `pieces`."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    pieces: AsyncGenerator[bytes, None] | None = None
    status_of_get: int | None = None

    @classmethod
    def replayed(cls, stored: StoredReply) -> Reply:
        """Returns the reply that was given before under the same key, marked as such."""
        return cls(
            status=stored.status,
            body=stored.body,
            media_type=stored.media_type,
            headers={"Idempotency-Replayed": "true"},
        )

    def member(self, name: str) -> str:
        """Returns one text member of a JSON object reply."""
        return str(orjson.loads(self.body)[name])


def render(
    operation: Operation, result: Any, *, asked: Asked, check: bool, warnings: list[dict[str, str]] | None = None
) -> Reply:
    """Returns the reply for a handler's result.

    Typed results are models, whose construction has validated them. Raw results are sent as built; with `check` they are
    held against the declared type first, as tests and development do. Bytes go out as they are, or inside JSON to whoever
    takes nothing else.
    """
    if isinstance(result, Answer):
        return _as_it_is(operation, result, asked)
    if isinstance(result, BaseModel):
        result = result.model_dump(by_alias=True)
    elif check:
        operation.output.validate_python(result)
    if warnings and isinstance(result, dict):
        result = {**result, "warnings": [*result.get("warnings", []), *warnings]}
    return Reply(status=operation.status, body=dumps(result), media_type=operation.media_type or operation.json_media_type)


def _as_it_is(operation: Operation, result: Answer, asked: Asked) -> Reply:
    if isinstance(result, Stream):
        return Reply(status=operation.status, body=b"", media_type=result.media_type, pieces=result.pieces)
    if isinstance(result, Elsewhere):
        headers = {"Location": result.url}
        return Reply(status=operation.status, body=dumps(result.body), headers=headers, status_of_get=307)
    kept = {} if result.etag is None else _kept(result.etag, result.kept)
    if isinstance(result, NotModified):
        return Reply(status=304, body=b"", headers=kept)
    if _takes_only_json(asked.accept):
        data = base64.b64encode(result.body).decode()
        return Reply(status=operation.status, body=dumps({"media_type": result.media_type, "encoding": "base64", "data": data}))
    return Reply(status=operation.status, body=result.body, media_type=result.media_type, headers={**kept, **result.headers})


def _kept(etag: str, kept: Freshness) -> dict[str, str]:
    # Who takes JSON alone gets another body from the same address, and scripts of other origins get further headers.
    return {"ETag": etag, "Cache-Control": f"{kept}, max-age={FRESH_FOR_S}", "Vary": "Accept, Origin"}


def _takes_only_json(accept: str) -> bool:
    named = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return named == {"application/json"}
