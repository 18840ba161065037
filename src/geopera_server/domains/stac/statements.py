"""The statements of a search, put together from constant texts; what callers send is in their parameters.

A search either gathers all candidates of a place, a few at most, and sorts them, or walks an index that has the order already.
Candidates lie in subqueries that end after so many rows: the planner cannot mistake what those cost, and looks nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from psycopg.types.json import Jsonb

from geopera_server.domains.stac.conditions import COVERED, Condition, certain, decided_by_sql, possible
from geopera_server.domains.stac.ordering import Position, as_texts, beyond, by_time, ordered, selected
from geopera_server.domains.stac.wanted import Wanted

Drive = Literal["place", "ids", "terms", "newest", "all"]
Segment = Literal["timed", "untimed"]

_SHIFT = " + point((SELECT search_slot FROM organization WHERE id = %(organization)s::uuid) * 400.0, 0)"
_NEAR = (
    "SELECT * FROM items_near(%(near)s::box" + _SHIFT + ", %(near_across)s::box" + _SHIFT + ","
    " %(during)s::tstzrange, %(most)s::bigint)"
)
_OF_ORGANIZATION = " FROM item WHERE organization_id = %(organization)s::uuid AND deleted_at IS NULL"
_OF_COLLECTION = " FROM item WHERE collection_id = %(collection)s::uuid AND deleted_at IS NULL"
_LONGEST = (
    "coalesce((SELECT max(lasts) FROM item WHERE organization_id = %(organization)s::uuid AND deleted_at IS NULL"
    " AND lasts > interval '0'), interval '0')"
)
_WITHIN = (
    " AND datetime >= %(start)s::timestamptz - " + _LONGEST + " AND datetime <= %(end)s::timestamptz + " + _LONGEST
)  # fmt: skip
_NEAR_ALONE = "near AS i WHERE i.met AND "
_NEAR_READ = "near JOIN item i ON i.id = near.id WHERE near.met AND "
_MOST = " LIMIT %(most)s::bigint"
_FEATURE = "f.body, f.files, f.version"
_PAGE_OF_WALK = (
    "SELECT p.n, p.id, p.stac_id, ",
    " AS keys, p.certain, p.decided, CASE WHEN NOT p.certain THEN (SELECT geometry FROM item g WHERE g.id = p.id) END"
    " AS geometry, " + _FEATURE + " FROM (",
    ") p LEFT JOIN item_feature f ON f.item_id = p.id",
)


def gathering(wanted: Wanted, drive: Drive, *, after: Position | None, settled: bool) -> str:
    """Returns the statement that collects candidates, and answers with totals first and then one page of matches.

    Once `settled`, what had to be looked at closely has been: `refuted` names what does not match.
    """
    where = possible(wanted.condition, skipping=_known_by_place(wanted) if drive == "place" else ())
    place = "" if after is None else " WHERE " + beyond(wanted.bindings, wanted.order, after)
    source = _candidates(wanted, drive)
    met = "(SELECT count(*) FROM near" + (" WHERE near.met)" if drive == "place" else ")")
    joined = "near AS i WHERE " if drive != "place" else _NEAR_ALONE if is_covered(wanted) else _NEAR_READ
    return (
        "WITH near AS MATERIALIZED (" + source + "), found AS MATERIALIZED ("
        "SELECT " + _found(wanted, settled=settled) + ""
        " FROM " + joined + where + (" AND i.id <> ALL (%(refuted)s::uuid[])" if settled else "") + "),"
        " page AS (SELECT *, row_number() OVER (ORDER BY " + ordered(wanted.order) + ") AS n FROM found" + place + ""
        " ORDER BY " + ordered(wanted.order) + " OFFSET %(offset)s::bigint LIMIT %(limit)s::bigint)"
        " SELECT 0 AS n, NULL::uuid AS id, NULL::text AS stac_id, NULL::text[] AS keys, NULL::text AS body,"
        " NULL::jsonb AS files, NULL::bigint AS version, (SELECT count(*) FROM near) AS looked, " + met + " AS met,"
        " (SELECT count(*) FROM found) AS matched, (SELECT jsonb_agg(jsonb_build_array(u.id, u.decided,"
        " (SELECT geometry FROM item g WHERE g.id = u.id))) FROM found u WHERE NOT u.certain) AS unsure"
        " UNION ALL SELECT p.n, p.id, p.stac_id, " + as_texts(wanted.order) + ", " + _FEATURE + ", NULL, NULL, NULL, NULL"
        " FROM page p LEFT JOIN item_feature f ON f.item_id = p.id"
    )


def walking(wanted: Wanted, segment: Segment, *, after: Position | None) -> str:
    """Returns the statement that goes through items in order of time and answers with the first matches, without totals."""
    return (
        _PAGE_OF_WALK[0] + as_texts(wanted.order) + _PAGE_OF_WALK[1] + "SELECT w.*, row_number() OVER () AS n FROM ("
        "SELECT " + _found(wanted) + " FROM (" + _in_order(wanted, segment, after) + ") i"
        " WHERE " + possible(wanted.condition) + " LIMIT %(limit)s::bigint) w" + _PAGE_OF_WALK[2]
    )


def walking_cells(wanted: Wanted, segment: Segment, *, after: Position | None) -> str:
    """Returns the statement that goes through the cells around an area, each in order of time, and answers like `walking`.

    Only what lies in the area at the right time is read from the items themselves, if anything has to be.
    """
    condition, order = wanted.condition, ordered(wanted.order)
    cell = (
        " FROM item i WHERE i.organization_id = %(organization)s::uuid AND i.cell = c.cell AND i.deleted_at IS NULL"
        "" + _bounds(wanted, segment, after)
    )
    if wanted.bindings.columns <= {*COVERED, "period"}:
        # IS TRUE keeps the planner from the spatial index, which has no order.
        met = " AND (" + possible(condition) + ") IS TRUE"
        first = "SELECT " + _found(wanted) + cell + met + _direction(wanted, segment, "i.")
    else:
        first = (
            "SELECT " + _found(wanted) + " FROM (SELECT i.id, i.stac_id, i.datetime" + cell + " AND (" + _met(wanted) + ")"
            " IS TRUE" + _direction(wanted, segment, "i.") + " OFFSET 0) w CROSS JOIN LATERAL"
            " (SELECT * FROM item t WHERE t.id = w.id OFFSET 0) i WHERE " + possible(condition) + ""
            "" + _direction(wanted, segment, "w.")
        )
    return (
        _PAGE_OF_WALK[0] + as_texts(wanted.order) + _PAGE_OF_WALK[1] + "SELECT s.*, row_number() OVER (ORDER BY " + order + ")"
        " AS n FROM cells_around(%(organization)s::uuid, %(areas)s::box[]) AS c (cell) CROSS JOIN LATERAL ("
        + first
        + " LIMIT %(limit)s::bigint) s"
        " ORDER BY " + order + " LIMIT %(limit)s::bigint" + _PAGE_OF_WALK[2]
    )


def last_walked(wanted: Wanted, segment: Segment, *, after: Position | None) -> str:
    """Returns the statement that names the last item that `walking` goes through, if there are as many."""
    return (
        "SELECT w.datetime::text AS datetime, w.stac_id, w.id FROM ("
        "" + _in_order(wanted, segment, after, columns="id, stac_id, datetime") + ") w"
        " OFFSET %(most)s::bigint - 1"
    )


def counting(wanted: Wanted) -> str:
    """Returns the statement that counts matches among the first items in order of time, and how many those are."""
    return (
        "SELECT count(*) AS looked, count(*) FILTER (WHERE " + possible(wanted.condition) + ") AS matched"
        " FROM (" + _newest(wanted) + ") i"
    )


def is_covered(wanted: Wanted) -> bool:
    """Says whether the spatial index holds all that a search asks of items."""
    return wanted.bindings.columns <= COVERED and (wanted.timed is None or wanted.timed.during == wanted.window)


def _known_by_place(wanted: Wanted) -> list[Condition]:
    """What holds for everything that `items_near` finds: its box, and its time unless the interval is not all there was."""
    known = [wanted.near, wanted.timed if wanted.timed is not None and wanted.timed.during == wanted.window else None]
    return [each for each in known if each is not None]


def _found(wanted: Wanted, *, settled: bool = False) -> str:
    """The select list of matches: what they are sorted by, and how certain they are."""
    texts = ["(" + possible(each) + ") IS TRUE" for each in decided_by_sql(wanted.condition)]
    sure = ", true AS certain" if settled else ", coalesce(" + certain(wanted.condition) + ", false) AS certain"
    return "i.id, i.stac_id" + selected(wanted.order) + sure + ", ARRAY[" + ", ".join(texts) + "]::boolean[] AS decided"


def _candidates(wanted: Wanted, drive: Drive) -> str:
    if drive == "place":
        return _NEAR
    if drive == "newest":
        return _newest(wanted)
    text = "SELECT " + _columns(wanted) + (_OF_ORGANIZATION if wanted.collection_id is None else _OF_COLLECTION)
    if drive == "terms":
        return text + "".join(_having(wanted, *each) for each in wanted.terms) + " LIMIT %(most)s::bigint"
    return text + (" AND stac_id = ANY (%(ids)s::text[])" if drive == "ids" else "")


def _having(wanted: Wanted, name: str, values: Sequence[float | str | bool]) -> str:
    named, given = wanted.bindings.bind(name), wanted.bindings.bind(Jsonb(list(values)))
    return (
        " AND terms && ARRAY(SELECT search_term(%(organization)s::uuid, " + named + "::text, v.value)"
        " FROM jsonb_array_elements(" + given + "::jsonb) AS v (value))"
    )


def _newest(wanted: Wanted) -> str:
    """The first items in order of time that may meet the interval, those without a nominal time among them."""
    if wanted.start is None and wanted.end is None:
        return _in_order(wanted, "any", None)
    return "(" + _in_order(wanted, "timed", None) + ") UNION ALL (" + _in_order(wanted, "untimed", None) + ")"


def _in_order(wanted: Wanted, segment: Segment | Literal["any"], after: Position | None, columns: str | None = None) -> str:
    source = _OF_ORGANIZATION if wanted.collection_id is None else _OF_COLLECTION
    bounds = "" if segment == "any" else _bounds(wanted, segment, after)
    return "SELECT " + (columns or _columns(wanted)) + source + bounds + _direction(wanted, segment) + _MOST


def _bounds(wanted: Wanted, segment: Segment, after: Position | None) -> str:
    if segment == "untimed":
        return " AND datetime IS NULL" + ("" if after is None else _BEHIND)
    text = " AND datetime IS NOT NULL"
    if wanted.start is not None or wanted.end is not None:
        text += _WITHIN
    return text + ("" if after is None else _AFTER if _upwards(wanted) else _BEFORE)


def _direction(wanted: Wanted, segment: Segment | Literal["any"], alias: str = "") -> str:
    way = " ASC NULLS FIRST, " if _upwards(wanted) and segment == "timed" else " DESC NULLS LAST, "
    return " ORDER BY " + alias + "datetime" + way + alias + 'stac_id COLLATE "C", ' + alias + "id"


def _upwards(wanted: Wanted) -> bool:
    return by_time(wanted.order) and not wanted.order[0].descending


def _met(wanted: Wanted) -> str:
    """What the index by cell can tell of an area and a time."""
    known = [wanted.near, wanted.timed]
    return " AND ".join(possible(each) for each in known if each is not None)


_BEHIND = ' AND (stac_id COLLATE "C", id) > (%(after_stac_id)s::text, %(after_id)s::uuid)'
_TIE = ' datetime = %(after_time)s::timestamptz AND (stac_id COLLATE "C", id) > (%(after_stac_id)s::text, %(after_id)s::uuid)'
_BEFORE = " AND datetime <= %(after_time)s::timestamptz AND (datetime < %(after_time)s::timestamptz OR" + _TIE + ")"
_AFTER = " AND datetime >= %(after_time)s::timestamptz AND (datetime > %(after_time)s::timestamptz OR" + _TIE + ")"


def _columns(wanted: Wanted) -> str:
    return ", ".join(sorted({"id", "stac_id", "datetime", "period", *wanted.bindings.columns}))
