"""From rows to the shapes that are sent."""

from __future__ import annotations

from datetime import datetime

from typing_extensions import TypedDict

from geopera_server.db.pool import Row


class ProjectRow(TypedDict):
    """A project as replies and events show it."""

    id: str
    organization_id: str
    name: str
    description: str | None
    gcs_bucket_name: str | None
    gcs_region: str
    is_archived: bool
    created_at: datetime
    updated_at: datetime


def as_project_response(row: Row) -> ProjectRow:
    """Returns a project as replies and events show it; there is a storage prefix and no bucket of its own."""
    return {
        "id": row["id"],
        "organization_id": row["organization_id"],
        "name": row["name"],
        "description": row["description"],
        "gcs_bucket_name": None,
        "gcs_region": row["region"],
        "is_archived": row["is_archived"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }
