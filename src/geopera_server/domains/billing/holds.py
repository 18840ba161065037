"""Credits that a job has reserved and that nobody has settled or released, though the job is over.

Whoever runs jobs with holds says here how they stand: a domain registers one `HeldJobs` for its own jobs when it is loaded.
A job that nobody knows never was, or is gone for good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from geopera_server.db.pool import Connection
from geopera_server.domains.billing.store import holds
from geopera_server.kernel.context import Context

JobEnd = Literal["running", "completed", "failed", "cancelled"]


class HeldJobs(Protocol):
    """The jobs of one domain that reserve credits."""

    async def ends(self, conn: Connection, job_ids: Sequence[str]) -> Mapping[str, JobEnd]:
        """Returns how each of its own jobs among these stands; those of others are left out."""
        ...

    async def settle(self, ctx: Context, job_id: str) -> int:
        """Registers what a completed job made and settles its hold; returns how many items that were."""
        ...


_SOURCES: list[HeldJobs] = []


def register(source: HeldJobs) -> None:
    """Adds the jobs of a domain; those registered last are asked first."""
    if source not in _SOURCES:
        _SOURCES.insert(0, source)


async def standing_of(conn: Connection, job_id: str) -> tuple[JobEnd, HeldJobs | None]:
    """Returns how a job stands and who can settle it.

    Plain background work that is done has nothing to register, and a job that nobody knows never was: both have failed, which
    gives back what they left reserved.
    """
    for source in _SOURCES:
        end = (await source.ends(conn, [job_id])).get(job_id)
        if end is not None:
            return end, source
    return "running" if await holds.is_under_way(conn, job_id) else "failed", None
