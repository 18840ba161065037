"""What the STAC API says of itself: landing page, conformance and OpenAPI document."""

from __future__ import annotations

from typing import Any

ROOT = "/assets/stac"
STAC = "https://api.stacspec.org/v1.0.0"
FEATURES = "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf"
FILTERS = "http://www.opengis.net/spec/ogcapi-features-3/1.0/conf"
CQL2 = "http://www.opengis.net/spec/cql2/1.0/conf"
CONFORMS_TO = (
    f"{STAC}/core",
    f"{STAC}/collections",
    f"{STAC}/ogcapi-features",
    f"{STAC}/item-search",
    f"{STAC}/item-search#filter",
    f"{STAC}/item-search#sort",
    f"{STAC}/item-search#fields",
    f"{STAC}/item-search#query",
    f"{FEATURES}/core",
    f"{FEATURES}/geojson",
    f"{FEATURES}/oas30",
    f"{FILTERS}/filter",
    f"{FILTERS}/features-filter",
    f"{CQL2}/cql2-json",
    f"{CQL2}/cql2-text",
    f"{CQL2}/basic-cql2",
    f"{CQL2}/basic-spatial-functions",
    f"{CQL2}/spatial-functions",
    f"{CQL2}/temporal-functions",
    f"{CQL2}/advanced-comparison-operators",
)
_JSON = "application/json"
_GEOJSON = "application/geo+json"
_OPENAPI = "application/vnd.oai.openapi+json;version=3.0"


def landing_page(base_url: str) -> dict[str, Any]:
    """Returns the root catalogue."""
    root = base_url + ROOT
    return {
        "type": "Catalog",
        "stac_version": "1.0.0",
        "id": "geopera",
        "title": "Your items",
        "description": "The items of your organization. Send an API key or a token to see them.",
        "conformsTo": list(CONFORMS_TO),
        "links": [
            _link("self", root, _JSON),
            _link("root", root, _JSON),
            _link("conformance", f"{root}/conformance", _JSON),
            _link("data", f"{root}/collections", _JSON),
            _link("search", f"{root}/search", _GEOJSON, method="GET"),
            _link("search", f"{root}/search", _GEOJSON, method="POST"),
            _link("http://www.opengis.net/def/rel/ogc/1.0/queryables", f"{root}/queryables", "application/schema+json"),
            _link("service-desc", f"{root}/api", _OPENAPI),
        ],
    }


def _link(rel: str, href: str, media_type: str, **more: str) -> dict[str, str]:
    return {"rel": rel, "href": href, "type": media_type, **more}


def openapi_of_stac(base_url: str) -> dict[str, Any]:
    """Returns the OpenAPI document of the STAC API."""
    one = "/collections/{collectionId}"
    return {
        "openapi": "3.0.3",
        "info": {"title": "STAC API", "version": "1.0.0", "description": "The items of your organization."},
        "servers": [{"url": base_url + ROOT}],
        "security": [{"bearer": []}, {"key": []}],
        "paths": {
            "/": {"get": _get("Landing page", _JSON)},
            "/conformance": {"get": _get("What the API conforms to", _JSON)},
            "/queryables": {"get": _get("What filters may name", "application/schema+json")},
            "/collections": {"get": _get("All collections", _JSON)},
            one: {"get": _get("One collection", _JSON, _path("collectionId"))},
            f"{one}/queryables": {
                "get": _get("What filters on a collection may name", "application/schema+json", _path("collectionId"))
            },
            f"{one}/items": {"get": _get("Items of a collection", _GEOJSON, _path("collectionId"), *_filters())},
            f"{one}/items/{{featureId}}": {"get": _get("One item", _GEOJSON, _path("collectionId"), _path("featureId"))},
            "/search": {
                "get": _get("Search all items", _GEOJSON, *_filters(), _query("collections"), _query("ids")),
                "post": {
                    **_get("Search all items", _GEOJSON),
                    "requestBody": {"content": {_JSON: {"schema": {"type": "object"}}}},
                },
            },
        },
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            }
        },
    }


def _get(summary: str, media_type: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "summary": summary,
        "parameters": list(parameters),
        "responses": {
            "200": {"description": summary, "content": {media_type: {"schema": {"type": "object"}}}},
            "400": {"description": "The request is wrong."},
            "401": {"description": "No good credential was sent."},
            "404": {"description": "There is no such thing."},
        },
    }


def _path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query(name: str, kind: str = "string") -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": {"type": kind}}


def _filters() -> list[dict[str, Any]]:
    names = ("bbox", "datetime", "intersects", "filter", "filter-lang", "sortby", "fields", "query", "token")
    return [*(_query(name) for name in names), _query("limit", "integer")]
