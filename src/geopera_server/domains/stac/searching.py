"""Searching items so that a page costs the same however many items there are.

Where no more than a few thousand items lie in the area and time asked for, the spatial index gathers them and they are sorted.
Where more do, and nobody asks for another order than by time, the index by time is walked until the page is full: so many
matches cannot be far apart. Footprints that boxes cannot decide on are tested exactly before a page is cut, so that pages are
full, complete and free of repeats.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import shapely

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.stac import statements, store
from geopera_server.domains.stac.cells import has_few_cells
from geopera_server.domains.stac.conditions import COVERED, decided_by_sql, holds, is_spatial
from geopera_server.domains.stac.ordering import Position, by_time
from geopera_server.domains.stac.spatial import boxes_of
from geopera_server.domains.stac.statements import Drive, Segment, is_covered
from geopera_server.domains.stac.wanted import Wanted
from geopera_server.kernel.errors import InvalidInput
from geopera_server.ports import Links

MOST_NEAR = 1_000
"""Candidates that are looked at and counted in an area; more are not counted."""
MOST_READ = 500
"""The same where a filter has to read the items themselves."""
MOST_IN_ORDER = 10_000
"""The same without an area, where the index by time holds all that a search asks of items."""
MOST_ALIKE = 5_000
"""Candidates that are gathered by what they equal, when few of those that were looked at in order of time match."""
RARE = 50
"""One match among so many candidates, or fewer, are looked for by what they equal rather than one after the other."""
FIRST_STRIDE = 2_000
LAST_STRIDE = 50_000
_TOKEN_OF = "stac.search"  # noqa: S105  (a name, not a secret)


Total = tuple[int, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page: rows with `id`, `stac_id`, and the kept feature if there is one, the token of the next page, and the total.

    `matched` is exact unless `at_least`: then there are that many or more.
    """

    rows: Sequence[Row]
    token: str | None
    matched: int
    at_least: bool


@dataclass(frozen=True, slots=True)
class _Found:
    rows: list[Row]
    matched: int
    at_least: bool
    met: int = 0


async def search(conn: Connection, wanted: Wanted, links: Links) -> Page:
    """Returns one page of an organization's live items in live projects.

    The total is exact as long as no more than `MOST_NEAR` items lie in the area at any time, or `MOST_IN_ORDER` without
    an area, or `MOST_READ` where a filter has to read the items; beyond that it is what is known to be there. Raises
    InvalidInput for a token of another search.
    """
    after, counted = _opened(wanted, links)
    found = await _find(conn, wanted, after, counted)
    rows = found.rows[: wanted.limit]
    matched, at_least = (found.matched, found.at_least) if counted is None else counted
    if at_least:
        matched = max(matched, (0 if after else wanted.offset) + len(found.rows))
    token = None
    if len(found.rows) > wanted.limit:
        token = _sealed(wanted, links, rows[-1], (matched, at_least))
    return Page(rows=rows, token=token, matched=matched, at_least=at_least)


async def _find(conn: Connection, wanted: Wanted, after: Position | None, counted: Total | None) -> _Found:
    drive: Drive = "ids" if wanted.ids is not None else "place" if wanted.near is not None else "newest"
    if drive == "ids" or not by_time(wanted.order):
        # Any other order than by time is made by sorting all matches, gathered the nearest way.
        return await _gather(conn, wanted, _nearest(wanted, drive), after, most=None)
    if drive == "place" or is_spatial(wanted.condition):
        most = MOST_NEAR if is_covered(wanted) else MOST_READ
        found = await _gather(conn, wanted, drive, after, most=most)
        if not found.at_least:
            return found
        rare = found.matched * RARE < found.met
        return await _further(conn, wanted, after, (found.matched, True), rare=rare)
    return await _further(conn, wanted, after, counted)


def _nearest(wanted: Wanted, drive: Drive) -> Drive:
    return drive if drive != "newest" else "terms" if wanted.terms else "all"


async def _further(
    conn: Connection, wanted: Wanted, after: Position | None, counted: Total | None, *, rare: bool = False
) -> _Found:
    """Walks by time; what is rare, or turns out to be, is gathered by what it equals, if it equals anything."""
    rows, ended = ([], False) if rare and wanted.terms else await _walk(conn, wanted, after, patient=not wanted.terms)
    if not ended:
        found = await _gather(conn, wanted, "terms", after, most=MOST_ALIKE)
        if not found.at_least:
            return found
        rows, _ = await _walk(conn, wanted, after, patient=True)
    if counted is not None:
        return _Found(rows, *counted)
    most = MOST_IN_ORDER if wanted.bindings.columns <= {*COVERED, "period"} else MOST_READ
    parameters = _parameters(wanted, after=None, most=most + 1)
    [total] = await _ask(conn, wanted, statements.counting(wanted), parameters)
    return _Found(rows, total["matched"], total["looked"] > most)


async def _gather(conn: Connection, wanted: Wanted, drive: Drive, after: Position | None, *, most: int | None) -> _Found:
    parameters = _parameters(wanted, after=after, most=None if most is None else most + 1)
    rows = await _ask(conn, wanted, statements.gathering(wanted, drive, after=after, settled=False), parameters)
    total = rows[0]
    at_least = most is not None and total["looked"] > most
    if total["unsure"] is not None and not at_least:
        refuted = _refuted(wanted, total["unsure"])
        if refuted:
            parameters["refuted"] = refuted
            rows = await _ask(conn, wanted, statements.gathering(wanted, drive, after=after, settled=True), parameters)
            total = rows[0]
    unsure = 0 if not at_least or total["unsure"] is None else len(total["unsure"])
    return _Found(rows[1:], total["matched"] - unsure, at_least, total["met"])


