"""Cuts the imagery of one capture to its AOI and stores it; says nothing of orders' states or money.

Files are stored under the attempt that made them: a worker that lost its lease can overwrite nothing that was registered.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from geopera_server.db.pool import Row
from geopera_server.domains.catalog.captures import FoundCapture
from geopera_server.domains.catalog.lookup import host_address
from geopera_server.domains.orders import rules
from geopera_server.domains.orders.sources import checked_source
from geopera_server.kernel.crashing import crash_point
from geopera_server.kernel.jobs import JobRun
from geopera_server.raster.clip import clip_to_cog
from geopera_server.raster.info import CogInfo


async def cut_capture(run: JobRun, order: Row, capture: Row, *, share_done: float, share: float) -> list[dict[str, Any]]:
    """Cuts and stores every imagery asset of one capture and returns what to register; when it fails nothing stays stored.

    Raises RasterError, StoreFull or OSError.
    """
    found = FoundCapture.from_json(capture["found"])
    # What attempts that were interrupted had stored and nobody registered.
    await forget_attempts(run, order, capture, before=run.attempt)
    paths = _paths(order, capture, found, run.attempt)
    try:
        return await _cut_all(run, capture, found, paths, share_done=share_done, share=share)
    except BaseException:
        await forget(run, paths.values())
        raise


async def forget_attempts(run: JobRun, order: Row, capture: Row, *, before: int | None = None) -> None:
    """Removes what earlier attempts at a capture that is not registered have stored."""
    found = FoundCapture.from_json(capture["found"])
    for attempt in range(1, before or run.attempt + 1):
        await forget(run, _paths(order, capture, found, attempt).values())


def _paths(order: Row, capture: Row, found: FoundCapture, attempt: int) -> dict[str, str]:
    folder = f"projects/{order['project_id']}/orders/{order['id']}/{capture['position']}/{attempt}"
    return {
        key: f"{folder}/{number:02d}-{safe_name(key)}.tif" for number, key in enumerate(rules.deliverable_assets(found.assets))
    }


async def _cut_all(
    run: JobRun, capture: Row, found: FoundCapture, paths: Mapping[str, str], *, share_done: float, share: float
) -> list[dict[str, Any]]:
    ports = run.kernel.ports
    async with run.kernel.pool.connection() as conn:
        host_url = await host_address(conn, found.host)
    # A catalogue on a private network has its files beside it; no other catalogue makes us look there.
    way = ports.addresses.way_to_public(known_host=host_url and urlsplit(host_url).hostname)
    assets = []
    with tempfile.TemporaryDirectory(dir=ports.scratch, prefix=f"{os.getpid()}-", ignore_cleanup_errors=True) as scratch:
        for number, (key, path) in enumerate(paths.items()):

            def progress(part: float, number: int = number) -> None:
                run.progress(share_done + share * (number + part) / len(paths))

            asset = found.assets[key]
            href = checked_source(asset["href"], roots=ports.source_roots)
            file = Path(scratch) / f"{number}.tif"
            info = await asyncio.to_thread(
                clip_to_cog,
                href,
                file,
                aoi=capture["aoi"],
                band_names=band_names(asset),
                way=way,
                progress=progress,
                should_stop=run.lost.is_set,
            )
            crash_point("clip-written")
            await ports.store.put_file(path, file)
            crash_point("object-stored")
            file.unlink()
            assets.append(_as_asset(found, key, asset, path, info))
    return assets


async def forget(run: JobRun, paths: Iterable[str]) -> None:
    """Removes stored files that nobody has registered."""
    for path in paths:
        await run.kernel.ports.store.delete(path)


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
