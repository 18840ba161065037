"""Finds captures by id at their hosts; what orders are priced and fulfilled by."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.catalog import store
from geopera_server.domains.catalog.asking import ask, is_fresh, packed, unpacked
from geopera_server.domains.catalog.captures import CaptureProblem, FoundCapture, ProblemCode, WantedCapture
from geopera_server.domains.catalog.reading import read_items
from geopera_server.domains.catalog.sources import Source, means_all
from geopera_server.kernel.context import Outside
from geopera_server.ports.host import HostFailed, HostPage, HostQuery

IDS_PER_SEARCH = 100
COLLECTIONS_PER_ID = 4
"""A catalogue may have one id in several collections, such as two processing levels of a scene."""


@dataclass(slots=True)
class Told:
    """What a host has under each id, and why it could not say it of others; an id in neither is not there."""

    captures: dict[str, list[FoundCapture]] = field(default_factory=dict)
    failures: dict[str, HostFailed] = field(default_factory=dict)


async def find_captures(
    outside: Outside, wanted: Sequence[WantedCapture | tuple[str | None, str]], *, for_order: bool = True
) -> list[FoundCapture | CaptureProblem]:
    """Returns each wanted capture, or why it cannot be had, in the order asked for.

    Hosts are asked side by side, each once for all its captures. Without a host a capture is found when exactly one host has
    it. With `for_order`, captures that cannot be ordered are problems too. Never raises for a host.
    """
    asked = [WantedCapture(*each) for each in wanted]
    async with outside.connection() as conn:
        sources = await store.active_sources(conn)
        homeless = [each.id for each in asked if means_all(each.host, outside.links.base_url)]
        indexing = await store.hosts_indexing(conn, homeless) if homeless else set()
    meant = [_meant(sources, each.host, outside.links.base_url) for each in asked]
    ids: dict[str, set[str]] = {}
    for each, candidates in zip(asked, meant, strict=True):
        for source in candidates:
            if len(candidates) == 1 or source.has_own_search or source.id in indexing:
                ids.setdefault(source.id, set()).add(each.id)
    asking = [source for source in sources if source.id in ids]
    told = await asyncio.gather(*(_at_host(outside, source, sorted(ids[source.id])) for source in asking))
    known = {source.id: each for source, each in zip(asking, told, strict=True)}
    settled = [_settle(each, known, candidates) for each, candidates in zip(asked, meant, strict=True)]
    return [_sellable(each) for each in settled] if for_order else settled


async def hosts_offering(outside: Outside, collections: Collection[str]) -> list[str]:
    """Returns the hosts that have one of these collections, by title."""
    async with outside.connection() as conn:
        sources = await store.active_sources(conn)
    return [source.id for source in sources if any(each["id"] in collections for each in source.collections)]


async def host_address(conn: Connection, host: str) -> str | None:
    """Returns where a host's catalogue is asked; None for one that is our own index, or is gone."""
    source = await store.source_of(conn, host)
    return None if source is None else source.connector.get("url")


def _meant(sources: Sequence[Source], host: str | None, base_url: str) -> Sequence[Source]:
    if means_all(host, base_url):
        return sources
    return [source for source in sources if source.id == (host or "").strip()]


async def _at_host(outside: Outside, source: Source, ids: Sequence[str]) -> Told:
    """Asks one host for captures; what it told less than ten minutes ago is not asked again."""
    told = Told()
    kept: dict[str, Row] = {}
    if source.has_own_search:
        async with outside.connection() as conn:
            replies = await store.replies_of(conn, source.id, [_key(each) for each in ids])
        kept = {each: replies[_key(each)] for each in ids if _key(each) in replies}
    for capture_id, reply in kept.items():
        if is_fresh(reply, outside.now):
            told.captures[capture_id] = _captures(source, reply, stale=False)
    missing = [each for each in ids if each not in told.captures]
    for start in range(0, len(missing), IDS_PER_SEARCH):
        await _ask_for(outside, source, missing[start : start + IDS_PER_SEARCH], kept, told)
    return told


