"""Shares as tests make them, and what they must never give away."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson

from geopera_server.app import House
from geopera_server.kernel.context import Asked
from geopera_server.kernel.errors import OperationError
from geopera_server.kernel.pipeline import Call
from geopera_server.kernel.reply import Reply
from geopera_server.values.clock import iso, now
from support.deliveries import asset, deliver, item

SHARE_PASSWORD = "for the whole crew"


async def delivered(household, *assets: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Registers an item with these assets, one of a thousand bytes without any."""
    given = {"item": item(household.project_id, **more), "assets": list(assets) or [asset()]}
    made: dict[str, Any] = await household.owner.run(deliver, given)
    return made


def link_to(target_id: str, **more: Any) -> dict[str, Any]:
    """Returns the input that shares an item for a week."""
    expires_at = iso(now() + timedelta(days=7))
    given = {"target_type": "item", "target_id": target_id, "password": SHARE_PASSWORD, "expires_at": expires_at}
    return {**given, **more}


def opening(link: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Returns the input with which a visitor opens a link."""
    return {"token": link["token"], "password": SHARE_PASSWORD, **more}


async def everything_stored(household) -> str:
    """Returns all rows of all tables as text."""
    tables = await household.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    texts = []
    for table in tables:
        rows = await household.sql(f'SELECT t::text AS text FROM "{table["table_name"]}" t')
        texts += [f"{table['table_name']}: {row['text']}" for row in rows]
    return "\n".join(texts)


@dataclass
class Visitor:
    """Somebody without an account, at an address."""

    house: House
    ip: str = "203.0.113.7"

    async def op(self, operation_id: str, given: dict[str, Any]) -> Any:
        """Runs an operation that must succeed and returns its reply."""
        return orjson.loads((await self.reply(operation_id, given)).body)

    async def refused(self, operation_id: str, given: dict[str, Any]) -> tuple[int, str]:
        """Runs an operation that must be refused and returns status and code."""
        error = await self.refusal(operation_id, given)
        return error.status, error.code

    async def refusal(self, operation_id: str, given: dict[str, Any]) -> OperationError:
        """Runs an operation that must be refused and returns the refusal."""
        try:
            reply = await self.reply(operation_id, given)
        except OperationError as error:
            return error
        raise AssertionError(f"{operation_id} was not refused: {reply.body!r}")

    async def reply(self, operation_id: str, given: dict[str, Any]) -> Reply:
        """Runs an operation and returns its reply as it is."""
        operation = self.house.registry.get(operation_id)
        return await self.house.kernel.run(Call(operation=operation, given=given, asked=Asked(ip=self.ip)))
