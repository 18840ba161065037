"""From rows to the shapes that are sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geopera_server.domains.usage.shapes import Correction, DriftCounts, StorageRun

Row = Mapping[str, Any]


def as_run(row: Row) -> StorageRun:
    """Returns a comparison as operators see it."""
    return StorageRun(
        id=row["id"],
        organization_id=row["organization_id"],
        ledger_bytes=row["ledger_bytes"],
        actual_bytes=row["actual_bytes"],
        drift_bytes=row["drift_bytes"],
        flagged=row["flagged"],
        threshold_bytes=row["threshold_bytes"],
        counts=DriftCounts(missing=row["missing"], stale=row["stale"], negative=row["negative"]),
        created_at=row["created_at"],
    )


def as_correction(row: Row) -> Correction:
    """Returns a correction as operators see it."""
    return Correction(
        id=row["id"],
        organization_id=row["organization_id"],
        asset_id=row["asset_id"],
        bytes_delta=row["bytes_delta"],
        reason=row["reason"],
        applied_by=row["applied_by"],
        ledger_bytes_after=row["ledger_bytes_after"],
        created_at=row["created_at"],
    )
