"""Ends sessions that nobody goes on with; run every minute in the background."""

from __future__ import annotations

import logging

from geopera_server.domains.uploads.operations.stepping import expire
from geopera_server.domains.uploads.store import sessions
from geopera_server.kernel.errors import OperationError
from geopera_server.kernel.operation import operation_of
from geopera_server.kernel.pipeline import Call, Kernel
from geopera_server.kernel.principal import service
from geopera_server.values.clock import now

logger = logging.getLogger(__name__)

AT_ONCE = 100


async def expire_idle_uploads(kernel: Kernel) -> int:
    """Fails the open sessions that have been idle for too long, each in a call of its own, and returns how many were due."""
    async with kernel.pool.connection() as conn:
        due = await sessions.idle_uploads(conn, now(), limit=AT_ONCE)
    for row in due:
        principal = service(organization_id=row["organization_id"])
        try:
            await kernel.run(Call(operation=operation_of(expire), given={"upload_id": row["id"]}, principal=principal))
        except OperationError:
            logger.exception("the idle upload %s could not be ended", row["id"])
    return len(due)
