"""What the STAC API at /assets/stac answers with, beside the operations that callers know by name."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlencode

import orjson
from pydantic import BaseModel, Field

from geopera_server.domains.stac.answering import GEOJSON, searched
from geopera_server.domains.stac.collections import collections_of
from geopera_server.domains.stac.queryables import queryables
from geopera_server.domains.stac.shapes import SearchInput
from geopera_server.domains.stac.wanted import Filters
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import NotFound
from geopera_server.kernel.operation import operation


class ApiSearchInput(SearchInput):
    """A search, and the address in the STAC API that it was asked at, by which method."""

    at: str
    method: Literal["GET", "POST"]


class ApiCollectionInput(BaseModel):
    collection_id: str


class ApiItemInput(BaseModel):
    collection_id: str
    stac_id: str = Field(max_length=2_000)


class ApiQueryablesInput(BaseModel):
    collection_id: str | None = None


@operation("stac.api.search", effect="read", scope="items:read", raw=True, json_media_type=GEOJSON, internal=True)
async def search(ctx: Context, given: ApiSearchInput) -> dict[str, Any]:
    """Searches as stac.search does, with links that lead through the STAC API."""
    base_url = ctx.links.base_url
    if given.at.endswith("/items"):
        await _collection(ctx, (given.collections or [""])[0])
    found, token = await searched(
        ctx.conn,
        given.filters(),
        organization_id=ctx.organization_id,
        limit=given.limit,
        token=given.token,
        fields=given.fields_,
        links=ctx.links,
        base_url=base_url,
        at=ctx.now,
    )
    href = base_url + given.at
    found["links"] = [
        {"rel": "self", "type": GEOJSON, "href": href},
        {"rel": "root", "type": "application/json", "href": f"{base_url}/assets/stac"},
    ]
    if token is not None:
        found["links"] += _next(href, given, token)
    return found


def _next(href: str, given: ApiSearchInput, token: str) -> list[dict[str, Any]]:
    """Returns the way to the next page, by the method that this one was asked by: clients take the first link they find."""
    asked = given.model_dump(by_alias=True, exclude_unset=True, exclude={"at", "method", "page", "base_url"})
    body = {**{name: value for name, value in asked.items() if value is not None}, "limit": given.limit, "token": token}
    link = {"rel": "next", "type": GEOJSON, "method": given.method, "href": href}
    if given.method == "POST":
        return [{**link, "body": body}]
    if given.at.endswith("/items"):
        del body["collections"]
    return [{**link, "href": f"{href}?{urlencode({name: _as_text(name, value) for name, value in body.items()})}"}]


def _as_text(name: str, value: Any) -> str:
    """Returns a parameter as query strings have it in the STAC API."""
    if name == "sortby":
        return ",".join(("-" if clause["direction"].lower() == "desc" else "+") + clause["field"] for clause in value)
    if name == "fields":
        return ",".join([*(value.get("include") or []), *(f"-{each}" for each in value.get("exclude") or [])])
    if isinstance(value, list):
        return ",".join(str(each) for each in value)
    return value if isinstance(value, str) else orjson.dumps(value).decode()


@operation("stac.api.collection", effect="read", scope="items:read", raw=True, internal=True)
async def collection(ctx: Context, given: ApiCollectionInput) -> dict[str, Any]:
    """Returns one collection as STAC."""
    return await _collection(ctx, given.collection_id)


async def _collection(ctx: Context, collection_id: str) -> dict[str, Any]:
    found = await collections_of(ctx.conn, ctx.organization_id, base_url=ctx.links.base_url, only=collection_id)
    if not found:
        raise NotFound("collection")
    return found[0]


@operation("stac.api.item", effect="read", scope="items:read", raw=True, json_media_type=GEOJSON, internal=True)
async def item(ctx: Context, given: ApiItemInput) -> dict[str, Any]:
    """Returns one item of a collection by its STAC id."""
    found, _ = await searched(
        ctx.conn,
        Filters(collections=[given.collection_id], ids=[given.stac_id]),
        organization_id=ctx.organization_id,
        limit=1,
        links=ctx.links,
        base_url=ctx.links.base_url,
        at=ctx.now,
    )
    if not found["features"]:
        raise NotFound("item")
    feature: dict[str, Any] = orjson.loads(orjson.dumps(found["features"][0]))
    return feature


@operation("stac.api.queryables", effect="read", scope="items:read", raw=True, internal=True)
async def queryables_of(ctx: Context, given: ApiQueryablesInput) -> dict[str, Any]:
    """Returns the JSON schema of what filters may name, in all collections or in one."""
    if given.collection_id is not None:
        await _collection(ctx, given.collection_id)
    return await queryables(ctx.conn, ctx.organization_id, base_url=ctx.links.base_url, collection_id=given.collection_id)
