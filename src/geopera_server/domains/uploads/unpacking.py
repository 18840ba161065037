"""Brings files that lie in storage together in a folder of this process, and has them inspected there."""

from __future__ import annotations

import asyncio
import importlib
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geopera_server.ports.store import ObjectStore

if TYPE_CHECKING:
    from geopera_server.raster.ingest import Inspection


# Looking at a bad file may take minutes. Threads of its own, so that nothing else waits for one; more would only share the
# processors among their workers.
_LOOKING = ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 1), thread_name_prefix="inspect")


@asynccontextmanager
async def workplace(scratch: Path) -> AsyncIterator[Path]:
    """Lends a folder of this process's own."""
    with tempfile.TemporaryDirectory(dir=scratch, prefix=f"{os.getpid()}-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


async def brought(store: ObjectStore, files: Iterable[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Puts files side by side into a new folder under the names that they were sent with; raises ObjectMissing or OSError."""
    await asyncio.to_thread(folder.mkdir)
    paths = []
    for file in files:
        path = folder / file["file_name"]
        await store.fetch(file["stored_path"], path)
        paths.append(path)
    return paths


async def loaded() -> None:
    """Loads what reads rasters off the loop, so that no other call waits for it; it takes a while the first time."""
    await asyncio.to_thread(importlib.import_module, "geopera_server.raster.ingest")


async def inspected(
    paths: Sequence[Path],
    *,
    given: Mapping[str, Any],
    is_categorical: bool,
    scratch: Path,
    should_stop: Callable[[], bool] | None = None,
) -> Inspection:
    """Returns what files are that belong together; `given` may hold epsg and variable. Raises IngestRefused or WriteFailed.

    Cancelling it ends the process that looks at them.
    """
    left = threading.Event()

    def inspection() -> Inspection:
        from geopera_server.raster import ingest  # noqa: PLC0415

        return ingest.inspect(
            paths,
            given_epsg=given.get("epsg"),
            variable=given.get("variable"),
            is_categorical=is_categorical,
            scratch=scratch,
            should_stop=lambda: left.is_set() or (should_stop is not None and should_stop()),
        )

    try:
        return await asyncio.get_running_loop().run_in_executor(_LOOKING, inspection)
    finally:
        left.set()
