"""From rows of sessions and their files to the shapes that are sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geopera_server.domains.uploads import rules
from geopera_server.domains.uploads.shapes import Upload, UploadFile, UploadOutput

Row = Mapping[str, Any]


def as_upload(row: Row) -> Upload:
    """Returns a session as it is told of everywhere."""
    return Upload(
        id=row["id"],
        organization_id=row["organization_id"],
        project_id=row["project_id"],
        status=row["status"],
        transfer_method=row["transfer_method"],
        file_count=row["file_count"],
        total_bytes=row["total_bytes"],
        bytes_uploaded=row["bytes_uploaded"],
        reserved_bytes=row["reserved_bytes"],
        is_categorical=row["is_categorical"],
        target_collection_id=row["target_collection_id"],
        target_item_id=row["target_item_id"],
        asset_key=row["asset_key"],
        item_id=row["item_id"],
        raw_prefix=rules.raw_prefix(row),
        processed_prefix=rules.processed_prefix(row),
        checksum_crc32c=row["checksum_crc32c"],
        user_metadata=row["user_metadata"],
        detected_metadata=row["detected_metadata"],
        error_message=row["error_message"],
        error_step=row["error_step"],
        created_by=row["created_by"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        expires_at=row["expires_at"],
        completed_at=row["completed_at"],
    )


def as_output(row: Row) -> UploadOutput:
    """Returns the same for the operations whose reply is typed."""
    return UploadOutput(**as_upload(row))


def as_file(upload: Row, file: Row) -> UploadFile:
    """Returns a file of a session, with how much of it has come."""
    return UploadFile(
        file_name=file["file_name"],
        object_path=rules.object_path(upload, file["file_name"]),
        bytes_received=file["received_bytes"] if file["transfer_id"] else file["size_bytes"] or 0,
        status=_status(upload, file),
        content_type=file["content_type"],
        size_bytes=file["size_bytes"],
        checksum_crc32c=file["crc32c"],
        checksum_sha256=file["sha256"],
    )


def _status(upload: Row, file: Row) -> str:
    if upload["status"] == "failed":
        return "removed"
    if file["asset_id"] is not None:
        return "registered"
    if file["transfer_id"] is not None:
        return "receiving"
    return "waiting" if file["stored_path"] is None else "received"
