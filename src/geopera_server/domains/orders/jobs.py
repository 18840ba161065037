"""Delivering an order: cut each source asset to the AOI, store it as a COG, register it, settle, go on with the next.

Every capture is one transaction of its own (operations/delivering.py), so an attempt that is killed is taken up where the
last capture was registered. Files are stored under the attempt that made them: a worker that lost its lease can overwrite
nothing that was registered.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geopera_server.db.pool import Row
from geopera_server.domains.catalog.captures import FoundCapture
from geopera_server.domains.orders import rules, store
from geopera_server.domains.orders.operations.delivering import IN_PROGRESS, fail, register
from geopera_server.domains.orders.operations.reading import FULFIL
from geopera_server.domains.orders.sources import checked_source
from geopera_server.kernel.crashing import crash_point
from geopera_server.kernel.errors import Conflict
from geopera_server.kernel.jobs import JobRun, LeaseLost, TryAgain, background, finish
from geopera_server.kernel.operation import Handler, operation_of
from geopera_server.kernel.pipeline import Call
from geopera_server.kernel.principal import service
from geopera_server.ports.store import StoreFull
from geopera_server.raster.clip import clip_to_cog
from geopera_server.raster.errors import RasterError, SourceUnreachable, Stopped, WriteFailed
from geopera_server.raster.info import CogInfo

logger = logging.getLogger(__name__)

# Nothing about these is wrong with the order: the same attempt may succeed later.
_PASSING = (SourceUnreachable, StoreFull, WriteFailed, OSError)


@background(FULFIL)
async def fulfil(run: JobRun) -> None:
    """Delivers what an order still lacks; safe to run again after any interruption."""
    crash_point("job-claimed")
    order, captures = await _what_is_left(run)
    if order is None or order["status"] not in IN_PROGRESS:
        await _finish(run)
        return
    left = [capture for capture in captures if capture["delivered_at"] is None]
    for done, capture in enumerate(left, start=len(captures) - len(left)):
        try:
            assets = await _deliver(run, order, capture, share_done=done / len(captures), share=1 / len(captures))
        except Stopped as error:
            raise LeaseLost("This job was given to another worker.") from error
        except (RasterError, StoreFull, OSError) as error:
            await _failed(run, capture, error)
            return
        await _register(run, capture, assets)
        crash_point("delivery-committed")


async def _what_is_left(run: JobRun) -> tuple[Row | None, list[Row]]:
    async with run.kernel.pool.connection() as conn:
        order = await store.order_of(conn, run.organization_id, run.entity_id)
        return order, await store.captures_of(conn, run.organization_id, run.entity_id)


async def _finish(run: JobRun) -> None:
    async with run.kernel.pool.connection() as conn:
        await finish(conn, run.id, run.attempt)


async def _deliver(run: JobRun, order: Row, capture: Row, *, share_done: float, share: float) -> list[dict[str, Any]]:
    """Cuts and stores every imagery asset of one capture and returns what to register."""
    found = FoundCapture.from_json(capture["found"])
    wanted = rules.deliverable_assets(found.assets)
    host_url = await _host_url(run, found.host)
    ports = run.kernel.ports
    folder = f"projects/{order['project_id']}/orders/{order['id']}/{capture['position']}"
    await _forget_earlier_attempts(run, folder, list(wanted))
    assets = []
    with tempfile.TemporaryDirectory(dir=ports.scratch, prefix=f"{order['id']}-") as scratch:
        for number, (key, asset) in enumerate(wanted.items()):

            def progress(part: float, number: int = number) -> None:
                run.progress(share_done + share * (number + part) / len(wanted))

            href = await checked_source(asset["href"], roots=ports.source_roots, host_url=host_url)
            file = Path(scratch) / f"{number}.tif"
            info = await asyncio.to_thread(
                clip_to_cog,
                href,
                file,
                aoi=capture["aoi"],
                band_names=band_names(asset),
                progress=progress,
                should_stop=run.lost.is_set,
            )
            crash_point("clip-written")
            path = f"{folder}/{run.attempt}/{safe_name(key)}.tif"
            await ports.store.put_file(path, file)
            crash_point("object-stored")
            file.unlink()
            assets.append(_as_asset(found, key, asset, path, info))
    return assets


async def _host_url(run: JobRun, host: str) -> str | None:
    async with run.kernel.pool.connection() as conn:
        cursor = await conn.execute("SELECT connector ->> 'url' AS url FROM catalog_source WHERE id = %s", (host,))
        row = await cursor.fetchone()
    return None if row is None else row["url"]


async def _forget_earlier_attempts(run: JobRun, folder: str, keys: list[str]) -> None:
    """Removes what attempts that were interrupted had stored and nobody registered."""
    for attempt in range(1, run.attempt):
        for key in keys:
            await run.kernel.ports.store.delete(f"{folder}/{attempt}/{safe_name(key)}.tif")


def band_names(asset: Mapping[str, Any]) -> list[str] | None:
    """Returns the names a STAC asset gives its bands; None when it names none or only some."""
    bands = asset.get("eo:bands") or asset.get("bands") or []
    names = [band.get("name") for band in bands if isinstance(band, Mapping)]
    return [str(name) for name in names] if names and all(names) else None


def safe_name(text: str) -> str:
    """Returns a name that is a plain file name everywhere."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._")[:100] or "asset"


