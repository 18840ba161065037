"""The scene index in our own database as a host: an owner's archive, or the mirror of a host that cannot be reached.

Two ways lead to the newest scenes of a place. Where few scenes lie there, they are gathered by the spatial index and sorted;
where many lie, or few were taken in the time asked for, the index by time is walked from the newest. Counts that stop at
a few thousand tell which; so the cost of a page does not grow with the archive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import orjson
from psycopg import AsyncConnection
from psycopg.types.range import TimestamptzRange
from shapely.geometry import shape

from geopera_server.adapters.hosts.matching import touching
from geopera_server.kernel.geometry import extents
from geopera_server.kernel.stac import Item
from geopera_server.ports import Connect
from geopera_server.ports.host import Comparison, HostFailed, HostPage, HostQuery, PropertyFilter

Row = Mapping[str, Any]

FEW = 5_000
MAX_READ = 20_000
"""Rows that one page may cost; a page that ends for this reason still has a cursor."""

_COMPARISONS: dict[Comparison, str] = {"eq": "==", "neq": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}

_WALKS_BY_TIME = """
SELECT CASE WHEN %(bounded)s AND NOT many_scenes_between(%(host)s, %(start)s::timestamptz, %(end)s::timestamptz, %(few)s)
            THEN true
            ELSE many_scenes_within(%(box)s::box, %(box_across)s::box, %(period)s::tstzrange, %(few)s)
       END AS yes
"""

_WAYS = {
    "place": """
WITH there AS MATERIALIZED (
    SELECT id, captured_at FROM scene
     WHERE host = %(host)s AND deleted_at IS NULL AND period && %(period)s::tstzrange
       AND (extent && %(box)s::box OR extent && %(box_across)s::box
            OR extent_across && %(box)s::box OR extent_across && %(box_across)s::box)
       AND (%(collections)s::text[] IS NULL OR collection = ANY (%(collections)s))
       AND (%(condition)s::jsonpath IS NULL OR properties @@ %(condition)s::jsonpath)
), newest AS MATERIALIZED (
    SELECT id, captured_at FROM there
     WHERE captured_at < %(at)s::timestamptz OR (captured_at = %(at)s::timestamptz AND id > %(after)s)
     ORDER BY captured_at DESC, id LIMIT %(limit)s
)
SELECT scene.* FROM newest JOIN scene ON scene.host = %(host)s AND scene.id = newest.id
 ORDER BY newest.captured_at DESC, newest.id
""",
    # IS TRUE keeps the planner from the spatial index; collection by collection it walks the index by time.
    "time": """
SELECT scene.* FROM (
    SELECT collection, max(longest) AS longest FROM scene_kind
     WHERE host = %(host)s AND (%(collections)s::text[] IS NULL OR collection = ANY (%(collections)s))
     GROUP BY collection
) AS kind CROSS JOIN LATERAL (
    SELECT * FROM scene
     WHERE host = %(host)s AND collection = kind.collection AND deleted_at IS NULL
       AND captured_at <= %(at)s::timestamptz AND (captured_at < %(at)s::timestamptz OR id > %(after)s)
       AND captured_at BETWEEN %(start)s::timestamptz - kind.longest AND %(end)s::timestamptz + kind.longest
       AND (period && %(period)s::tstzrange) IS TRUE
       AND (%(box)s::box IS NULL
            OR (extent && %(box)s::box OR extent && %(box_across)s::box
                OR extent_across && %(box)s::box OR extent_across && %(box_across)s::box) IS TRUE)
       AND (%(condition)s::jsonpath IS NULL OR properties @@ %(condition)s::jsonpath)
     ORDER BY captured_at DESC, id LIMIT %(limit)s
) AS scene
 ORDER BY captured_at DESC, id LIMIT %(limit)s
""",
    "ids": """
SELECT * FROM scene
 WHERE host = %(host)s AND id = ANY (%(ids)s) AND deleted_at IS NULL AND period && %(period)s::tstzrange
   AND (captured_at < %(at)s::timestamptz OR (captured_at = %(at)s::timestamptz AND id > %(after)s))
   AND (%(collections)s::text[] IS NULL OR collection = ANY (%(collections)s))
   AND (%(condition)s::jsonpath IS NULL OR properties @@ %(condition)s::jsonpath)
 ORDER BY captured_at DESC, id LIMIT %(limit)s