async def _ask_for(outside: Outside, source: Source, ids: Sequence[str], kept: Mapping[str, Row], told: Told) -> None:
    """Adds to `told` what the host says of these ids; of those it says nothing of, what it said when it last did."""
    try:
        answer = await ask(outside, source, HostQuery(ids=tuple(ids), limit=len(ids) * COLLECTIONS_PER_ID))
    except HostFailed as failure:
        _fall_back(source, ids, kept, told, failure)
        return
    for reading in read_items(source, answer.items, stale=answer.stale):
        told.captures.setdefault(reading.capture.id, []).append(reading.capture)
    if answer.stale:
        unsaid = [each for each in ids if each not in told.captures]
        _fall_back(source, unsaid, kept, told, HostFailed("It does not answer, and our mirror of it has no such capture."))
    elif source.has_own_search:
        found = [each for each in ids if each in told.captures]
        pages = {_key(each): packed(HostPage(features=[i for i in answer.items if i["id"] == each])) for each in found}
        async with outside.connection() as conn:
            await store.keep_replies(conn, source.id, pages, outside.now)


def _fall_back(source: Source, ids: Sequence[str], kept: Mapping[str, Row], told: Told, failure: HostFailed) -> None:
    for capture_id in ids:
        if capture_id in kept:
            told.captures[capture_id] = _captures(source, kept[capture_id], stale=True)
        else:
            told.failures[capture_id] = failure


def _key(capture_id: str) -> str:
    return "capture:" + hashlib.sha256(capture_id.encode()).hexdigest()


def _captures(source: Source, kept: Row, *, stale: bool) -> list[FoundCapture]:
    return [reading.capture for reading in read_items(source, unpacked(kept).items, stale=stale)]


def _settle(wanted: WantedCapture, known: Mapping[str, Told], sources: Sequence[Source]) -> FoundCapture | CaptureProblem:
    """Decides on one capture from what the hosts that may have it told."""
    choices = (_choose(known[source.id], wanted, source) for source in sources if source.id in known)
    captures = [each for each in choices if each is not None]
    failed = [source.id for source in sources if source.id in known and wanted.id in known[source.id].failures]
    if len(captures) > 1:
        hosts = ", ".join(sorted(capture.host for capture in captures))
        return _problem(wanted, "host_required", f"{wanted.id} is at several hosts ({hosts}). Say which one is meant.")
    if captures:
        return captures[0]
    if failed:
        failure = known[failed[0]].failures[wanted.id]
        message = f"{failed[0]} gives no answer. {failure.reason} Try again in a minute."
        return CaptureProblem(host=failed[0], id=wanted.id, code="host_failed", message=message, timed_out=failure.timed_out)
    if not sources:
        return _problem(wanted, "capture_not_found", f"There is no host {wanted.host!r}. catalog.sources.list names them all.")
    where = sources[0].id if len(sources) == 1 else "any host"
    return _problem(wanted, "capture_not_found", f"There is no capture {wanted.id!r} at {where}.")


def _choose(told: Told, wanted: WantedCapture, source: Source) -> FoundCapture | None:
    """Returns the capture of the wanted collection, or of the first that the registry lists."""
    listed = [collection["id"] for collection in source.collections]
    found = [each for each in told.captures.get(wanted.id, []) if wanted.collection in {None, each.collection}]
    return min(
        found, key=lambda each: listed.index(each.collection) if each.collection in listed else len(listed), default=None
    )


def _sellable(found: FoundCapture | CaptureProblem) -> FoundCapture | CaptureProblem:
    if isinstance(found, CaptureProblem) or found.orderable:
        return found
    message = f"{found.id} is not for sale at {found.host}. Choose another capture."
    return CaptureProblem(host=found.host, id=found.id, code="not_orderable", message=message)


def _problem(wanted: WantedCapture, code: ProblemCode, message: str) -> CaptureProblem:
    return CaptureProblem(host=wanted.host, id=wanted.id, code=code, message=message)
