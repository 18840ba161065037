"""Finds captures by id at their hosts; what orders are priced and fulfilled by."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence

from geopera_server.db.pool import Row
from geopera_server.domains.catalog import store
from geopera_server.domains.catalog.asking import ask, is_fresh, packed, unpacked
from geopera_server.domains.catalog.captures import CaptureProblem, FoundCapture, WantedCapture
from geopera_server.domains.catalog.reading import read_items
from geopera_server.domains.catalog.sources import Source, means_all
from geopera_server.kernel.context import Outside
from geopera_server.ports.host import HostFailed, HostPage, HostQuery

IDS_PER_SEARCH = 100
COLLECTIONS_PER_ID = 4
"""A catalogue may have one id in several collections, such as two processing levels of a scene."""

Outcome = dict[str, list[FoundCapture]] | HostFailed
"""All captures that a host has under each id, or why it could not be asked."""


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
    ids: dict[str, set[str]] = {}
    for each in asked:
        for source in _candidates(sources, each.host, indexing, outside.links.base_url):
            ids.setdefault(source.id, set()).add(each.id)
    asking = [(source, sorted(ids[source.id])) for source in sources if source.id in ids]
    outcomes = await asyncio.gather(*(_at_host(outside, source, some) for source, some in asking))
    known = {source.id: outcome for (source, _), outcome in zip(asking, outcomes, strict=True)}
    return [_settle(each, known, _order_of(sources), outside.links.base_url, for_order=for_order) for each in asked]


def _candidates(sources: Sequence[Source], host: str | None, indexing: set[str], base_url: str) -> Iterable[Source]:
    if means_all(host, base_url):
        return (source for source in sources if source.has_own_search or source.id in indexing)
    return (source for source in sources if source.id == (host or "").strip())


def _order_of(sources: Sequence[Source]) -> Mapping[str, Sequence[str]]:
    return {source.id: [collection["id"] for collection in source.collections] for source in sources}


async def _at_host(outside: Outside, source: Source, ids: Sequence[str]) -> Outcome:
    """Returns what the host has under the ids; what it told less than ten minutes ago is not asked again."""
    keys = {capture_id: _key(capture_id) for capture_id in ids} if source.has_own_search else {}
    kept: dict[str, Row] = {}
    if keys:
        async with outside.connection() as conn:
            kept = await store.replies_of(conn, source.id, list(keys.values()))
    fresh = [each for each, key in keys.items() if key in kept and is_fresh(kept[key], outside.now)]
    found = {each: _captures(source, kept[keys[each]], stale=False) for each in fresh}
    missing = [each for each in ids if each not in found]
    for start in range(0, len(missing), IDS_PER_SEARCH):
        batch = missing[start : start + IDS_PER_SEARCH]
        try:
            answer = await ask(outside, source, HostQuery(ids=tuple(batch), limit=len(batch) * COLLECTIONS_PER_ID))
        except HostFailed as failure:
            old = {each: _captures(source, kept[keys[each]], stale=True) for each in batch if keys.get(each) in kept}
            if len(old) < len(batch):
                return failure
            found.update(old)
            continue
        told: dict[str, list[FoundCapture]] = {}
        for reading in read_items(source, answer.items, stale=answer.stale):
            told.setdefault(reading.capture.id, []).append(reading.capture)
        found.update(told)
        if keys and not answer.stale:
            pages = {keys[each]: packed(HostPage(features=[i for i in answer.items if i["id"] == each])) for each in told}
            async with outside.connection() as conn:
                await store.keep_replies(conn, source.id, pages, outside.now)
    return found


def _key(capture_id: str) -> str:
    return "capture:" + hashlib.sha256(capture_id.encode()).hexdigest()


def _captures(source: Source, kept: Row, *, stale: bool) -> list[FoundCapture]:
    return [reading.capture for reading in read_items(source, unpacked(kept).items, stale=stale)]


def _settle(
    wanted: WantedCapture,
    known: Mapping[str, Outcome],
    order: Mapping[str, Sequence[str]],
    base_url: str,
    *,
    for_order: bool,
) -> FoundCapture | CaptureProblem:
    anywhere = means_all(wanted.host, base_url)
    outcomes = known if anywhere else {host: known[host] for host in known if host == (wanted.host or "").strip()}
    found = {host: _choose(outcome, wanted, order[host]) for host, outcome in outcomes.items() if isinstance(outcome, dict)}
    captures = [capture for capture in found.values() if capture is not None]
    failed = {host: outcome for host, outcome in outcomes.items() if isinstance(outcome, HostFailed)}
    if len(captures) > 1:
        hosts = ", ".join(sorted(capture.host for capture in captures))
        return _problem(wanted, "host_required", f"{wanted.id} is at several hosts ({hosts}). Say which one is meant.")
    if captures:
        return _sellable(wanted, captures[0]) if for_order else captures[0]
    if failed:
        host, failure = next(iter(failed.items()))
        message = f"{host} gives no answer. {failure.reason} Try again in a minute."
        return CaptureProblem(host=host, id=wanted.id, code="host_failed", message=message, timed_out=failure.timed_out)
    if not anywhere and not outcomes:
        return _problem(wanted, "capture_not_found", f"There is no host {wanted.host!r}. catalog.sources.list names them all.")
    where = "any host" if anywhere else wanted.host
    return _problem(wanted, "capture_not_found", f"There is no capture {wanted.id!r} at {where}.")


def _choose(outcome: Mapping[str, list[FoundCapture]], wanted: WantedCapture, order: Sequence[str]) -> FoundCapture | None:
    """Returns the capture of the wanted collection, or of the first that the registry lists."""
    found = [each for each in outcome.get(wanted.id, []) if wanted.collection in {None, each.collection}]
    return min(found, key=lambda each: order.index(each.collection) if each.collection in order else len(order), default=None)


def _sellable(wanted: WantedCapture, capture: FoundCapture) -> FoundCapture | CaptureProblem:
    if capture.orderable:
        return capture
    return _problem(wanted, "not_orderable", f"{capture.id} is not for sale at {capture.host}. Choose another capture.")


def _problem(wanted: WantedCapture, code: str, message: str) -> CaptureProblem:
    return CaptureProblem(host=wanted.host, id=wanted.id, code=code, message=message)  # type: ignore[arg-type]
