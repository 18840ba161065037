"""The lineage records as a chain: written at once, linked by hashes afterwards.

A record carries its own digest when it is written. The link to its predecessor is made later by one sealer, in the order in
which commits became visible, so that two calls of one organization never wait for each other; each sealed block is signed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from geopera_server.kernel.context import Context
from geopera_server.kernel.lineage import LineageRecord
from geopera_server.kernel.sealing import SealingKey
from geopera_server.values.batches import batched
from geopera_server.values.clock import iso, now
from geopera_server.values.encoding import canonical, dumps

GENESIS = "0" * 64
WRITTEN_AT_ONCE = 1_000
_SEALER_LOCK = 0x6765_6F70_5345_414C
_FIELDS = (
    "organization_id", "invocation_id", "operation_id", "principal_type", "principal_id", "kind", "entity_type",
    "entity_id", "parents", "digest_before", "digest_after",
)  # fmt: skip

Row = Mapping[str, Any]


def record_digest(row: Row) -> str:
    """Returns the digest of all that a record states."""
    stated = {name: row[name] for name in _FIELDS} | {"recorded_at": iso(row["recorded_at"])}
    return hashlib.sha256(canonical(stated)).hexdigest()


def link_hash(prev_hash: str, seq: int, digest: str) -> str:
    """Returns the hash that ties a record to its place in the chain."""
    return hashlib.sha256(f"{prev_hash}:{seq}:{digest}".encode()).hexdigest()


_INSERT = (
    "WITH written AS (INSERT INTO lineage_record (organization_id, invocation_id, operation_id, principal_type,"
    " principal_id, kind, entity_type, entity_id, parents, digest_before, digest_after, recorded_at, record_digest) "
)
_WITH_EDGES = (
    " RETURNING id, organization_id, entity_type, entity_id, parents)"
    " INSERT INTO lineage_edge SELECT w.id, w.organization_id, w.entity_type, w.entity_id,"
    " p ->> 'entity_type', p ->> 'entity_id' FROM written w, jsonb_array_elements(w.parents) p"
)
_WRITE_ONE = (
    _INSERT + "VALUES (%(organization_id)s, %(invocation_id)s, %(operation_id)s, %(principal_type)s, %(principal_id)s,"
    " %(kind)s, %(entity_type)s, %(entity_id)s, %(parents)s, %(digest_before)s, %(digest_after)s, %(recorded_at)s,"
    " %(record_digest)s)" + _WITH_EDGES
)
# One document for several records: their order is that of their ids, in which they are sealed. For one it is the slower way.
_WRITE_SEVERAL = (
    _INSERT + "SELECT r.organization_id, %(invocation_id)s, %(operation_id)s, %(principal_type)s, %(principal_id)s, r.kind,"
    " r.entity_type, r.entity_id, r.parents, r.digest_before, r.digest_after, %(recorded_at)s, r.record_digest"
    " FROM ROWS FROM (json_to_recordset(%(records)s::json) AS (organization_id uuid, kind text, entity_type text,"
    " entity_id text, parents jsonb, digest_before text, digest_after text, record_digest text)) WITH ORDINALITY AS r"
    " (organization_id, kind, entity_type, entity_id, parents, digest_before, digest_after, record_digest, number)"
    " ORDER BY r.number" + _WITH_EDGES
)


async def write_records(ctx: Context) -> None:
    """Writes the records and edges of a call; their place in the chain comes later."""
    about: dict[str, Any] = {
        "invocation_id": ctx.invocation_id,
        "operation_id": ctx.operation_id,
        "principal_type": ctx.principal.kind,
        "principal_id": ctx.principal.id,
        "recorded_at": ctx.now,
    }
    for records in batched(ctx.lineage.records, WRITTEN_AT_ONCE):
        rows = [_as_row(ctx, about, record) for record in records]
        if len(rows) == 1:
            await ctx.conn.execute(_WRITE_ONE, {**about, **rows[0], "parents": Jsonb(rows[0]["parents"])})
        else:
            await ctx.conn.execute(_WRITE_SEVERAL, {**about, "records": dumps(rows).decode()})


def _as_row(ctx: Context, about: Row, record: LineageRecord) -> dict[str, Any]:
    row = {
        # Named before it is asked for: an operator who acts on another organization may have none.
        "organization_id": record.organization_id or ctx.organization_id,
        "kind": record.kind,
        "entity_type": record.entity[0],
        "entity_id": record.entity[1],
        "parents": [{"entity_type": kind, "entity_id": entity_id} for kind, entity_id in record.parents],
        "digest_before": record.digest_before,
        "digest_after": record.digest_after,
    }
    return {**row, "record_digest": record_digest({**about, **row})}


def seal_message(organization_id: str, from_seq: int, to_seq: int, head_hash: str) -> bytes:
    """Returns what the platform signs for one block."""
    return f"geopera-lineage-v1:{organization_id}:{from_seq}:{to_seq}:{head_hash}".encode()


async def seal(conn: AsyncConnection[dict[str, Any]], key: SealingKey, *, at_most: int = 1_000) -> int:
    """Links and signs the records that have become visible, and returns how many; 0 also while another sealer is at it."""
    async with conn.transaction():
        taken = await (await conn.execute("SELECT pg_try_advisory_xact_lock(%s) AS taken", (_SEALER_LOCK,))).fetchone()
        if taken is None or not taken["taken"]:
            return 0
        rows = await (
            await conn.execute(
                "SELECT id, organization_id, record_digest FROM lineage_record WHERE seq IS NULL"
                " ORDER BY organization_id, id LIMIT %s",
                (at_most,),
            )
        ).fetchall()
        for organization_id, block in groupby(rows, key=lambda row: str(row["organization_id"])):
            await _seal_block(conn, key, organization_id, list(block))
        return len(rows)


async def _seal_block(
    conn: AsyncConnection[dict[str, Any]], key: SealingKey, organization_id: str, block: Sequence[Row]
) -> None:
    head = await (
        await conn.execute("SELECT seq, hash FROM lineage_head WHERE organization_id = %s", (organization_id,))
    ).fetchone()
    seq, hash_ = (head["seq"], head["hash"]) if head else (0, GENESIS)
    from_seq, links = seq + 1, []
    for row in block:
        seq, prev_hash = seq + 1, hash_
        hash_ = link_hash(prev_hash, seq, row["record_digest"])
        links.append((seq, prev_hash, hash_, row["id"]))
    async with conn.cursor() as cursor:
        await cursor.executemany("UPDATE lineage_record SET seq = %s, prev_hash = %s, hash = %s WHERE id = %s", links)
    await conn.execute(
        "INSERT INTO lineage_head VALUES (%s, %s, %s)"
        " ON CONFLICT (organization_id) DO UPDATE SET seq = EXCLUDED.seq, hash = EXCLUDED.hash",
        (organization_id, seq, hash_),
    )
    signature = key.sign(seal_message(organization_id, from_seq, seq, hash_))
    await conn.execute(
        "INSERT INTO lineage_seal VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (organization_id, from_seq, seq, hash_, now(), key.id, signature),
    )


def breaks_in(rows: Sequence[Row], *, expected_prev: str | None, expected_seq: int | None) -> list[dict[str, Any]]:
    """Returns where a run of sealed records is not what was sealed: altered, unlinked, missing.

    `expected_prev` and `expected_seq` are what the first record must build on; None where the run starts in the middle.
    """
    found: list[dict[str, Any]] = []
    for row in rows:
        if expected_seq is not None and row["seq"] != expected_seq:
            found.append({"seq": expected_seq, "reason": "record missing"})
        elif expected_prev is not None and row["prev_hash"] != expected_prev:
            found.append({"seq": row["seq"], "reason": "link to the previous record broken"})
        if record_digest(row) != row["record_digest"]:
            found.append({"seq": row["seq"], "reason": "record altered"})
        elif link_hash(row["prev_hash"], row["seq"], row["record_digest"]) != row["hash"]:
            found.append({"seq": row["seq"], "reason": "hash does not match the record"})
        expected_prev, expected_seq = row["hash"], row["seq"] + 1
    return found
