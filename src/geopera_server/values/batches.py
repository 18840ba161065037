"""Long lists a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def batched(entries: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yields the entries in their order, `size` of them at a time; the last piece may be shorter."""
    for start in range(0, len(entries), size):
        yield entries[start : start + size]
