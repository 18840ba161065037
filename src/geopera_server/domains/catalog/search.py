"""Searches one source or all of them, page by page."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

import orjson
from shapely.geometry.base import BaseGeometry

from geopera_server.db.pool import Row
from geopera_server.domains.catalog import store
from geopera_server.domains.catalog.features import Counter, Feature, present
from geopera_server.domains.catalog.merging import Place, Present, Stream, last_ids, merge
from geopera_server.domains.catalog.reading import Reading
from geopera_server.domains.catalog.rules import host_query, search_area
from geopera_server.domains.catalog.shapes import CatalogSearchInput, FederatedSearchInput
from geopera_server.domains.catalog.sources import OPEN, Source, means_all
from geopera_server.domains.pricing.book import price_book
from geopera_server.kernel.context import Outside
from geopera_server.kernel.errors import InvalidInput, NotFound, Unavailable
from geopera_server.ports.host import HostFailed, HostQuery
from geopera_server.values.encoding import canonical

CURSOR_LIFE = timedelta(hours=24)
_CURSOR_OF = "catalog.search"


@dataclass(frozen=True, slots=True)
class Market:
    """What one organization can search, and its prices; `kinds` are those of the scenes in our index."""

    sources: Sequence[Source]
    kinds: Sequence[Row]
    counter: Counter

    def find(self, source_id: str) -> Source | None:
        return next((source for source in self.sources if source.id == source_id), None)

    def on_sale(self, source: Source, collections: Sequence[str]) -> tuple[str, ...] | None:
        """Returns those of the collections (empty: of all) that may hold something orderable; None when none can.

        Without this, searches would leaf through all that an archive holds and nobody has a price for.
        """
        if source.has_own_search:
            is_open = any(source.is_open(each["id"]) for each in source.collections) or source.access_model == OPEN
            return tuple(collections) if is_open or self.counter.knows(source.vendor) else None
        kinds = [kind for kind in self.kinds if kind["host"] == source.id]
        sold = {kind["collection"] for kind in kinds if self._sells(source, kind)}
        if sold == {kind["collection"] for kind in kinds} and not collections:
            return () if sold else None
        return tuple(sorted(sold.intersection(collections) if collections else sold)) or None

    def _sells(self, source: Source, kind: Row) -> bool:
        return source.is_open(kind["collection"]) or self.counter.sells(kind["vendor"], kind["resolution"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A search that has been read: whom to ask what, and where to begin."""

    sources: Sequence[Source]
    query: HostQuery
    area: BaseGeometry | None
    limit: int
    full_catalog: bool
    data_types: Sequence[str] = ()
    places: Mapping[str, Place] | None = None
    seen: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """One page of a search, and the streams it was taken from."""

    features: Sequence[Feature]
    streams: Sequence[Stream]

    @property
    def stale(self) -> bool:
        return any(stream.stale for stream in self.streams)

    def summaries(self) -> list[dict[str, Any]]:
        """Returns what became of each source that was asked."""
        return [
            {
                "source_id": stream.source.id,
                "title": stream.source.title,
                "count": stream.count,
                "error": None if stream.failure is None else stream.failure.reason,
            }
            for stream in self.streams
        ]


async def open_market(outside: Outside) -> Market:
    """Returns what the caller's organization can search, and its prices."""
    async with outside.connection() as conn:
        sources, kinds = await store.active_sources(conn), await store.scene_kinds(conn)
        return Market(sources, kinds, Counter(await price_book(conn, outside.organization_id)))


async def run(outside: Outside, market: Market, plan: Plan) -> Found:
    """Returns one page: newest first, each scene once, without what cannot be ordered unless the full catalogue is wanted.

    A source that fails stops where it failed; what the others have is found all the same.
    """
    streams = [stream for source in plan.sources if (stream := _stream(outside, market, plan, source)) is not None]
    features = await merge(streams, plan.limit, plan.seen, lambda each: plan.full_catalog or each.orderable)
    return Found(features, streams)


def _stream(outside: Outside, market: Market, plan: Plan, source: Source) -> Stream | None:
    if plan.places is not None and source.id not in plan.places:
        return None
    collections = source.offers(plan.query.collections, plan.data_types)
    if collections is not None and not plan.full_catalog:
        collections = market.on_sale(source, collections)
    if collections is None or not source.covers(plan.area):
        return None
    show: Present = partial(_show, area=plan.area, counter=market.counter)
    query = replace(plan.query, collections=collections)
    place = Place() if plan.places is None else plan.places[source.id]
    return Stream(outside=outside, source=source, query=query, present=show, place=place)


def _show(source: Source, readings: Sequence[Reading], *, area: BaseGeometry | None, counter: Counter) -> list[Feature]:
    return present(readings, source, area, counter)


async def search(outside: Outside, given: CatalogSearchInput) -> dict[str, Any]:
    """Returns the reply of catalog.search.

    Raises NotFound for an unknown host, InvalidInput for collections it does not have and cursors that are not its own,
    Unavailable when nothing at all could be learned.
    """
    market = await open_market(outside)
    searches_all = means_all(given.host_name, outside.links.base_url)
    sources = market.sources if searches_all else [_known(market, given.host_name or "")]
    plan = _plan(given, sources)
    _refuse_unknown_collections(sources, given.collections or [])
    binding = _binding("*" if searches_all else sources[0].id, plan)
    if given.next is not None:
        plan = _continued(outside, plan, given.next, binding)
    found = await run(outside, market, plan)
    if not found.features:
        _refuse_silence(found)
    return _reply(outside, given, plan, found, binding, tells_sources=searches_all)


