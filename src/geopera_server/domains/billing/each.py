"""Doing something to many organizations, each in a call of its own, so that one failure never stops the rest."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from typing import Any

import orjson

from geopera_server.kernel.context import Outside
from geopera_server.kernel.errors import OperationError
from geopera_server.kernel.operation import Handler, operation_of
from geopera_server.kernel.pipeline import Call
from geopera_server.kernel.principal import service

logger = logging.getLogger(__name__)


async def for_each(
    outside: Outside, handler: Handler, organization_ids: Iterable[str]
) -> AsyncIterator[tuple[str, dict[str, Any] | None, str]]:
    """Yields for each organization its id, what the operation answered, and the code when it was refused or broke."""
    for organization_id in organization_ids:
        call = Call(
            operation=operation_of(handler),
            given={"organization_id": organization_id},
            principal=service(organization_id=organization_id),
        )
        try:
            reply = await outside.run(call)
        except OperationError as refusal:
            logger.warning("%s for %s: %s", call.operation.id, organization_id, refusal)
            yield organization_id, None, refusal.code
        except Exception:
            logger.exception("%s for %s broke", call.operation.id, organization_id)
            yield organization_id, None, "internal_error"
        else:
            yield organization_id, orjson.loads(reply.body), ""
