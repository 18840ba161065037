"""Doing something to many organizations, each in a call of its own, so that one failure never stops the rest."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import orjson

from geopera_server.kernel.context import Outside
from geopera_server.kernel.errors import OperationError
from geopera_server.kernel.operation import Handler, operation_of
from geopera_server.kernel.principal import service

logger = logging.getLogger(__name__)


async def run_for(
    outside: Outside, handler: Handler, organization_id: str, given: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, str]:
    """Runs an operation as the platform's own service within an organization; returns its answer, or the code of a refusal."""
    name = operation_of(handler).id
    try:
        body = await outside.run(handler, given, service(organization_id=organization_id))
    except OperationError as refusal:
        logger.warning("%s for %s: %s", name, organization_id, refusal)
        return None, refusal.code
    except Exception:
        logger.exception("%s for %s broke", name, organization_id)
        return None, "internal_error"
    return orjson.loads(body), ""


async def for_each(
    outside: Outside, handler: Handler, organization_ids: Iterable[str]
) -> AsyncIterator[tuple[str, dict[str, Any] | None, str]]:
    """Yields for each organization its id, what the operation answered, and the code when it was refused or broke."""
    for organization_id in organization_ids:
        reply, code = await run_for(outside, handler, organization_id, {"organization_id": organization_id})
        yield organization_id, reply, code
