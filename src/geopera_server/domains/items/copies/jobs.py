"""Removing copies that nothing came to name."""

from __future__ import annotations

from geopera_server.domains.items.copies.storing import FORGET_COPIES
from geopera_server.domains.items.store import copies as store
from geopera_server.kernel.jobs import JobRun, TryAgain, background, finish


@background(FORGET_COPIES)
async def forget_copies(run: JobRun) -> None:
    """Removes those copies that no asset names; a job that was taken can not be called off any more, so none will."""
    async with run.kernel.pool.connection() as conn:
        named = await store.named_paths(conn, run.payload["paths"])
    for path in run.payload["paths"]:
        if path not in named:
            try:
                await run.kernel.ports.store.delete(path)
            except OSError as error:
                raise TryAgain(f"{path} could not be removed: {error}") from error
    async with run.kernel.pool.connection() as conn:
        await finish(conn, run.id, run.attempt)
