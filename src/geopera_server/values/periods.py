"""Calendar months in UTC, written `YYYY-MM`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """One calendar month."""

    year: int
    month: int

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"

    @property
    def start(self) -> datetime:
        """The first moment of the month."""
        return datetime(self.year, self.month, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first moment after the month."""
        return self.following.start

    @property
    def following(self) -> Period:
        """The month after this one."""
        return Period(self.year + self.month // 12, self.month % 12 + 1)

    @property
    def preceding(self) -> Period:
        """The month before this one."""
        return Period(self.year - (self.month == 1), (self.month - 2) % 12 + 1)

    def holds(self, at: datetime) -> bool:
        """Says whether a moment lies in the month."""
        return self.start <= at < self.end


def month_of(at: datetime | date) -> Period:
    """Returns the month that a moment, in UTC, or a date lies in."""
    if isinstance(at, datetime):
        at = at.astimezone(UTC)
    return Period(at.year, at.month)
