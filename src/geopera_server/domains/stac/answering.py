"""From a page of a search to the feature collection that is sent, for operations and for the STAC API alike."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import orjson

from geopera_server.db.pool import Connection
from geopera_server.domains.stac.features import features_of
from geopera_server.domains.stac.fields import narrowed, read_fields
from geopera_server.domains.stac.searching import Page, search
from geopera_server.domains.stac.wanted import Filters, Wanted, read_wanted
from geopera_server.kernel.errors import InvalidInput
from geopera_server.ports import Links
from geopera_server.values.encoding import canonical

GEOJSON = "application/geo+json"
MAX_OFFSET = 2**53


async def searched(
    conn: Connection,
    filters: Filters,
    *,
    organization_id: str,
    limit: int,
    page: int = 0,
    token: str | None = None,
    fields: Any = None,
    links: Links,
    base_url: str,
    at: datetime,
) -> tuple[dict[str, Any], str | None]:
    """Returns the STAC feature collection of one page, still without links, and the token of the next page.

    `numberMatched` is exact as `searching.search` says; where it is not, `geopera:matched` says `at_least`. Features are JSON
    texts that `values.encoding.dumps` puts in as they are, or dicts where `fields` cuts them. Raises InvalidInput.
    """
    if page * limit > MAX_OFFSET:
        raise InvalidInput("There are no such pages. Follow the next links.", loc=("page",))
    wanted = read_wanted(
        filters,
        organization_id=organization_id,
        limit=limit,
        offset=page * limit,
        token=token,
        bound_to=binding(organization_id, filters),
    )
    found = await search(conn, wanted, links)
    shown = await _shown(conn, wanted, found, fields, links=links, base_url=base_url, at=at)
    return _collection(shown, found, limit), found.token


def binding(organization_id: str, filters: Filters, project_id: str | None = None) -> str:
    """Returns a short text that is the same for every page of one search, and for no other search."""
    given = {name: getattr(filters, name) for name in Filters.__dataclass_fields__}
    return hashlib.sha256(canonical([organization_id, project_id, given])).hexdigest()[:16]


async def _shown(
    conn: Connection, wanted: Wanted, found: Page, fields: Any, *, links: Links, base_url: str, at: datetime
) -> Sequence[Any]:
    chosen = read_fields(fields)
    texts = await features_of(conn, wanted.organization_id, found.rows, links=links, base_url=base_url, at=at)
    if chosen is None:
        return [orjson.Fragment(text) for text in texts]
    return [narrowed(orjson.loads(text), chosen) for text in texts]


def _collection(features: Sequence[Any], found: Page, limit: int) -> dict[str, Any]:
    collection = {
        "type": "FeatureCollection",
        "features": features,
        "links": [],
        "numberMatched": found.matched,
        "numberReturned": len(features),
        "context": {"limit": limit, "matched": found.matched, "returned": len(features)},
    }
    return {**collection, "geopera:matched": "at_least"} if found.at_least else collection


def next_links(href: str, given: Mapping[str, Any], token: str) -> list[dict[str, Any]]:
    """Returns the links to the next page, for clients that post and for those that get."""
    asked = {name: value for name, value in given.items() if value is not None and name not in {"page", "token"}}
    texts = {name: value if isinstance(value, str) else orjson.dumps(value).decode() for name, value in asked.items()}
    return [
        {"rel": "next", "type": GEOJSON, "method": "POST", "href": href, "body": {**asked, "token": token}},
        {"rel": "next", "type": GEOJSON, "method": "GET", "href": href + "?" + urlencode({**texts, "token": token})},
    ]
