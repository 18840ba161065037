"""Asks one source one question: from the cache while it is fresh, then the host, then whatever we still know.

A host that does not answer is stood in for by its last answer to the same question, or by our own copies of its scenes where
an operator has imported them. Both are marked stale.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import orjson

from geopera_server.db.pool import Row
from geopera_server.domains.catalog import store
from geopera_server.domains.catalog.rules import query_key
from geopera_server.domains.catalog.sources import Source
from geopera_server.kernel.context import Outside
from geopera_server.kernel.stac import Item
from geopera_server.ports.host import HostFailed, HostPage, HostQuery
from geopera_server.values.encoding import dumps

FRESH_FOR = timedelta(minutes=10)
_MIRRORED = "mirror:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One page of a source's items, newest first."""

    items: Sequence[Item]
    cursor: str | None = None
    matched: int | None = None
    stale: bool = False


async def ask(outside: Outside, source: Source, query: HostQuery) -> Answer:
    """Returns the source's answer; raises HostFailed when neither the host nor anything we know gives one."""
    if not source.has_own_search:
        return _answer(await outside.ports.host_for(source.route).search(query))
    if query.cursor is not None and query.cursor.startswith(_MIRRORED):
        return await _from_mirror(outside, source, query)
    key = query_key(query)
    async with outside.connection() as conn:
        kept = (await store.replies_of(conn, source.id, [key])).get(key)
    if kept is not None and is_fresh(kept, outside.now):
        return unpacked(kept)
    try:
        page = await outside.ports.host_for(source.route).search(query)
    except HostFailed as failure:
        return await _stand_in(outside, source, query, kept, failure)
    async with outside.connection() as conn:
        await store.keep_replies(conn, source.id, {key: packed(page)}, outside.now)
    return _answer(page)


async def _stand_in(outside: Outside, source: Source, query: HostQuery, kept: Row | None, failure: HostFailed) -> Answer:
    if kept is not None:
        return replace(unpacked(kept), stale=True)
    if failure.refused or query.cursor is not None or not await is_mirrored(outside, source):
        raise failure
    return await _from_mirror(outside, source, query)


async def is_mirrored(outside: Outside, source: Source) -> bool:
    """Says whether we hold copies of this source's scenes."""
    async with outside.connection() as conn:
        return await store.has_scenes(conn, source.id)


async def _from_mirror(outside: Outside, source: Source, query: HostQuery) -> Answer:
    inner = None if query.cursor is None else query.cursor.removeprefix(_MIRRORED)
    page = await outside.ports.host_for(source.mirror_route).search(replace(query, cursor=inner))
    cursor = None if page.cursor is None else _MIRRORED + page.cursor
    # How many the host itself has is not known.
    return replace(_answer(page), cursor=cursor, matched=None, stale=True)


def _answer(page: HostPage) -> Answer:
    return Answer(items=page.features, cursor=page.cursor, matched=page.matched)


def is_fresh(kept: Row, now: datetime) -> bool:
    """Says whether a kept reply may stand for the host."""
    return bool(now - kept["fetched_at"] <= FRESH_FOR)


def packed(page: HostPage) -> bytes:
    """Returns a page as compressed JSON."""
    return zlib.compress(dumps([list(page.features), page.cursor, page.matched]), 1)


def unpacked(kept: Row) -> Answer:
    """Returns the answer that a kept reply holds."""
    items, cursor, matched = orjson.loads(zlib.decompress(kept["reply"]))
    return Answer(items=items, cursor=cursor, matched=matched)
