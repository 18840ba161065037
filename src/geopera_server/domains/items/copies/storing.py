"""Copying the files of an item outside any transaction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from geopera_server.kernel.context import Outside
from geopera_server.kernel.crashing import crash_point
from geopera_server.kernel.errors import Conflict, NotFound, Unavailable
from geopera_server.kernel.jobs import hasten, postpone
from geopera_server.ports.store import ObjectMissing, StoreFull
from geopera_server.values.clock import now

FORGET_COPIES = "items.copies.forget"
ONE_COPY_WITHIN = timedelta(hours=1)
NAMED_WITHIN = timedelta(minutes=2)


async def store_copies(outside: Outside, item_id: str, paths: Mapping[str, str]) -> None:
    """Stores objects once more, by path of the copy the path of the original, for an item to be.

    The job that removes them is queued already. Raises NotFound for an original that is missing, Unavailable when there is no
    room, Conflict when it took too long; nothing stays stored then.
    """
    try:
        for path, original in paths.items():
            await outside.ports.store.copy(original, path)
            crash_point("copy-stored")
            await _keep(outside, item_id, ONE_COPY_WITHIN)
        await _keep(outside, item_id, NAMED_WITHIN)
    except BaseException as error:
        await _forget(outside, item_id, paths)
        if isinstance(error, ObjectMissing):
            raise NotFound(
                "file", detail="A file of this item is missing in storage. Ask the operator of this server to look for it."
            ) from error
        if isinstance(error, StoreFull):
            raise Unavailable(
                "The server has no room for the copy. Try again later.", code="worker_unavailable", retry_after_s=600
            ) from error
        raise
    crash_point("copies-stored")


async def _keep(outside: Outside, item_id: str, span: timedelta) -> None:
    """Lets the copies be for some more time."""
    async with outside.connection() as conn:
        if not await postpone(conn, FORGET_COPIES, item_id, now() + span):
            raise took_too_long()


async def _forget(outside: Outside, item_id: str, paths: Mapping[str, str]) -> None:
    for path in paths:
        await outside.ports.store.delete(path)
    async with outside.connection() as conn:
        await hasten(conn, FORGET_COPIES, item_id)


def took_too_long() -> Conflict:
    """Returns what a call is refused with whose copies were removed before anything named them."""
    return Conflict(
        "Copying took too long and was given up. Send the same request again.", code="resource_busy", retry_after_s=5
    )
