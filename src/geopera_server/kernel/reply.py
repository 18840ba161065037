"""What an operation's result becomes on the wire."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import BaseModel

from geopera_server.kernel.idempotency import StoredReply
from geopera_server.kernel.operation import Operation
from geopera_server.values.encoding import dumps


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A finished reply."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

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


def render(operation: Operation, result: Any, *, check: bool, warnings: list[dict[str, str]] | None = None) -> Reply:
    """Returns the reply for a handler's result.

    Typed results are models, whose construction has validated them. Raw results are sent as built; with `check` they are
    held against the declared type first, as tests and development do.
    """
    if isinstance(result, BaseModel):
        result = result.model_dump(by_alias=True)
    elif check:
        operation.output.validate_python(result)
    if warnings and isinstance(result, dict):
        result = {**result, "warnings": [*result.get("warnings", []), *warnings]}
    return Reply(status=operation.status, body=dumps(result), media_type=operation.media_type or operation.json_media_type)
