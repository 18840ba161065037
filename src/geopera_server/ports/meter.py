"""Where use is counted."""

from __future__ import annotations

from typing import Literal, Protocol

UsageKind = Literal["api_requests", "tile_requests", "shared_tile_requests", "egress_bytes", "sent_bytes"]
"""`egress_bytes` counts against the plan; `sent_bytes` is what really left through signed addresses."""


class Meter(Protocol):
    """Counts what organizations use; a count costs its caller nothing and is stored within seconds."""

    def count(self, organization_id: str | None, kind: UsageKind, amount: int = 1, project_id: str | None = None) -> None:
        """Adds to today's counter; without an organization it is that of the project."""
        ...
