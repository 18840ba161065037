"""Times are UTC, and written with milliseconds and a Z."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """Returns the present time in UTC; the only clock the code reads."""
    return datetime.now(UTC)


def iso(at: datetime) -> str:
    """Returns `YYYY-MM-DDTHH:MM:SS.mmmZ`."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_or_none(at: datetime | None) -> str | None:
    """Returns the time as text, or None for none."""
    return None if at is None else iso(at)