""",
}


class SceneIndex:
    """Searches the scenes of one host in our own database."""

    def __init__(self, connect: Connect, host: str) -> None:
        self._connect = connect
        self._host = host

    async def search(self, query: HostQuery) -> HostPage:
        """Returns one page of matching scenes as STAC items, newest first.

        Footprints meet the query's geometry exactly, not by their boxes. Raises HostFailed for a cursor of another host.
        """
        asked = {"host": self._host, **_parameters(query), **_position(query.cursor)}
        found: list[Row] = []
        read = 0
        async with self._connect() as conn:
            way = await _way(conn, query, asked)
            while True:
                rows = await (await conn.execute(_WAYS[way], asked)).fetchall()
                read += len(rows)
                found += rows if query.geometry is None else touching(rows, query.geometry, footprint="footprint")
                if len(rows) < asked["limit"] or len(found) > query.limit or read >= MAX_READ:
                    break
                asked.update(at=rows[-1]["captured_at"], after=rows[-1]["id"])
        return _page(found, query, rows[-1] if rows else None, ended=len(rows) < asked["limit"])


async def _way(
    conn: AsyncConnection[dict[str, Any]], query: HostQuery, asked: Mapping[str, Any]
) -> Literal["place", "time", "ids"]:
    if query.ids:
        return "ids"
    if query.geometry is None:
        return "time"
    row = await (await conn.execute(_WALKS_BY_TIME, {**asked, "few": FEW})).fetchone()
    return "time" if row is not None and row["yes"] else "place"


def _parameters(query: HostQuery) -> dict[str, Any]:
    box, box_across = (None, None) if query.geometry is None else extents(shape(dict(query.geometry)))
    return {
        "ids": list(query.ids),
        "collections": list(query.collections) or None,
        "period": TimestamptzRange(query.start, query.end, "[]"),
        "bounded": query.start is not None or query.end is not None,
        "start": query.start or "-infinity",
        "end": query.end or "infinity",
        "box": box,
        "box_across": box_across,
        "condition": _condition(query.filters),
        "limit": query.limit + 1,
    }


def _condition(filters: Sequence[PropertyFilter]) -> str | None:
    """Returns the filters as a jsonpath predicate; names and values are JSON texts, which are jsonpath literals."""
    parts = [f"$.{_literal(each.name)} {_COMPARISONS[each.comparison]} {_literal(each.value)}" for each in filters]
    return " && ".join(parts) or None


def _literal(value: float | str) -> str:
    return orjson.dumps(value).decode()


def _position(cursor: str | None) -> dict[str, Any]:
    if cursor is None:
        return {"at": "infinity", "after": ""}
    moment, _, after = cursor.partition("|")
    try:
        return {"at": datetime.fromisoformat(moment), "after": after}
    except ValueError as error:
        raise HostFailed("This is no cursor of this host. Start again without it.", refused=True) from error


def _page(found: list[Row], query: HostQuery, last_read: Row | None, *, ended: bool) -> HostPage:
    page = found[: query.limit]
    items = [_item(row) for row in page]
    if last_read is None or (ended and len(found) <= query.limit):
        return HostPage(features=items, matched=len(page) if query.cursor is None else None)
    last = page[-1] if len(found) > query.limit else last_read
    return HostPage(features=items, cursor=f"{last['captured_at'].isoformat()}|{last['id']}")


def _item(row: Row) -> Item:
    """Returns a scene as a STAC item; its sellers' words are properties of our own."""
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": row["id"],
        "collection": row["collection"],
        "geometry": row["footprint"],
        "bbox": _bbox(row["extent"], row["extent_across"]),
        "properties": {**row["properties"], "geopera:vendor": row["vendor"], "geopera:resolution": row["resolution"]},
        "assets": row["assets"],
        "links": [],
    }


def _bbox(extent: str, across: str | None) -> list[float]:
    east, north, west, south = _corners(extent)
    if across is not None:
        east, north_across, _, south_across = _corners(across)
        north, south = max(north, north_across), min(south, south_across)
    return [west, south, east, north]


def _corners(box: str) -> list[float]:
    return [float(number) for number in box.replace("(", "").replace(")", "").split(",")]
