"""What is done after uploads have ended: turning rasters into COGs, and taking away what nobody needs of them.

Each converted file is registered in a transaction of its own, so an attempt that is killed is taken up behind the last one.
Results lie under the number of the attempt: a worker that lost its lease can overwrite nothing that was registered.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg

from geopera_server.db.pool import Row
from geopera_server.domains.uploads import rules
from geopera_server.domains.uploads.access import locked_upload
from geopera_server.domains.uploads.closing import ERASE, PROCESS
from geopera_server.domains.uploads.describing import as_converted
from geopera_server.domains.uploads.operations.processing import fail_processing, finish_processing, replace
from geopera_server.domains.uploads.store import files
from geopera_server.domains.uploads.unpacking import brought, inspected, workplace
from geopera_server.kernel.crashing import crash_point
from geopera_server.kernel.errors import NotFound, OperationError, Unavailable
from geopera_server.kernel.jobs import JobRun, LeaseLost, TryAgain, background, finish
from geopera_server.kernel.operation import Handler, operation_of
from geopera_server.kernel.pipeline import Call
from geopera_server.kernel.principal import service
from geopera_server.ports.store import ObjectMissing, StoreFull
from geopera_server.raster import ingest
from geopera_server.raster.errors import RasterError, Stopped, WriteFailed
from geopera_server.raster.info import CogInfo
from geopera_server.raster.ingest import Inspection

logger = logging.getLogger(__name__)

# Nothing about these is wrong with the file: the same attempt may succeed later.
_PASSING = (StoreFull, WriteFailed, OSError)
# These are the worker's business and not the file's.
_OURS = (LeaseLost, TryAgain, psycopg.Error, Unavailable, asyncio.CancelledError)
_GAVE_UP = "The file could not be made a Cloud Optimized GeoTIFF; it is kept as it came."


@background(ERASE)
async def erase(run: JobRun) -> None:
    """Removes every object below the folder of a session, or of all sessions of a project, that is no more."""
    await run.kernel.ports.store.delete_folder(run.payload["folder"])
    async with run.kernel.pool.connection() as conn:
        await finish(conn, run.id, run.attempt)


@background(PROCESS)
async def process(run: JobRun) -> None:
    """Brings the item of a completed session into the form that maps are made of; safe to run again after any interruption."""
    crash_point("upload-processing")
    try:
        upload, known, assets = await _what_is_left(run)
    except NotFound:
        await _finish(run)
        return
    if run.failures >= run.max_attempts:
        # The last chance ended without a word: whatever it is kills the worker, and would do so for ever.
        await _fail(run, _GAVE_UP)
        return
    try:
        left = [asset for asset in assets if asset["is_cog"] is False]
        for number, asset in enumerate(left):
            await _convert(run, upload, [file for file in known if file["asset_id"] == asset["id"]], asset, number, len(left))
            crash_point("upload-result-committed")
        await _tidy(run, upload)
        await _operate(run, finish_processing, {})
    except Stopped as error:
        raise LeaseLost("This job was given to another worker.") from error
    except _OURS:
        raise
    except NotFound:
        # The item was deleted meanwhile; its files go with it.
        await _finish(run)
    except Exception as error:  # noqa: BLE001  (whatever it is, the work has to come to an end)
        await _failed(run, upload, known, error)
    crash_point("upload-finished")


async def _what_is_left(run: JobRun) -> tuple[Row, list[Row], list[Row]]:
    """Returns the session, its files, and the assets that they have become; raises NotFound when the session is gone."""
    async with run.kernel.pool.connection() as conn:
        upload = await locked_upload(conn, run.organization_id, run.entity_id)
        known = await files.files_of(conn, run.organization_id, run.entity_id)
        return upload, known, await files.live_assets(conn, run.organization_id, run.entity_id)


async def _convert(run: JobRun, upload: Row, group: Sequence[Row], asset: Row, number: int, count: int) -> None:
    """Makes one raster a COG, stores it, and registers it in the place of the file that came."""
    ports = run.kernel.ports
    async with workplace(ports.scratch) as scratch:
        try:
            paths = await brought(ports.store, group, scratch / "in")
        except ObjectMissing as error:
            raise RasterError("The file that came is not in storage any more.") from error
        found = await inspected(
            paths,
            given=run.payload,
            is_categorical=upload["is_categorical"],
            scratch=scratch,
            should_stop=run.lost.is_set,
        )
        destination = scratch / "out.tif"
        info = await asyncio.to_thread(_made, run, found, destination, number, count)
        crash_point("upload-converted")
        name = rules.plain_name(f"{Path(asset['file_name']).stem}.tif")
        path = f"{rules.processed_prefix(upload)}{run.attempt}/{number:02d}-{name}"
        await ports.store.put_file(path, destination)
    crash_point("upload-result-stored")
    try:
        await _operate(run, replace, {"asset_id": asset["id"], "asset": as_converted(info, path, asset["file_name"])})
    except OperationError:
        await ports.store.delete(path)
        raise


def _made(run: JobRun, found: Inspection, destination: Path, number: int, count: int) -> CogInfo:
    return ingest.convert(
        found,
        destination,
        progress=lambda share: run.progress((number + share) / count),
        should_stop=run.lost.is_set,
    )


async def _tidy(run: JobRun, upload: Row, *, keep: Iterable[Row] = ()) -> None:
    """Removes what came and what attempts have left, but not what the item's assets name, nor the files to keep."""
    async with run.kernel.pool.connection() as conn:
        named = await files.paths_of_item(conn, run.organization_id, upload["item_id"])
    kept = named | {file["stored_path"] for file in keep}
    await run.kernel.ports.store.delete_folder(rules.folder_of(upload), keep=kept)


async def _operate(run: JobRun, handler: Handler, given: Mapping[str, Any]) -> None:
    about = {"upload_id": run.entity_id, "job_id": run.id, "attempt": run.attempt}
    principal = service(organization_id=run.organization_id)
    await run.kernel.run(Call(operation=operation_of(handler), given={**about, **given}, principal=principal))


async def _finish(run: JobRun) -> None:
    async with run.kernel.pool.connection() as conn:
        await finish(conn, run.id, run.attempt)


async def _failed(run: JobRun, upload: Row, known: Sequence[Row], error: Exception) -> None:
    """Puts the job back for what may pass, and ends the work for what will not, or has not for too long."""
    if not run.last_chance:
        if isinstance(error, _PASSING):
            raise TryAgain(str(error)) from error
        if not isinstance(error, RasterError):
            raise error
    logger.warning("upload %s cannot be processed: %s", run.entity_id, error, exc_info=not isinstance(error, RasterError))
    # A world file may be all that says where a picture lies that could not be converted.
    await _tidy(run, upload, keep=known)
    await _fail(run, _reason(error))


async def _fail(run: JobRun, reason: str) -> None:
    await _operate(run, fail_processing, {"step": "converting", "reason": reason})


def _reason(error: Exception) -> str:
    if isinstance(error, StoreFull) or getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT}:
        return "The server has no room to convert the file; it is kept as it came."
    return str(error) if isinstance(error, RasterError) else _GAVE_UP
