"""Collections as STAC collections; the items of a project that are in none appear in one of their own."""

from __future__ import annotations

from typing import Any

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.items.stac import STAC_VERSION
from geopera_server.domains.stac import store
from geopera_server.domains.stac.wanted import OF_PROJECT
from geopera_server.values.clock import iso_or_none
from geopera_server.values.ids import is_id

PROPRIETARY = "proprietary"
OPEN_LICENSES = (
    "CC0-1.0", "CC-BY-4.0", "CC-BY-3.0", "CC-BY-SA-4.0", "CC-BY-SA-3.0", "CC-PDDC", "PDDL-1.0", "ODbL-1.0", "ODC-By-1.0",
    "OGL-UK-3.0", "etalab-2.0", "MIT", "Apache-2.0",
)  # fmt: skip
_WORLD = [-180.0, -90.0, 180.0, 90.0]


async def collections_of(
    conn: Connection, organization_id: str, *, base_url: str, only: str | None = None
) -> list[dict[str, Any]]:
    """Returns an organization's collections as STAC, by title, or the `only` one that an id names.

    Their extents are those of their live items. The licence is that of all items if they share an open one, else `various`
    or `proprietary`.
    """
    collection_id = None if only is None else only if is_id(only) else ""
    project_id = only.removeprefix(OF_PROJECT) if only is not None and only.startswith(OF_PROJECT) else None
    if only is not None and not collection_id and (project_id is None or not is_id(project_id)):
        return []
    rows = await store.collections_with_extents(
        conn, organization_id, collection_id=collection_id or None, project_id=project_id, open_licenses=OPEN_LICENSES
    )
    return [_as_stac(row, base_url) for row in rows]


def _as_stac(row: Row, base_url: str) -> dict[str, Any]:
    own_id = row["id"] if row["id"] is not None else OF_PROJECT + row["project_id"]
    href = base_url + "/assets/stac/collections/" + own_id
    title = row["name"] if row["id"] is not None else row["project_name"]
    return {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "stac_extensions": [],
        "id": own_id,
        "title": title,
        "description": row["description"] or title,
        "license": _license(row),
        "extent": {
            "spatial": {"bbox": [_bbox(row)]},
            "temporal": {"interval": [[iso_or_none(row["first"]), iso_or_none(row["last"])]]},
        },
        "keywords": sorted(row["types"] or ()),
        "summaries": _summaries(row),
        "links": [
            {"rel": "self", "type": "application/json", "href": href},
            {"rel": "root", "type": "application/json", "href": base_url + "/assets/stac"},
            {"rel": "parent", "type": "application/json", "href": base_url + "/assets/stac"},
            {"rel": "items", "type": "application/geo+json", "href": href + "/items"},
        ],
        "geopera:project_id": row["project_id"],
    }


def _license(row: Row) -> str:
    if not row["item_count"] or not row["all_open"]:
        return PROPRIETARY
    return str(row["license"]) if row["licenses"] == 1 else "various"


def _bbox(row: Row) -> list[float]:
    return _WORLD if row["west"] is None else [row["west"], row["south"], row["east"], row["north"]]


def _summaries(row: Row) -> dict[str, Any]:
    ranges = {"gsd": (row["least_gsd"], row["most_gsd"]), "eo:cloud_cover": (row["least_cloud"], row["most_cloud"])}
    found: dict[str, Any] = {
        name: {"minimum": least, "maximum": most} for name, (least, most) in ranges.items() if least is not None
    }
    return {**found, "geopera:item_type": sorted(row["types"])} if row["types"] else found
