"""A federated search whose answers go out as the sources give them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from geopera_server.domains.catalog.features import Feature
from geopera_server.domains.catalog.federation import Plan, trouble_of
from geopera_server.domains.catalog.merging import Stream as SourceStream
from geopera_server.domains.catalog.merging import merge
from geopera_server.values.encoding import dumps

logger = logging.getLogger(__name__)

NDJSON = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"
ENDS_AFTER_S = 60.0
FEATURES_AT_ONCE = 100

Told = dict[str, Any]


def as_lines(told: Told) -> bytes:
    """Returns one object as a line of newline-delimited JSON."""
    return dumps(told) + b"\n"


def as_events(told: Told) -> bytes:
    """Returns one object as a server-sent event of its own type."""
    return b"event: %s\ndata: %s\n\n" % (str(told["event"]).encode(), dumps(told))


async def progress(
    plan: Plan, streams: Sequence[SourceStream], *, ends_after_s: float = ENDS_AFTER_S
) -> AsyncGenerator[Told, None]:
    """Yields what happens while the sources are asked side by side, and at last what became of each.

    Each source gives at most the plan's limit; a scene that several have is told of once. Sources that have not answered when
    the time is over are told as such. Closing the iterator ends the asking.
    """
    queue: asyncio.Queue[Told] = asyncio.Queue()
    known: set[str] = set(plan.seen)
    asking = {asyncio.create_task(_ask(stream, plan, known, queue)): stream for stream in streams}
    ends_at = time.monotonic() + ends_after_s
    try:
        for stream in streams:
            yield {"event": "source_started", "source_id": stream.source.id, "title": stream.source.title}
        open_sources = len(streams)
        summaries: dict[str, Told] = {}
        while open_sources:
            try:
                async with asyncio.timeout(max(0.0, ends_at - time.monotonic())):
                    told = await queue.get()
            except TimeoutError:
                break
            yield told
            if told["event"] == "source_completed":
                summaries[told["source_id"]] = told
                open_sources -= 1
        for stream in streams:
            if stream.source.id not in summaries:
                late = _completed(stream, "did not answer in time")
                summaries[stream.source.id] = late
                yield late
        yield _done(streams, summaries)
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def _ask(stream: SourceStream, plan: Plan, known: set[str], queue: asyncio.Queue[Told]) -> None:
    """Puts a source's features and its end into the queue; a defect of ours ends that source alone, and is told."""
    try:
        features = await merge([stream], plan.limit, (), lambda each: plan.full_catalog or each.orderable)
    except Exception:
        logger.exception("source %s could not be read", stream.source.id)
        await queue.put({"event": "error", "source_id": stream.source.id, "detail": "This source could not be read."})
        await queue.put(_completed(stream, "could not be read"))
        return
    fresh = [each for each in features if not _is_known(each, known)]
    stream.count = len(fresh)
    for start in range(0, len(fresh), FEATURES_AT_ONCE):
        bodies = [each.body for each in fresh[start : start + FEATURES_AT_ONCE]]
        await queue.put({"event": "features", "source_id": stream.source.id, "features": bodies})
    await queue.put(_completed(stream, trouble_of(stream)))


def _is_known(feature: Feature, known: set[str]) -> bool:
    if feature.id in known:
        return True
    known.add(feature.id)
    return False


def _completed(stream: SourceStream, error: str | None) -> Told:
    told: Told = {"event": "source_completed", "source_id": stream.source.id, "count": stream.count}
    return told if error is None else {**told, "error": error}


def _done(streams: Sequence[SourceStream], summaries: Mapping[str, Told]) -> Told:
    sources = [
        {
            "source_id": stream.source.id,
            "title": stream.source.title,
            "count": summaries[stream.source.id]["count"],
            "error": summaries[stream.source.id].get("error"),
        }
        for stream in streams
    ]
    return {"event": "done", "numberReturned": sum(each["count"] for each in sources), "sources": sources}
