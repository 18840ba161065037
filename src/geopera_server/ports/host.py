"""A catalogue of captures that can be searched, whoever runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

Comparison = Literal["eq", "neq", "lt", "lte", "gt", "gte"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PropertyFilter:
    """One condition on a feature property, under the STAC name of the property (`eo:cloud_cover`)."""

    name: str
    comparison: Comparison
    value: float | str | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HostQuery:
    """What is looked for; an open interval end is None, an empty tuple filters nothing."""

    collections: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    geometry: Mapping[str, Any] | None = None
    start: datetime | None = None
    end: datetime | None = None
    filters: tuple[PropertyFilter, ...] = ()
    limit: int = 100
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPage:
    """STAC item objects, newest first, and the cursor of the next page if there is one.

    A page may hold more or fewer items than the query's limit; only a cursor of None says that there are no more.
    """

    features: Sequence[Mapping[str, Any]] = field(default_factory=list)
    cursor: str | None = None
    matched: int | None = None


class HostFailed(Exception):
    """A host that gave no usable answer.

    `timed_out` tells one that did not answer in time, `refused` one that is up and declined this very query: asking it
    something else may work at once.
    """

    def __init__(self, reason: str, *, timed_out: bool = False, refused: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.timed_out = timed_out
        self.refused = refused


class Host(Protocol):
    """Answers searches over one catalogue."""

    async def search(self, query: HostQuery) -> HostPage:
        """Returns one page of matching STAC items, newest first.

        Raises HostFailed when the catalogue does not answer, answers too late, or answers something else than STAC.
        """
        ...
