"""What filters may name: STAC's own fields that items have as columns, and the properties that items really hold."""

from __future__ import annotations

from typing import Any

from geopera_server.db.pool import Connection
from geopera_server.domains.stac import store
from geopera_server.domains.stac.wanted import OF_PROJECT
from geopera_server.values.ids import is_id

LOOKED_AT = 1_000
_ITEM = "https://schemas.stacspec.org/v1.0.0/item-spec/json-schema/item.json"
_KNOWN: dict[str, dict[str, Any]] = {
    "id": {"title": "Id", "$ref": _ITEM + "#/definitions/core/allOf/2/properties/id"},
    "collection": {"title": "Collection", "type": "string"},
    "geometry": {"title": "Footprint", "$ref": "https://geojson.org/schema/Geometry.json"},
    "datetime": {"title": "Date and time", "type": "string", "format": "date-time"},
    "created": {"title": "Registered", "type": "string", "format": "date-time"},
    "updated": {"title": "Changed", "type": "string", "format": "date-time"},
    "title": {"title": "Name", "type": "string"},
    "gsd": {"title": "Ground sample distance in metres", "type": "number", "exclusiveMinimum": 0},
    "eo:cloud_cover": {"title": "Cloud cover in percent", "type": "number", "minimum": 0, "maximum": 100},
    "geopera:item_id": {"title": "Id of the item on this platform", "type": "string"},
    "geopera:item_type": {"title": "Kind of item", "type": "string"},
    "geopera:lifecycle_state": {"title": "Whether its files can be had", "type": "string"},
}


async def queryables(conn: Connection, organization_id: str, *, base_url: str, collection_id: str | None) -> dict[str, Any]:
    """Returns the JSON schema of what filters may name, with the properties of the newest items, or of a collection's.

    Other names may be used too, and match nothing where no item has them.
    """
    path = "/assets/stac/queryables" if collection_id is None else f"/assets/stac/collections/{collection_id}/queryables"
    project_id = None if collection_id is None or is_id(collection_id) else collection_id.removeprefix(OF_PROJECT)
    held = await store.properties_held(
        conn,
        organization_id,
        collection_id=collection_id if project_id is None else None,
        project_id=project_id,
        most=LOOKED_AT,
    )
    found = {row["name"]: {"title": row["name"], "type": sorted(row["types"])} for row in held if row["name"] not in _KNOWN}
    return {
        "$schema": "https://json-schema.org/draft/2019-09/schema",
        "$id": base_url + path,
        "type": "object",
        "title": "What filters may name",
        "properties": {**_KNOWN, **found},
        "additionalProperties": True,
    }
