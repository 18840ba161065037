"""Delivering an order: cut each source asset to the AOI, store it as a COG, register it, settle, go on with the next.

Every capture is one transaction of its own (operations/delivering.py), so an attempt that is killed is taken up where the
last capture was registered.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import psycopg

from geopera_server.db.pool import Row
from geopera_server.domains.orders import store
from geopera_server.domains.orders.cutting import cut_capture, forget, forget_attempts
from geopera_server.domains.orders.operations.delivering import IN_PROGRESS, fail, register
from geopera_server.domains.orders.operations.reading import FULFIL
from geopera_server.kernel.crashing import crash_point
from geopera_server.kernel.errors import Conflict, Unavailable
from geopera_server.kernel.jobs import JobRun, LeaseLost, TryAgain, background, finish
from geopera_server.kernel.operation import Handler, operation_of
from geopera_server.kernel.pipeline import Call
from geopera_server.kernel.principal import service
from geopera_server.ports.store import StoreFull
from geopera_server.raster.errors import RasterError, SourceError, SourceUnreachable, Stopped, WriteFailed

logger = logging.getLogger(__name__)

# Nothing about these is wrong with the order: the same attempt may succeed later.
_PASSING = (SourceUnreachable, StoreFull, WriteFailed, OSError)
# These are the worker's business and not the order's.
_OURS = (LeaseLost, TryAgain, psycopg.Error, Unavailable)


@background(FULFIL)
async def fulfil(run: JobRun) -> None:
    """Delivers what an order still lacks; safe to run again after any interruption."""
    crash_point("job-claimed")
    order, captures = await _what_is_left(run)
    if order is None or order["status"] not in IN_PROGRESS:
        await _finish(run)
        return
    left = [capture for capture in captures if capture["delivered_at"] is None]
    if run.failures >= run.max_attempts:
        # The last chance ended without a word: whatever it is kills the worker, and would do so for ever.
        await forget_attempts(run, order, left[0])
        await _fail(run, left[0], "The delivery could not be made.")
        return
    for done, capture in enumerate(left, start=len(captures) - len(left)):
        try:
            assets = await cut_capture(run, order, capture, share_done=done / len(captures), share=1 / len(captures))
            await _register(run, capture, assets)
        except Stopped as error:
            raise LeaseLost("This job was given to another worker.") from error
        except _OURS:
            raise
        except Exception as error:  # noqa: BLE001  (whatever it is, the order has to come to an end)
            await _failed(run, capture, error)
            return
        crash_point("delivery-committed")


async def _what_is_left(run: JobRun) -> tuple[Row | None, list[Row]]:
    async with run.kernel.pool.connection() as conn:
        order = await store.order_of(conn, run.organization_id, run.entity_id)
        return order, await store.captures_of(conn, run.organization_id, run.entity_id)


async def _finish(run: JobRun) -> None:
    async with run.kernel.pool.connection() as conn:
        await finish(conn, run.id, run.attempt)


async def _register(run: JobRun, capture: Row, assets: list[dict[str, Any]]) -> None:
    """Registers what was stored; what is refused for good, as when the order was cancelled meanwhile, is removed again."""
    try:
        await _operate(run, register, {"position": capture["position"], "assets": assets})
    except LeaseLost:
        await forget(run, [asset["href"] for asset in assets])
        raise


async def _operate(run: JobRun, handler: Handler, given: Mapping[str, Any]) -> None:
    """Runs one of the worker's operations for the order's organization; an order that has ended meanwhile ends the attempt."""
    about = {"order_id": run.entity_id, "job_id": run.id, "attempt": run.attempt}
    principal = service(organization_id=run.organization_id)
    try:
        await run.kernel.run(Call(operation=operation_of(handler), given={**about, **given}, principal=principal))
    except Conflict as error:
        if error.code == "illegal_state":
            raise LeaseLost(error.detail) from error
        raise


async def _failed(run: JobRun, capture: Row, error: Exception) -> None:
    """Puts the job back for what may pass, and ends the order for what will not, or has not for too long."""
    if not run.last_chance:
        if isinstance(error, _PASSING):
            raise TryAgain(str(error)) from error
        if not isinstance(error, RasterError):
            raise error
    logger.warning("order %s cannot be delivered: %s", run.entity_id, error, exc_info=not isinstance(error, RasterError))
    await _fail(run, capture, _reason(error))


async def _fail(run: JobRun, capture: Row, reason: str) -> None:
    details = {"captureId": capture["capture_id"], "host": capture["host"], "attempts": run.attempt}
    reason = f"{reason} Nothing was charged for what is missing."
    await _operate(run, fail, {"reason": reason, "details": details})


def _reason(error: Exception) -> str:
    if isinstance(error, StoreFull) or getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT}:
        return "The server has no room to store the delivery; order again later."
    if isinstance(error, SourceError):
        # Customers are told which file, not where it lies.
        return f"{PurePosixPath(urlsplit(error.href).path).name or 'A source file'} {error.reason}."
    if isinstance(error, RasterError):
        return str(error)
    return "The delivery could not be made; order again later."
