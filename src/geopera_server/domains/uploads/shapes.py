"""The shapes that upload operations take and answer with."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict

from geopera_server.domains.uploads.rules import Status


class UploadOutput(BaseModel):
    """A session."""

    model_config = ConfigDict(extra="allow")

    id: str


class SignedUrlOutput(BaseModel):
    """Where to PUT a file, and what it is known by afterwards."""

    upload_url: str
    object_path: str


class Upload(TypedDict):
    """A session as lists show it."""

    id: str
    organization_id: str
    project_id: str
    status: Status
    transfer_method: str
    file_count: int
    total_bytes: int
    bytes_uploaded: int
    reserved_bytes: int
    is_categorical: bool
    target_collection_id: str | None
    target_item_id: str | None
    asset_key: str | None
    item_id: str | None
    raw_prefix: str | None
    processed_prefix: str | None
    checksum_crc32c: str | None
    user_metadata: dict[str, Any] | None
    detected_metadata: dict[str, Any] | None
    error_message: str | None
    error_step: str | None
    created_by: str | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    completed_at: datetime | None


class UploadFile(TypedDict):
    """A file of a session; `status` is waiting, receiving, received, registered or removed."""

    file_name: str
    object_path: str
    bytes_received: int
    status: str
    content_type: str
    size_bytes: int | None
    checksum_crc32c: str | None
    checksum_sha256: str | None
