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
_NEWEST_FIRST = ' ORDER BY datetime DESC NULLS LAST, stac_id COLLATE "C", id LIMIT %(most)s::bigint'
_OLDEST_FIRST = ' ORDER BY datetime ASC NULLS FIRST, stac_id COLLATE "C", id LIMIT %(most)s::bigint'
_FEATURE = "f.body, f.files, f.version"


def gathering(wanted: Wanted, drive: Drive, *, after: Position | None, settled: bool) -> str:
    """Returns the statement that collects candidates, and answers with totals first and then one page of matches.

    Once `settled`, what had to be looked at closely has been: `refuted` names what does not match.
    """
    bindings, condition = wanted.bindings, wanted.condition
    where = possible(condition, skipping=_known_by_place(wanted) if drive == "place" else ())
    sure = "true" if settled else certain(condition)
    keys, decided = selected(wanted.order), _decided(wanted)
    place = "" if after is None else " WHERE " + beyond(bindings, wanted.order, after)
    source = _candidates(wanted, drive)
    joined = "near AS i" if drive != "place" or is_covered(wanted) else "near JOIN item i ON i.id = near.id"
    return (
        "WITH near AS MATERIALIZED (" + source + "), found AS MATERIALIZED ("
        "SELECT i.id, i.stac_id" + keys + ", coalesce(" + sure + ", false) AS certain, " + decided + " AS decided"
        " FROM " + joined + " WHERE " + where + (" AND i.id <> ALL (%(refuted)s::uuid[])" if settled else "") + "),"
        " page AS (SELECT *, row_number() OVER (ORDER BY " + ordered(wanted.order) + ") AS n FROM found" + place + ""
        " ORDER BY " + ordered(wanted.order) + " OFFSET %(offset)s::bigint LIMIT %(limit)s::bigint)"
        " SELECT 0 AS n, NULL::uuid AS id, NULL::text AS stac_id, NULL::text[] AS keys, NULL::text AS body,"
        " NULL::jsonb AS files, NULL::bigint AS version, (SELECT count(*) FROM near) AS looked,"
        " (SELECT count(*) FROM found) AS matched, (SELECT jsonb_agg(jsonb_build_array(u.id, u.decided,"
        " (SELECT geometry FROM item g WHERE g.id = u.id))) FROM found u WHERE NOT u.certain) AS unsure"
        " UNION ALL SELECT p.n, p.id, p.stac_id, " + as_texts(wanted.order) + ", " + _FEATURE + ", NULL, NULL, NULL"
        " FROM page p LEFT JOIN item_feature f ON f.item_id = p.id"
    )


def walking(wanted: Wanted, segment: Segment, *, after: Position | None) -> str:
    """Returns the statement that goes through items in order of time and answers with the first matches, without totals."""
    keys = selected(wanted.order)
    return (
        "SELECT p.n, p.id, p.stac_id, " + as_texts(wanted.order) + " AS keys, p.certain, p.decided, CASE WHEN NOT p.certain"
        " THEN (SELECT geometry FROM item g WHERE g.id = p.id) END AS geometry, " + _FEATURE + ""
        " FROM (SELECT w.*, row_number() OVER () AS n FROM (SELECT i.id, i.stac_id" + keys + ","
        " coalesce(" + certain(wanted.condition) + ", false) AS certain, " + _decided(wanted) + " AS decided"
        " FROM (" + _in_order(wanted, segment, after) + ") i WHERE " + possible(wanted.condition) + ""
        " OFFSET %(offset)s::bigint LIMIT %(limit)s::bigint) w) p LEFT JOIN item_feature f ON f.item_id = p.id"
    )


def last_walked(wanted: Wanted, segment: Segment, *, after: Position | None) -> str:
    """Returns the statement that says how many items `walking` may have gone through, and which was the last."""
    return (
        "SELECT count(*) AS looked, (array_agg(w.datetime::text))[count(*)] AS datetime,"
        " (array_agg(w.stac_id))[count(*)] AS stac_id, (array_agg(w.id))[count(*)] AS id"
        " FROM (" + _in_order(wanted, segment, after, columns="id, stac_id, datetime") + ") w"
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


def _decided(wanted: Wanted) -> str:
    texts = ["(" + possible(each) + ") IS TRUE" for each in decided_by_sql(wanted.condition)]
    return "ARRAY[" + ", ".join(texts) + "]::boolean[]"


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
    text = "SELECT " + (columns or _columns(wanted))
    text += _OF_ORGANIZATION if wanted.collection_id is None else _OF_COLLECTION
    upwards = by_time(wanted.order) and not wanted.order[0].descending
    if segment == "untimed":
        text += " AND datetime IS NULL"
        if after is not None:
            text += ' AND (stac_id COLLATE "C", id) > (%(after_stac_id)s::text, %(after_id)s::uuid)'
        return text + _NEWEST_FIRST
    if segment == "timed":
        text += " AND datetime IS NOT NULL"
        if wanted.start is not None or wanted.end is not None:
            text += _WITHIN
        if after is not None:
            text += _BEFORE if not upwards else _AFTER
    return text + (_OLDEST_FIRST if upwards and segment == "timed" else _NEWEST_FIRST)


_TIE = ' datetime = %(after_time)s::timestamptz AND (stac_id COLLATE "C", id) > (%(after_stac_id)s::text, %(after_id)s::uuid)'
_BEFORE = " AND datetime <= %(after_time)s::timestamptz AND (datetime < %(after_time)s::timestamptz OR" + _TIE + ")"
_AFTER = " AND datetime >= %(after_time)s::timestamptz AND (datetime > %(after_time)s::timestamptz OR" + _TIE + ")"


def _columns(wanted: Wanted) -> str:
    return ", ".join(sorted({"id", "stac_id", "datetime", "period", *wanted.bindings.columns}))
