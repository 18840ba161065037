"""Describing a file once more, as another asset."""

from __future__ import annotations

from typing import Any

from geopera_server.db.pool import Row
from geopera_server.domains.items.registration import NewAsset


def as_new_asset(row: Row, **changes: Any) -> NewAsset:
    """Returns an asset to be that is like one there is, but for the changes, and derives from it."""
    same = {name: row[name] for name in NewAsset.__dataclass_fields__ if name != "copied_from_id"}
    return NewAsset(**{**same, "copied_from_id": row["id"], **changes})