async def _ask(conn: Connection, wanted: Wanted, statement: str, parameters: Mapping[str, Any]) -> list[Row]:
    # Statements bind more values while they are put together, so theirs are taken last.
    return await store.rows_of(conn, statement, {**parameters, **wanted.bindings.values})


def _refuted(wanted: Wanted, unsure: Sequence[Sequence[Any]]) -> list[str]:
    """Returns the candidates that an exact look at their footprints rules out."""
    leaves = list(decided_by_sql(wanted.condition))
    footprints = shapely.from_geojson([None if each[2] is None else orjson.dumps(each[2]) for each in unsure])
    return [
        item_id
        for (item_id, decided, _), footprint in zip(unsure, footprints, strict=True)
        if not holds(wanted.condition, footprint, {id(leaf): said for leaf, said in zip(leaves, decided, strict=True)})
    ]


async def _walk(conn: Connection, wanted: Wanted, after: Position | None, *, patient: bool) -> tuple[list[Row], bool]:
    """Returns the page's rows and one more, if there is one, by going through items in order of time.

    Who is not patient stops after one stride without a full page, and says so with false.
    """
    rows: list[Row] = []
    skip = 0 if after is not None else wanted.offset
    by_cell = wanted.area is not None and has_few_cells(wanted.area)
    segments: tuple[Segment, ...] = ("untimed",) if after is not None and after.keys[0] is None else ("timed", "untimed")
    for segment in segments:
        place = _Place(segment, after if segment == segments[0] else None, by_cell=by_cell, page=skip + wanted.limit + 1)
        async for row in _steps(conn, wanted, place, patient=patient):
            if row is None:
                return rows, False
            if skip > 0:
                skip -= 1
                continue
            rows.append(row)
            if len(rows) > wanted.limit:
                return rows, True
    return rows, True


@dataclass(slots=True)
class _Place:
    """Where a walk is, whether it goes cell by cell, and how many rows it wants at once."""

    segment: Segment
    position: Position | None
    by_cell: bool
    page: int


async def _steps(conn: Connection, wanted: Wanted, at: _Place, *, patient: bool) -> AsyncIterator[Row | None]:
    """Yields matches in order of time, reading on by strides that grow while they are rare; None when patience ends."""
    stride = max(FIRST_STRIDE, at.page)
    statement = statements.walking_cells if at.by_cell else statements.walking
    while True:
        parameters = _parameters(wanted, after=at.position, most=stride) | {"limit": at.page}
        step = await _ask(conn, wanted, statement(wanted, at.segment, after=at.position), parameters)
        unsure = [[row["id"], row["decided"], row["geometry"]] for row in step if not row["certain"]]
        refuted = set(_refuted(wanted, unsure)) if unsure else ()
        for row in step:
            if row["id"] not in refuted:
                yield row
        if len(step) == at.page:
            at.position = Position(keys=tuple(step[-1]["keys"]), stac_id=step[-1]["stac_id"], id=step[-1]["id"])
            continue
        end = [] if at.by_cell else await _last(conn, wanted, at, parameters)
        if not end:
            return
        if not patient:
            yield None
        at.position = Position(keys=(end[0]["datetime"],), stac_id=end[0]["stac_id"], id=end[0]["id"])
        stride = min(stride * 4, max(LAST_STRIDE, at.page))


async def _last(conn: Connection, wanted: Wanted, at: _Place, parameters: Mapping[str, Any]) -> list[Row]:
    return await _ask(conn, wanted, statements.last_walked(wanted, at.segment, after=at.position), parameters)


def _parameters(wanted: Wanted, *, after: Position | None, most: int | None) -> dict[str, Any]:
    near, across = (None, None) if wanted.area is None else boxes_of(wanted.area)
    return {
        "organization": wanted.organization_id,
        "collection": wanted.collection_id,
        "ids": list(wanted.ids or ()),
        "near": near,
        "near_across": across,
        # Boxes are parted by semicolons, since they hold commas themselves.
        "areas": "{" + ";".join(corners for corners in (near, across) if corners is not None) + "}",
        "during": wanted.during,
        "start": wanted.start or "-infinity",
        "end": wanted.end or "infinity",
        "most": most,
        "offset": 0 if after is not None else wanted.offset,
        "limit": wanted.limit + 1,
        "refuted": [],
        "after_time": None if after is None else after.keys[0],
        "after_stac_id": None if after is None else after.stac_id,
        "after_id": None if after is None else after.id,
    }


def _sealed(wanted: Wanted, links: Links, last: Row, total: Total) -> str:
    place = {"of": _TOKEN_OF, "for": wanted.bound_to, "keys": last["keys"], "stac_id": last["stac_id"], "id": last["id"]}
    return links.seal(orjson.dumps({**place, "matched": total[0], "at_least": total[1]}).decode())


def _opened(wanted: Wanted, links: Links) -> tuple[Position | None, Total | None]:
    """Returns where a token leads to and the total that its first page has told."""
    if wanted.token is None:
        return None, None
    text = links.unseal(wanted.token)
    if text is None or not text.startswith('{"of":"' + _TOKEN_OF + '",'):
        raise InvalidInput("This is no token of this search. Start again without token.", loc=("token",))
    found = orjson.loads(text)
    if found["for"] != wanted.bound_to:
        raise InvalidInput("This token belongs to another search. Keep filters and order as they were.", loc=("token",))
    position = Position(keys=tuple(found["keys"]), stac_id=found["stac_id"], id=found["id"])
    return position, (found["matched"], found["at_least"])
