"""Runs one search over any number of sources, with the prices of the organization that asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from shapely.geometry.base import BaseGeometry

from geopera_server.db.pool import Row
from geopera_server.domains.catalog import store
from geopera_server.domains.catalog.features import Counter, Feature, present
from geopera_server.domains.catalog.merging import Place, Present, Stream, merge
from geopera_server.domains.catalog.reading import Reading
from geopera_server.domains.catalog.sources import OPEN, Source
from geopera_server.domains.pricing.book import price_book
from geopera_server.kernel.context import Outside
from geopera_server.ports.host import HostQuery


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
                "error": trouble_of(stream),
            }
            for stream in self.streams
        ]


def trouble_of(stream: Stream) -> str | None:
    """Returns what to tell of a source that did not answer as it should; None when nothing is wrong."""
    if stream.failure is not None:
        return stream.failure.reason
    return "does not answer; these are earlier answers or our own copies" if stream.stale else None


async def open_market(outside: Outside) -> Market:
    """Returns what the caller's organization can search, and its prices."""
    async with outside.connection() as conn:
        sources, kinds = await store.active_sources(conn), await store.scene_kinds(conn)
        return Market(sources, kinds, Counter(await price_book(conn, outside.organization_id)))


async def run(outside: Outside, market: Market, plan: Plan) -> Found:
    """Returns one page: newest first, each scene once, without what cannot be ordered unless the full catalogue is wanted.

    A source that fails stops where it failed; what the others have is found all the same.
    """
    streams = streams_of(outside, market, plan)
    features = await merge(streams, plan.limit, plan.seen, lambda each: plan.full_catalog or each.orderable)
    return Found(features, streams)


def streams_of(outside: Outside, market: Market, plan: Plan) -> list[Stream]:
    """Returns a stream for each source that may have something of what is searched."""
    found = (_stream(outside, market, plan, source) for source in plan.sources)
    return [stream for stream in found if stream is not None]


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
