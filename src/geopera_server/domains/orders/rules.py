"""What an order may be and become: its words, its states, and how captures are grouped for pricing. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

TERMINAL = frozenset({"fulfilled", "failed", "cancelled"})
NATIVE_STATUSES = (
    "created", "processing", "fulfilling", "fulfilled", "placement_failed", "failed", "cancelled",
)  # fmt: skip
SUB_STATUSES = (
    "awaiting_data", "in_production", "delivering", "feasibility_waiting_upload", "feasibility_waiting_response",
    "quotation_waiting_upload", "quotation_waiting_response", "quotation_accepted", "quotation_rejected", "infeasible",
)  # fmt: skip
MARKETPLACE_TO_NATIVE: Mapping[str, tuple[str, str | None]] = {
    "CREATED": ("created", None),
    "PLACED": ("processing", "in_production"),
    "BEING_FULFILLED": ("fulfilling", None),
    "FULFILLED": ("fulfilled", None),
    "PLACEMENT_FAILED": ("placement_failed", None),
    "FAILED_PERMANENTLY": ("failed", None),
    "CANCELED": ("cancelled", None),
}
MAX_TAGS = 50
MAX_TAG_LENGTH = 64
MAX_CAPTURES = 100


def marketplace_status(status: str, sub_status: str | None) -> str:
    """Returns the marketplace word; an order that may still be cancelled reads as CREATED, since clients check that word."""
    if status == "processing":
        return {"in_production": "PLACED", "delivering": "BEING_FULFILLED"}.get(sub_status or "", "CREATED")
    words = {native: word for word, (native, sub) in MARKETPLACE_TO_NATIVE.items() if sub is None}
    return words[status]


def cancellable(status: str, sub_status: str | None) -> bool:
    """Says whether cancelling is free: before production is confirmed and before anything is delivered."""
    return status in {"created", "placement_failed"} or (status == "processing" and sub_status in {None, "awaiting_data"})


def status_conditions(word: str) -> list[tuple[str, str]] | None:
    """Returns (column, value) alternatives for a status filter in either vocabulary; None for an unknown word.

    A sub-status word matches there too. CREATED also finds orders that are processing and still free to cancel.
    """
    lower = word.strip().lower()
    if lower in SUB_STATUSES:
        return [("sub_status", lower)]
    if lower in NATIVE_STATUSES and not word.isupper():
        return [("status", lower)]
    upper = word.strip().upper()
    if upper not in MARKETPLACE_TO_NATIVE:
        return [("status", lower)] if lower in NATIVE_STATUSES else None
    status, sub_status = MARKETPLACE_TO_NATIVE[upper]
    if upper == "CREATED":
        return [("status", "created"), ("sub_status", "awaiting_data")]
    if upper == "BEING_FULFILLED":
        return [("status", "fulfilling"), ("sub_status", "delivering")]
    return [("sub_status", sub_status)] if sub_status else [("status", status)]


def capture_node(host: str, capture_id: str) -> tuple[str, str]:
    """Returns the lineage node of a capture."""
    return "capture", f"{host}/{capture_id}"


def default_name(hosts: Iterable[str], at: datetime) -> str:
    """Returns the name of an order whose buyer gave none: where from, and when."""
    distinct = sorted(set(hosts))
    return f"{', '.join(distinct)} {at:%Y-%m-%d}"


DATA_MEDIA_TYPES = ("image/tiff", "image/jp2", "application/x-geotiff", "image/vnd.stac.geotiff")


def deliverable_assets(assets: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Returns the assets that are imagery: those with the role `data`, else every georeferenced raster that is no preview."""
    rasters = {key: asset for key, asset in assets.items() if _is_raster(asset) and asset.get("href")}
    with_role = {key: asset for key, asset in rasters.items() if "data" in (asset.get("roles") or ())}
    if with_role:
        return with_role
    previews = {"thumbnail", "overview", "metadata"}
    return {key: asset for key, asset in rasters.items() if not previews & set(asset.get("roles") or ())}


def _is_raster(asset: Mapping[str, Any]) -> bool:
    media_type = str(asset.get("type") or "").split(";")[0].strip().lower()
    if media_type:
        return media_type in DATA_MEDIA_TYPES
    return str(asset.get("href") or "").split("?")[0].lower().endswith((".tif", ".tiff", ".jp2"))
