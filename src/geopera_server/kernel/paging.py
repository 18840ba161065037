"""Lists in pages: offset lists, marketplace pages, and sort strings of the form `field,asc`."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Generic, TypeVar

from typing_extensions import TypedDict

from geopera_server.kernel.errors import InvalidInput

MAX_LIMIT = 1_000
MAX_OFFSET = 2**62
MAX_PAGE_SIZE = 100

T = TypeVar("T")


def clamped(limit: int, at_most: int = MAX_LIMIT) -> int:
    """Returns a limit that is no larger than a list gives at once."""
    return min(limit, at_most)


def sort_of(text: str, fields: Collection[str]) -> tuple[str, str]:
    """Returns field and direction of a sort string; no direction is ascending.

    Raises InvalidInput (`unknown_field_value`) that names the fields there are.
    """
    field, _, direction = (part.strip() for part in text.partition(","))
    direction = direction.lower() or "asc"
    if field not in fields or direction not in {"asc", "desc"}:
        raise InvalidInput(
            f"Sort is 'field,asc' or 'field,desc' with one of: {', '.join(fields)}.", loc=("sort",), code="unknown_field_value"
        )
    return field, direction


class Ordering(TypedDict):
    """Whether a page's rows are sorted, as marketplace clients read it."""

    sorted: bool
    unsorted: bool
    empty: bool


class Pageable(TypedDict):
    """Which page was asked for."""

    pageNumber: int
    pageSize: int
    offset: int
    paged: bool
    unpaged: bool


class PageOf(TypedDict, Generic[T]):
    """The marketplace's envelope around one page; there is always at least one page."""

    content: list[T]
    totalPages: int
    totalElements: int
    number: int
    size: int
    first: bool
    last: bool
    numberOfElements: int
    empty: bool
    sort: Ordering
    pageable: Pageable


def page_of(content: Sequence[T], *, total: int, number: int, size: int) -> PageOf[T]:
    """Returns the envelope of one page of a sorted list."""
    pages = max(1, math.ceil(total / size))
    return {
        "content": list(content),
        "totalPages": pages,
        "totalElements": total,
        "number": number,
        "size": size,
        "first": number == 0,
        "last": number >= pages - 1,
        "numberOfElements": len(content),
        "empty": not content,
        "sort": {"sorted": True, "unsorted": False, "empty": False},
        "pageable": {"pageNumber": number, "pageSize": size, "offset": number * size, "paged": True, "unpaged": False},
    }
