"""What item operations take and typed ones answer with, by the names that the contract gives."""

from __future__ import annotations

from datetime import datetime as Time  # noqa: N812  (a field has that name)
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints


class ItemType(StrEnum):
    SATELLITE_CAPTURE = "satellite_capture"
    DERIVED_RASTER = "derived_raster"
    DERIVED_VECTOR = "derived_vector"
    CLIP = "clip"
    USER_RASTER = "user_raster"
    USER_VECTOR = "user_vector"
    EXTERNAL_REFERENCE = "external_reference"


class LifecycleState(StrEnum):
    ACTIVE = "active"
    EXPIRING = "expiring"
    ARCHIVED = "archived"
    EXPIRED = "expired"
    DELETED = "deleted"


ItemName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
Description = Annotated[str, StringConstraints(max_length=10_000)]
StacId = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]
ExtensionUrl = Annotated[str, StringConstraints(max_length=2_000, pattern=r"^https?://[^\s]+$")]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]
Gsd = Annotated[float, Field(gt=0, allow_inf_nan=False, description="metres")]
CloudCover = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False, description="percent")]


class ItemResponse(BaseModel):
    """An item as lists show it."""

    id: str
    project_id: str
    collection_id: str | None = None
    stac_id: str
    type: ItemType
    name: str
    description: str | None = None
    datetime: Time | None = None
    start_datetime: Time | None = None
    end_datetime: Time | None = None
    geometry: dict[str, Any] | None = None
    bbox: list[float] | None = None
    gsd: float | None = None
    cloud_cover: float | None = None
    properties: dict[str, Any] = Field(default_factory=dict)
    stac_extensions: list[str] = Field(default_factory=list)
    lifecycle_state: LifecycleState = LifecycleState.ACTIVE
    order_id: str | None = None
    job_id: str | None = None
    upload_id: str | None = None
    duplicated_from_id: str | None = None
    previous_version_id: str | None = None
    created_by: str | None = None
    created_at: Time
    updated_at: Time
    expires_at: Time | None = None
    archived_at: Time | None = None
    deleted_at: Time | None = None
