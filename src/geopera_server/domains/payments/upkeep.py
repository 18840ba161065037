"""Looks after charges that no call has brought to their end; run every few seconds in the background."""

from __future__ import annotations

import logging

from geopera_server.domains.payments.store import topups
from geopera_server.kernel.errors import OperationError, Unavailable
from geopera_server.kernel.pipeline import Call, Kernel
from geopera_server.kernel.principal import service
from geopera_server.kernel.registry import Registry
from geopera_server.ports.payments import ProcessorError
from geopera_server.values.clock import now

logger = logging.getLogger(__name__)

AT_ONCE = 50


async def look_after_charges(kernel: Kernel, registry: Registry) -> int:
    """Resolves the charges that are due to be looked at, each in a call of its own, and returns how many they were."""
    async with kernel.pool.connection() as conn:
        due = await topups.to_look_at(conn, now(), limit=AT_ONCE)
    for row in due:
        call = Call(
            operation=registry.get("billing.payments.resolve"),
            given={"topup_id": row["id"]},
            principal=service(organization_id=row["organization_id"]),
        )
        try:
            await kernel.run(call)
        except Unavailable as error:
            logger.warning("charge %s is looked at again later: %s", row["id"], error)
        except (OperationError, ProcessorError):
            logger.exception("charge %s could not be resolved", row["id"])
    return len(due)