def _as_asset(found: FoundCapture, key: str, asset: Mapping[str, Any], path: str, info: CogInfo) -> dict[str, Any]:
    return {
        "key": key,
        "title": asset.get("title"),
        "href": path,
        "media_type": info.media_type,
        "roles": list(asset.get("roles") or ["data"]),
        "file_name": f"{safe_name(found.id)}_{safe_name(key)}.tif",
        "file_size_bytes": info.size_bytes,
        "checksum": f"sha256:{info.sha256}",
        "band_names": list(info.band_names),
        "band_count": info.band_count,
        "dtype": info.dtype,
        "nodata": info.nodata,
        "epsg": info.epsg,
        "width": info.width,
        "height": info.height,
        "gsd": info.gsd_m,
        "is_cog": True,
        "statistics": list(info.statistics),
        "raster": {
            "transform": info.transform,
            "wkt2": info.wkt2,
            "bbox": info.bbox_wgs84,
            "footprint": info.footprint_wgs84,
            "nodata": info.nodata,
        },
    }


async def _register(run: JobRun, capture: Row, assets: list[dict[str, Any]]) -> None:
    await _operate(run, register, {"position": capture["position"], "assets": assets})


async def _operate(run: JobRun, handler: Handler, given: Mapping[str, Any]) -> None:
    """Runs one of the worker's operations for the order's organization; an order that has ended meanwhile ends the job."""
    about = {"order_id": run.entity_id, "job_id": run.id, "attempt": run.attempt}
    principal = service(organization_id=run.organization_id)
    try:
        await run.kernel.run(Call(operation=operation_of(handler), given={**about, **given}, principal=principal))
    except LeaseLost:
        raise
    except Conflict as error:
        raise LeaseLost(error.detail) from error


async def _failed(run: JobRun, capture: Row, error: Exception) -> None:
    """Puts the job back for what may pass, and ends the order for what will not, or has not for too long."""
    if isinstance(error, _PASSING) and not run.last_chance:
        raise TryAgain(str(error)) from error
    logger.warning("order %s cannot be delivered: %s", run.entity_id, error)
    details = {"captureId": capture["capture_id"], "host": capture["host"], "attempts": run.attempt}
    await _operate(run, fail, {"reason": _reason(error), "details": details})


def _reason(error: Exception) -> str:
    if isinstance(error, StoreFull) or getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT}:
        return "The server has no room to store the delivery. Nothing was charged for what is missing; order again later."
    if isinstance(error, RasterError):
        return f"{error} Nothing was charged for what is missing."
    return "The delivery could not be written. Nothing was charged for what is missing; order again later."
