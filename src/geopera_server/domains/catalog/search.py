"""Searches one source or all of them, page by page."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from geopera_server.domains.catalog.cursors import binding, continued, token_after
from geopera_server.domains.catalog.federation import Found, Market, Plan, open_market, run, streams_of
from geopera_server.domains.catalog.rules import host_query, search_area
from geopera_server.domains.catalog.shapes import CatalogSearchInput, FederatedSearchInput
from geopera_server.domains.catalog.sources import Source, means_all
from geopera_server.domains.catalog.streaming import progress
from geopera_server.kernel.context import Outside
from geopera_server.kernel.errors import InvalidInput, NotFound, Unavailable
from geopera_server.ports.host import HostFailed


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
    bound_to = binding("*" if searches_all else sources[0].id, plan)
    if given.next is not None:
        plan = continued(outside, plan, given.next, bound_to)
    found = await run(outside, market, plan)
    if not found.features:
        _refuse_silence(found)
    return _reply(outside, given, plan, found, bound_to, tells_sources=searches_all)


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


def _reply(
    outside: Outside, given: CatalogSearchInput, plan: Plan, found: Found, bound_to: str, *, tells_sources: bool
) -> dict[str, Any]:
    token = token_after(outside, plan, found, bound_to)
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
        "href": f"{outside.links.base_url}/v1/op/catalog.search?next={token}",
        "body": {**given.model_dump(exclude_unset=True), "next": token},
    }


async def federated(outside: Outside, given: FederatedSearchInput) -> dict[str, Any]:
    """Returns the reply of catalog.federated_search; raises NotFound for an unknown source id, never for a host's failure."""
    market = await open_market(outside)
    found = await run(outside, market, _plan_over_sources(market, given))
    reply: dict[str, Any] = {
        "type": "FeatureCollection",
        "features": [feature.body for feature in found.features],
        "numberReturned": len(found.features),
        "sources": found.summaries(),
    }
    return {**reply, "stale": True} if found.stale else reply


async def streamed(outside: Outside, given: FederatedSearchInput) -> AsyncGenerator[dict[str, Any], None]:
    """Returns what catalog.search_stream tells, object by object; raises like `federated` before the first one."""
    market = await open_market(outside)
    plan = _plan_over_sources(market, given)
    return progress(plan, streams_of(outside, market, plan))


def _plan_over_sources(market: Market, given: FederatedSearchInput) -> Plan:
    chosen = market.sources if given.source_ids is None else [_named(market, each) for each in dict.fromkeys(given.source_ids)]
    return replace(_plan(given, chosen), data_types=given.data_types or ())


def _named(market: Market, source_id: str) -> Source:
    source = market.find(source_id)
    if source is None:
        raise NotFound(detail=f"There is no source {source_id!r}. catalog.sources.list names them all.")
    return source
