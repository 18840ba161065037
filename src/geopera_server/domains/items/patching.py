"""What an item becomes by a merge patch: what is absent stays, null clears what can be empty. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from geopera_server.domains.items import rules
from geopera_server.domains.items.places import place_of
from geopera_server.domains.items.registration import place_columns
from geopera_server.kernel.errors import Conflict, InvalidInput
from geopera_server.kernel.geometry import read_time

_PLAIN = ("description", "gsd", "cloud_cover", "collection_id")
_NEVER_EMPTY = ("name", "properties")

Row = Mapping[str, Any]


def patched(row: Row, patch: Row, *, at: datetime) -> dict[str, Any]:
    """Returns the columns of an item after a patch.

    Raises InvalidInput for a place or time that cannot be, Conflict (`illegal_state`) for another state than active or archived
    and from another one.
    """
    columns = {name: row[name] for name in ("id", "organization_id", *_NEVER_EMPTY, *_PLAIN)}
    columns |= {name: patch[name] for name in _PLAIN if name in patch}
    columns |= {name: patch[name] for name in _NEVER_EMPTY if patch.get(name) is not None}
    columns["properties"] = Jsonb(columns["properties"])
    return {**columns, **_time(row, patch), **_place(row, patch), **_state(row, patch.get("lifecycle_state"), at), "at": at}


def _time(row: Row, patch: Row) -> dict[str, Any]:
    moment = row["datetime"]
    if "datetime" in patch:
        text = patch["datetime"]
        moment = None if text is None else read_time(text, loc=("datetime",))
    if moment is None and row["start_datetime"] is None:
        raise InvalidInput("This item has no start and end, so it needs its datetime.", loc=("datetime",))
    start, end = rules.period_of(moment, row["start_datetime"], row["end_datetime"])
    return {"datetime": moment, "period_start": start, "period_end": end}


def _place(row: Row, patch: Row) -> dict[str, Any]:
    if not patch.keys() & {"geometry", "bbox"}:
        return place_columns(row["geometry"], row["bbox"])
    return place_columns(*place_of(patch.get("geometry", row["geometry"]), patch.get("bbox")))


def _state(row: Row, wanted: str | None, at: datetime) -> dict[str, Any]:
    present = row["lifecycle_state"]
    if wanted is None or wanted == present:
        return {"lifecycle_state": present, "archived_at": row["archived_at"]}
    if {present, wanted} != {"active", "archived"}:
        raise Conflict(
            f"An item that is {present} cannot be made {wanted} by an update: that is for active and archived items."
            " Delete an item with items.delete; what expires follows its expires_at.",
            code="illegal_state",
        )
    return {"lifecycle_state": str(wanted), "archived_at": at if wanted == "archived" else None}
