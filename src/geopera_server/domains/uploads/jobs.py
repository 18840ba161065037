"""What is done after uploads have ended: taking away what nobody needs of them."""

from __future__ import annotations

from geopera_server.domains.uploads.closing import ERASE
from geopera_server.kernel.jobs import JobRun, background, finish


@background(ERASE)
async def erase(run: JobRun) -> None:
    """Removes every object below the folder of a session, or of all sessions of a project, that is no more."""
    await run.kernel.ports.store.delete_folder(run.payload["folder"])
    async with run.kernel.pool.connection() as conn:
        await finish(conn, run.id, run.attempt)
