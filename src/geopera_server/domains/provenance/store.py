"""The rows of the lineage: the graph of edges, the chain of records, and the seals over it."""

from __future__ import annotations

from typing import Any

from geopera_server.db.pool import Connection, Row

# Rows of a recursive query come level by level, and no further than they are fetched: the inner LIMIT bounds the work.
_WALK = (
    "WITH RECURSIVE visited AS (SELECT %(type)s::text AS type, %(id)s::text AS id, 0 AS depth"
    " UNION SELECT e.far_type, e.far_id, v.depth + 1 FROM visited v"
    " JOIN lineage_edge e ON e.near_type = v.type AND e.near_id = v.id AND e.organization_id = %(organization)s"
    " WHERE v.depth < %(max_depth)s),"
    " reached AS MATERIALIZED (SELECT type, id, min(depth) AS depth FROM (SELECT * FROM visited LIMIT %(most_visits)s) v"
    " GROUP BY type, id ORDER BY min(depth), type, id LIMIT %(most_nodes)s),"
    " found AS (SELECT DISTINCT ON (e.src_type, e.src_id, e.dst_type, e.dst_id) e.*, near.depth + 1 AS depth"
    " FROM reached near"
    " JOIN lineage_edge e ON e.near_type = near.type AND e.near_id = near.id AND e.organization_id = %(organization)s"
    " JOIN reached far ON far.type = e.far_type AND far.id = e.far_id WHERE near.depth < %(max_depth)s"
    " ORDER BY e.src_type, e.src_id, e.dst_type, e.dst_id, e.record_id)"
    " SELECT f.src_type, f.src_id, f.dst_type, f.dst_id, f.depth, r.invocation_id, r.operation_id, r.recorded_at"
    " FROM found f JOIN lineage_record r ON r.id = f.record_id ORDER BY f.depth, f.record_id, f.dst_type, f.dst_id"
)
_WALK_UP = _WALK.replace("near_", "src_").replace("far_", "dst_")
_WALK_DOWN = _WALK.replace("near_", "dst_").replace("far_", "src_")


async def edges_up(conn: Connection, values: dict[str, Any]) -> list[Row]:
    """The edges from an artifact towards its origins, each once at its least depth."""
    cursor = await conn.execute(_WALK_UP, values)
    return await cursor.fetchall()


async def edges_down(conn: Connection, values: dict[str, Any]) -> list[Row]:
    """The edges from an artifact towards what was made from it, each once at its least depth."""
    cursor = await conn.execute(_WALK_DOWN, values)
    return await cursor.fetchall()


async def is_known(conn: Connection, organization_id: str, entity_type: str, entity_id: str) -> bool:
    """Whether the organization's lineage speaks of an artifact, as itself or as an origin."""
    cursor = await conn.execute(
        "SELECT EXISTS (SELECT FROM lineage_record WHERE organization_id = %(organization)s AND entity_type = %(type)s"
        " AND entity_id = %(id)s) OR EXISTS (SELECT FROM lineage_edge WHERE organization_id = %(organization)s"
        " AND dst_type = %(type)s AND dst_id = %(id)s) AS known",
        {"organization": organization_id, "type": entity_type, "id": entity_id},
    )
    row = await cursor.fetchone()
    return row is not None and bool(row["known"])


async def organization_behind(conn: Connection, entity_type: str, entity_id: str) -> str | None:
    """Whose an artifact is, for operators, who read everywhere."""
    cursor = await conn.execute(
        "SELECT organization_id FROM lineage_record WHERE entity_type = %s AND entity_id = %s ORDER BY id LIMIT 1",
        (entity_type, entity_id),
    )
    row = await cursor.fetchone()
    return None if row is None else str(row["organization_id"])


_WITH_EDGES = (
    "SELECT r.*, coalesce((SELECT jsonb_agg(jsonb_build_array(e.src_type, e.src_id, e.dst_type, e.dst_id))"
    " FROM lineage_edge e WHERE e.record_id = r.id), '[]') AS edges"
    " FROM lineage_record r WHERE r.organization_id = %(organization)s"
)


async def history_of(conn: Connection, organization_id: str, entity_type: str, entity_id: str) -> list[Row]:
    """All records about one artifact with the graph's edges of each, oldest first."""
    cursor = await conn.execute(
        _WITH_EDGES + " AND r.entity_type = %(type)s AND r.entity_id = %(id)s ORDER BY r.id",
        {"organization": organization_id, "type": entity_type, "id": entity_id},
    )
    return await cursor.fetchall()


async def sealed_records(conn: Connection, organization_id: str, *, from_seq: int, to_seq: int, most: int) -> list[Row]:
    """A run of the chain with the graph's edges of each record, in order."""
    cursor = await conn.execute(
        _WITH_EDGES + " AND r.seq BETWEEN %(from)s AND %(to)s ORDER BY r.seq LIMIT %(most)s",
        {"organization": organization_id, "from": from_seq, "to": to_seq, "most": most},
    )
    return await cursor.fetchall()


async def unsealed_records(conn: Connection, organization_id: str) -> list[Row]:
    """The records that wait for the sealer, with the graph's edges of each."""
    cursor = await conn.execute(_WITH_EDGES + " AND r.seq IS NULL ORDER BY r.id", {"organization": organization_id})
    return await cursor.fetchall()


async def record_at(conn: Connection, organization_id: str, seq: int) -> Row | None:
    """One record of the chain."""
    cursor = await conn.execute("SELECT * FROM lineage_record WHERE organization_id = %s AND seq = %s", (organization_id, seq))
    return await cursor.fetchone()


async def head_of(conn: Connection, organization_id: str) -> Row | None:
    """Where the chain ends according to the sealer, with when that was signed."""
    cursor = await conn.execute(
        "SELECT h.seq, h.hash, (SELECT max(signed_at) FROM lineage_seal s WHERE s.organization_id = h.organization_id)"
        " AS signed_at FROM lineage_head h WHERE h.organization_id = %s",
        (organization_id,),
    )
    return await cursor.fetchone()


async def seals_over(conn: Connection, organization_id: str, *, from_seq: int, to_seq: int) -> list[Row]:
    """The seals that cover any of a run of the chain, in order, with the hash of the record each ends at."""
    cursor = await conn.execute(
        "SELECT s.*, r.hash AS record_hash FROM lineage_seal s LEFT JOIN lineage_record r"
        " ON r.organization_id = s.organization_id AND r.seq = s.to_seq"
        " WHERE s.organization_id = %s AND s.to_seq >= %s AND s.from_seq <= %s ORDER BY s.to_seq",
        (organization_id, from_seq, to_seq),
    )
    return await cursor.fetchall()


async def borrowed_records(conn: Connection, organization_id: str, entity_type: str, entity_id: str) -> list[Row]:
    """The records that the graph names for origins of an artifact although they are about something else."""
    cursor = await conn.execute(
        "SELECT DISTINCT r.seq FROM lineage_edge e JOIN lineage_record r ON r.id = e.record_id"
        " WHERE e.organization_id = %s AND e.src_type = %s AND e.src_id = %s"
        " AND (r.organization_id, r.entity_type, r.entity_id) <> (e.organization_id, e.src_type, e.src_id)",
        (organization_id, entity_type, entity_id),
    )
    return await cursor.fetchall()
