"""Searching items in the words of STAC, and in those of the platform."""

from __future__ import annotations

from typing import Any

import orjson

from geopera_server.domains.identity.access import project_access
from geopera_server.domains.stac.answering import GEOJSON, binding, next_links, searched
from geopera_server.domains.stac.collections import collections_of
from geopera_server.domains.stac.columns import as_feature, rows_in_order
from geopera_server.domains.stac.features import features_of
from geopera_server.domains.stac.searching import search
from geopera_server.domains.stac.shapes import (
    CollectionsListInput,
    CollectionsReply,
    FeatureCollectionOutput,
    OrgItemSearchInput,
    ProjectItemSearchInput,
    SearchInput,
)
from geopera_server.domains.stac.wanted import Filters, read_wanted
from geopera_server.kernel.addresses import base_url_of
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import InvalidInput
from geopera_server.kernel.operation import operation

_BOLZANO = [11.0, 46.3, 11.6, 46.7]
_EXAMPLE = {
    "bbox": _BOLZANO,
    "datetime": "2022-01-01T00:00:00Z/2022-12-31T23:59:59Z",
    "filter": {"op": "<=", "args": [{"property": "eo:cloud_cover"}, 20]},
    "sortby": [{"field": "properties.datetime", "direction": "desc"}],
    "limit": 10,
}
_EXAMPLE_OF_ITEMS = {"bbox": _BOLZANO, "query": {"cloud_cover": {"lte": 20}}, "limit": 10}
_EXAMPLE_OF_PROJECT = {"project_id": "0192d3c4-0000-7000-8000-000000000000", **_EXAMPLE_OF_ITEMS}


@operation("stac.search", effect="read", scope="items:read", raw=True, json_media_type=GEOJSON, example=_EXAMPLE)
async def stac_search(ctx: Context, given: SearchInput) -> dict[str, Any]:
    """Searches the organization's items by place, time, collection and CQL2-JSON filters, newest first.

    Expired items are found, deleted ones never. Follow the links with rel next to the end: pages are complete and free of
    repeats. `numberMatched` is exact as long as no more than 1,000 items lie in the place at any time, 10,000 without a
    place; 500 where a filter reads other properties than datetime, collection, id, gsd and eo:cloud_cover. Beyond that
    there are at least as many, and `geopera:matched` says so.
    """
    base_url = base_url_of(ctx.links, given.base_url)
    filters = given.filters()
    collection, token = await searched(
        ctx.conn,
        filters,
        organization_id=ctx.organization_id,
        limit=given.limit,
        page=given.page,
        token=given.token,
        fields=given.fields_,
        links=ctx.links,
        base_url=base_url,
        at=ctx.now,
    )
    if token is not None:
        asked = given.model_dump(by_alias=True, exclude_unset=True)
        collection["links"] = next_links(base_url + "/v1/op/stac.search", {**asked, "limit": given.limit}, token)
    return collection


@operation("stac.collections.list", effect="read", scope="items:read", raw=True)
async def collections_list(ctx: Context, given: CollectionsListInput) -> CollectionsReply:
    """Lists the organization's collections as STAC, with one more for each project that has items in none."""
    base_url = base_url_of(ctx.links, given.base_url)
    found = await collections_of(ctx.conn, ctx.organization_id, base_url=base_url)
    links = [
        {"rel": "self", "type": "application/json", "href": base_url + "/assets/stac/collections"},
        {"rel": "root", "type": "application/json", "href": base_url + "/assets/stac"},
    ]
    return {"collections": found, "links": links, "numberMatched": len(found), "numberReturned": len(found)}


@operation("items.search", effect="read", scope="items:read", example=_EXAMPLE_OF_PROJECT)
async def search_project(ctx: Context, given: ProjectItemSearchInput) -> FeatureCollectionOutput:
    """Searches the items of one project by place, time, type, collection and properties, newest first.

    `numberMatched` is exact as stac.search says; with format stac the features are those of items.get_stac.
    """
    project = await project_access(ctx.conn, ctx.principal, given.project_id)
    return await _search_items(ctx, given, organization_id=project.organization_id, project_id=project.id)


@operation("items.search_org", effect="read", scope="items:read", example=_EXAMPLE_OF_ITEMS)
async def search_organization(ctx: Context, given: OrgItemSearchInput) -> FeatureCollectionOutput:
    """Searches the items of every project that you may read, as items.search does with one."""
    return await _search_items(ctx, given, organization_id=ctx.organization_id, project_id=None)


async def _search_items(
    ctx: Context, given: OrgItemSearchInput, *, organization_id: str, project_id: str | None
) -> FeatureCollectionOutput:
    if given.format not in {None, "", "geojson", "stac"}:
        raise InvalidInput("format is geojson or stac.", loc=("format",), code="unknown_field_value")
    filters = Filters(
        collections=given.collections,
        item_columns=True,
        bbox=given.bbox,
        datetime=given.datetime,
        type=given.type,
        query=given.query,
        sortby=given.sortby,
    )
    wanted = read_wanted(
        filters,
        organization_id=organization_id,
        project_id=project_id,
        limit=given.limit,
        offset=given.offset,
        bound_to=binding(organization_id, filters, project_id),
    )
    found = await search(ctx.conn, wanted, ctx.links)
    features: list[Any]
    if given.format == "stac":
        base_url = base_url_of(ctx.links, given.base_url)
        texts = await features_of(ctx.conn, organization_id, found.rows, links=ctx.links, base_url=base_url, at=ctx.now)
        features = [orjson.Fragment(text) for text in texts]
    else:
        features = [as_feature(row) for row in await rows_in_order(ctx.conn, organization_id, found.rows)]
    more = {"geopera:matched": "at_least"} if found.at_least else {}
    return FeatureCollectionOutput(
        features=features, numberMatched=found.matched, numberReturned=len(features), **more
    )  # fmt: skip
