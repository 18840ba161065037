"""The JSON schema of the fields that this platform adds to STAC items, so that any STAC validator can check them."""

from __future__ import annotations

from typing import Any

GEOPERA_EXTENSION_PATH = "/stac-extensions/geopera/v1.0.0/schema.json"

_NULLABLE_TEXT = {"type": ["string", "null"]}
_ITEM_TYPES = (
    "satellite_capture", "derived_raster", "derived_vector", "clip", "user_raster", "user_vector", "external_reference",
)  # fmt: skip
_LIFECYCLE_STATES = ("active", "expiring", "archived", "expired", "deleted")
_PROVENANCE = {
    "type": "object",
    "description": "The first record of the item's lineage; its hash is null until it is sealed.",
    "required": ["origin_type", "origin_id", "invocation_id", "recorded_at", "record_hash"],
    "properties": {
        "origin_type": _NULLABLE_TEXT,
        "origin_id": _NULLABLE_TEXT,
        "invocation_id": _NULLABLE_TEXT,
        "recorded_at": {"type": ["string", "null"], "format": "date-time"},
        "record_hash": {"type": ["string", "null"], "pattern": "^[0-9a-f]{64}$"},
    },
}


def extension_schema(base_url: str) -> dict[str, Any]:
    """Returns the schema as it is served under an address."""
    url = base_url + GEOPERA_EXTENSION_PATH
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": url,
        "title": "Geopera extension",
        "type": "object",
        "required": ["type", "stac_extensions", "properties"],
        "properties": {
            "type": {"const": "Feature"},
            "stac_extensions": {"type": "array", "contains": {"const": url}},
            "properties": {
                "type": "object",
                "required": ["geopera:item_type", "geopera:lifecycle_state", "geopera:provenance"],
                "properties": {
                    "geopera:item_id": {"type": "string"},
                    "geopera:item_type": {"enum": list(_ITEM_TYPES)},
                    "geopera:lifecycle_state": {"enum": list(_LIFECYCLE_STATES)},
                    "geopera:provenance": _PROVENANCE,
                },
            },
        },
    }
