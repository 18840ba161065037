"""Captures as other domains see them: what a host tells of one, or why it cannot be had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from geopera_server.values.clock import iso

ProblemCode = Literal["capture_not_found", "host_required", "not_orderable", "host_failed"]


class WantedCapture(NamedTuple):
    """A capture by its id; without a host, or with one of the names that mean all, whichever host has it."""

    host: str | None
    id: str
    collection: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundCapture:
    """A capture as its host describes it.

    `vendor` and `resolution` are the price book's words (`0.5m`, empty when the host tells none); `gsd` is in metres,
    `cloud_cover` in percent, `footprint` a valid GeoJSON Polygon or MultiPolygon. `assets` may name local files and is not
    for customers' eyes. `stale` marks what the host said before it went down, or our own mirror of it.
    """

    host: str
    id: str
    collection: str
    vendor: str
    captured_at: datetime
    resolution: str
    gsd: float | None
    cloud_cover: float | None
    footprint: dict[str, Any]
    open_data: bool
    license: str
    orderable: bool
    assets: dict[str, dict[str, Any]]
    properties: dict[str, Any]
    thumbnail: str | None = None
    stale: bool = False

    def as_json(self) -> dict[str, Any]:
        """Returns plain JSON from which `from_json` makes the same capture again, times to the millisecond."""
        return {**asdict(self), "captured_at": iso(self.captured_at)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> FoundCapture:
        """Returns the capture that `as_json` wrote."""
        return cls(**{**found, "captured_at": datetime.fromisoformat(found["captured_at"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureProblem:
    """Why a wanted capture cannot be had; `timed_out` tells a host that did not answer in time from one that failed."""

    host: str | None
    id: str
    code: ProblemCode
    message: str
    timed_out: bool = False
