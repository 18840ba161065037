"""Removing objects that a call has given up, once it has committed."""

from __future__ import annotations

from collections.abc import Sequence

from geopera_server.domains.items.erasing import ERASE
from geopera_server.domains.items.store import erasing as store
from geopera_server.kernel.jobs import JobRun, background, finish, progressed

AT_ONCE = 200


@background(ERASE)
async def erase(run: JobRun) -> None:
    """Removes the objects of a call, or a folder whose project is no more; safe to run again after any interruption.

    What was asked for and could not be done in all attempts stays noted, and is tried again by the daily purge.
    """
    if folder := run.payload.get("folder"):
        await _erase_folder(run, folder)
    while paths := await _some(run):
        await _erase(run, paths)
    async with run.kernel.pool.connection() as conn:
        await finish(conn, run.id, run.attempt)


async def _some(run: JobRun) -> list[str]:
    async with run.kernel.pool.connection() as conn:
        return await store.given_up_by(conn, run.organization_id, run.entity_id, AT_ONCE)


async def _erase(run: JobRun, paths: Sequence[str]) -> None:
    async with run.kernel.pool.connection() as conn:
        kept = await store.still_named(conn, paths)
    for path in paths:
        if path not in kept:
            await run.kernel.ports.store.delete(path)
    async with run.kernel.pool.connection() as conn:
        await store.forget_given_up(conn, run.organization_id, paths)
        await progressed(conn, run.id, run.attempt)


async def _erase_folder(run: JobRun, folder: str) -> None:
    """Removes every object below a folder that no asset names; an asset of another project may lie there."""
    found = [each.path async for each in run.kernel.ports.store.list(folder)]
    kept: set[str] = set()
    async with run.kernel.pool.connection() as conn:
        for start in range(0, len(found), AT_ONCE):
            kept |= await store.still_named(conn, found[start : start + AT_ONCE])
    await run.kernel.ports.store.delete_folder(folder, keep=kept)