def _known(market: Market, host: str) -> Source:
    source = market.find(host.strip())
    if source is None:
        raise NotFound(detail=f"There is no host {host!r}. catalog.sources.list names them all.")
    return source


def _plan(given: CatalogSearchInput | FederatedSearchInput, sources: Sequence[Source]) -> Plan:
    area = search_area(given.bbox, given.intersects)
    query = host_query(
        area=area,
        limit=given.limit,
        collections=given.collections,
        ids=given.ids,
        datetime=given.datetime,
        query=given.conditions(),
    )
    return Plan(sources=sources, query=query, area=area, limit=given.limit, full_catalog=bool(given.full_catalog))


def _refuse_unknown_collections(sources: Sequence[Source], collections: Sequence[str]) -> None:
    for position, collection in enumerate(collections):
        if all(source.unknown_among([collection]) for source in sources):
            where = sources[0].id if len(sources) == 1 else "any source"
            raise InvalidInput(
                f"There is no collection {collection!r} at {where}. catalog.sources.list names them all.",
                loc=("collections", position),
                code="unknown_field_value",
            )


def _refuse_silence(found: Found) -> None:
    failures = [stream.failure for stream in found.streams if stream.failure is not None]
    if failures and len(failures) == len(found.streams):
        raise silent(found.streams[0].source, failures[0])


def silent(source: Source, failure: HostFailed) -> Unavailable:
    """Returns what to answer for a source that gave nothing."""
    return Unavailable(
        f"{source.id} gives no answer. {failure.reason} Try again in a minute, or search another host.",
        code="upstream_timeout" if failure.timed_out else "upstream_error",
        retry_after_s=30,
    )


def _binding(host: str, plan: Plan) -> str:
    asked = {**asdict(replace(plan.query, limit=0)), "host": host, "full_catalog": plan.full_catalog}
    return hashlib.sha256(canonical(asked)).hexdigest()[:16]


def _continued(outside: Outside, plan: Plan, token: str, binding: str) -> Plan:
    cursor = _opened(outside.links.unseal(token))
    if cursor["until"] < outside.now.timestamp():
        raise InvalidInput("This cursor is older than a day. Start again without next.", loc=("next",))
    if cursor["for"] != binding:
        raise InvalidInput("This cursor belongs to another search. Keep host and filters as they were.", loc=("next",))
    places = {source_id: Place(*place) for source_id, place in cursor["places"].items()}
    return replace(plan, places=places, seen=cursor["seen"], query=replace(plan.query, limit=cursor["page"]))


def _opened(text: str | None) -> dict[str, Any]:
    prefix = f'{{"of":"{_CURSOR_OF}",'
    if text is None or not text.startswith(prefix):
        raise InvalidInput("This is no cursor of this operation. Start again without next.", loc=("next",))
    found: dict[str, Any] = orjson.loads(text)
    return found


def _cursor(outside: Outside, plan: Plan, found: Found, binding: str) -> str | None:
    places = {
        stream.source.id: [stream.place.cursor, stream.place.taken] for stream in found.streams if _goes_on(stream, found)
    }
    if not places:
        return None
    cursor = {
        "of": _CURSOR_OF,
        "for": binding,
        "until": int((outside.now + CURSOR_LIFE).timestamp()),
        "page": plan.query.limit,
        "places": places,
        "seen": last_ids(found.features) if len(places) > 1 else [],
    }
    return outside.links.seal(orjson.dumps(cursor).decode())


def _goes_on(stream: Stream, found: Found) -> bool:
    # Alone, a source that failed on a later page is asked again; among others it is named as failed and left out.
    return stream.has_more or (stream.failure is not None and len(found.streams) == 1)


def _reply(
    outside: Outside, given: CatalogSearchInput, plan: Plan, found: Found, binding: str, *, tells_sources: bool
) -> dict[str, Any]:
    token = _cursor(outside, plan, found, binding)
    reply: dict[str, Any] = {
        "type": "FeatureCollection",
        "features": [feature.body for feature in found.features],
        "numberReturned": len(found.features),
        "numberMatched": _matched(found),
        "next": token,
        "links": [] if token is None else [_next_link(outside, given, token)],
    }
    if found.stale:
        reply["stale"] = True
    if tells_sources:
        reply["sources"] = found.summaries()
    return reply


def _matched(found: Found) -> int | None:
    alone = found.streams[0] if len(found.streams) == 1 else None
    return alone.matched if alone is not None and not alone.passed_over else None


def _next_link(outside: Outside, given: CatalogSearchInput, token: str) -> dict[str, Any]:
    return {
        "rel": "next",
        "type": "application/geo+json",
        "method": "POST",
        "href": f"{outside.links.base_url}/v1/op/{_CURSOR_OF}?next={token}",
        "body": {**given.model_dump(exclude_unset=True), "next": token},
    }


async def federated(outside: Outside, given: FederatedSearchInput) -> dict[str, Any]:
    """Returns the reply of catalog.federated_search; raises NotFound for an unknown source id, never for a host's failure."""
    market = await open_market(outside)
    chosen = market.sources if given.source_ids is None else [_named(market, each) for each in dict.fromkeys(given.source_ids)]
    plan = replace(_plan(given, chosen), data_types=given.data_types or ())
    found = await run(outside, market, plan)
    reply: dict[str, Any] = {
        "type": "FeatureCollection",
        "features": [feature.body for feature in found.features],
        "numberReturned": len(found.features),
        "sources": found.summaries(),
    }
    return {**reply, "stale": True} if found.stale else reply


def _named(market: Market, source_id: str) -> Source:
    source = market.find(source_id)
    if source is None:
        raise NotFound(detail=f"There is no source {source_id!r}. catalog.sources.list names them all.")
    return source
