"""Whether the lineage is still what was recorded: digests, links, graph, signatures, end of the chain, and the live rows.

A record is safe against change as soon as it is sealed: its digest is linked into the chain, and the chain's end is signed.
Records that wait for the sealer, for a second or so, are held against their own digest only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.provenance import store
from geopera_server.domains.provenance.live import live_states
from geopera_server.kernel.chain import GENESIS, breaks_in, record_digest, seal_message
from geopera_server.kernel.lineage import Node, digest
from geopera_server.ports import Secrets
from geopera_server.values.ids import is_id

BATCH = 2_000
_OTHER_GRAPH = "the graph shows other origins than the record"
_NEVER_RECORDED = frozenset({"capture", "aoi", "report"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where the chain ends; sequence 0 and no hash before anything was sealed."""

    seq: int
    hash: str | None
    signed_at: datetime | None


@dataclass(slots=True)
class Findings:
    """What was looked at, and what is wrong with it."""

    checked: int = 0
    breaks: list[dict[str, Any]] = field(default_factory=list)

    def add(self, seq: int | None, reason: str) -> None:
        self.breaks.append({"seq": seq, "reason": reason})


async def head_of(conn: Connection, organization_id: str) -> Head:
    """Returns where an organization's chain ends."""
    row = await store.head_of(conn, organization_id)
    return Head(seq=0, hash=None, signed_at=None) if row is None else Head(**row)


async def verify_chain(
    conn: Connection, secrets: Secrets, organization_id: str, *, from_seq: int | None = None, to_seq: int | None = None
) -> Findings:
    """Verifies an organization's records from one sequence to another, both included; without them, all there are."""
    findings = Findings()
    head = await head_of(conn, organization_id)
    last = head.seq if to_seq is None else min(to_seq, head.seq)
    await _verify_run(conn, secrets, organization_id, findings, from_seq=from_seq or 1, to_seq=last)
    if to_seq is None or to_seq >= head.seq:
        await _verify_end(conn, organization_id, findings, head)
    if to_seq is None:
        for row in await store.unsealed_records(conn, organization_id):
            _verify_unsealed(row, findings)
    return findings


async def _verify_run(
    conn: Connection, secrets: Secrets, organization_id: str, findings: Findings, *, from_seq: int, to_seq: int
) -> None:
    before = await store.record_at(conn, organization_id, from_seq - 1) if from_seq > 1 else None
    prev = GENESIS if from_seq == 1 else before["hash"] if before is not None else None
    seq = from_seq
    while seq <= to_seq:
        rows = await store.sealed_records(conn, organization_id, from_seq=seq, to_seq=to_seq, most=BATCH)
        findings.breaks += breaks_in(rows, expected_prev=prev, expected_seq=seq)
        for row in rows:
            _verify_edges(row, findings)
        findings.checked += len(rows)
        if len(rows) < BATCH:
            last = rows[-1]["seq"] if rows else seq - 1
            if last < to_seq:
                findings.add(last + 1, "record missing")
            break
        prev, seq = rows[-1]["hash"], rows[-1]["seq"] + 1
    await _verify_seals(conn, secrets, organization_id, findings, from_seq=from_seq, to_seq=to_seq)


def _verify_edges(row: Row, findings: Findings) -> None:
    """The graph repeats what the records state, so that it can be walked; it must not state anything else."""
    stated = sorted(
        [row["entity_type"], row["entity_id"], parent["entity_type"], parent["entity_id"]] for parent in row["parents"]
    )
    if sorted(row["edges"]) != stated:
        findings.add(row["seq"], _OTHER_GRAPH)


async def _verify_seals(
    conn: Connection, secrets: Secrets, organization_id: str, findings: Findings, *, from_seq: int, to_seq: int
) -> None:
    covered = from_seq - 1
    for seal in await store.seals_over(conn, organization_id, from_seq=from_seq, to_seq=to_seq):
        if seal["from_seq"] > covered + 1:
            findings.add(covered + 1, "no seal covers the record")
        message = seal_message(organization_id, seal["from_seq"], seal["to_seq"], seal["head_hash"])
        if not secrets.verifies_seal(message, seal["signature"]):
            findings.add(seal["to_seq"], "the seal's signature is not this deployment's")
        elif seal["record_hash"] != seal["head_hash"]:
            findings.add(seal["to_seq"], "the seal was made over another record")
        covered = seal["to_seq"]
    if covered < to_seq:
        findings.add(covered + 1, "no seal covers the record")


async def _verify_end(conn: Connection, organization_id: str, findings: Findings, head: Head) -> None:
    """The end of the chain is noted twice besides; whoever removes the last records has to forge both."""
    beyond = await store.seals_over(conn, organization_id, from_seq=head.seq + 1, to_seq=2**62)
    if beyond:
        findings.add(head.seq + 1, "a seal covers records beyond the end of the chain")
    if await store.record_at(conn, organization_id, head.seq + 1) is not None:
        findings.add(head.seq + 1, "a record lies beyond the end of the chain")
    last = await store.record_at(conn, organization_id, head.seq)
    if last is not None and last["hash"] != head.hash:
        findings.add(head.seq, "the end of the chain is noted with another hash")


def _verify_unsealed(row: Row, findings: Findings) -> None:
    findings.checked += 1
    if record_digest(row) != row["record_digest"]:
        findings.add(None, "record altered")
    else:
        _verify_edges(row, findings)


async def verify_artifact(conn: Connection, secrets: Secrets, organization_id: str, node: Node) -> tuple[Findings, bool | None]:
    """Verifies the records about one artifact, the blocks they were sealed in, and its content now.

    The second value says whether the newest digest is that of the live row; None where no row is kept of such a kind.
    """
    records = await store.history_of(conn, organization_id, *node)
    findings = Findings()
    for row in records:
        if row["seq"] is None:
            _verify_unsealed(row, findings)
    await _verify_blocks(conn, secrets, organization_id, findings, [row["seq"] for row in records if row["seq"] is not None])
    for row in await store.borrowed_records(conn, organization_id, *node):
        findings.add(row["seq"], _OTHER_GRAPH)
    _verify_story(node, records, findings)
    findings.checked = len(records)
    return findings, await _matches_live_row(conn, organization_id, node, records)


async def _verify_blocks(
    conn: Connection, secrets: Secrets, organization_id: str, findings: Findings, seqs: Sequence[int]
) -> None:
    verified_to = 0
    for seq in seqs:
        if seq <= verified_to:
            continue
        seals = await store.seals_over(conn, organization_id, from_seq=seq, to_seq=seq)
        first, last = (seals[0]["from_seq"], seals[0]["to_seq"]) if seals else (seq, seq)
        await _verify_run(conn, secrets, organization_id, findings, from_seq=first, to_seq=last)
        verified_to = last


def _verify_story(node: Node, records: Sequence[Row], findings: Findings) -> None:
    """The story of an artifact begins with how it came about, and each change with the content that the last one left."""
    if (not records and node[0] not in _NEVER_RECORDED) or (records and records[0]["kind"] != "edge"):
        findings.add(None, "no record says how this came about")
    left: str | None = None
    for row in records:
        if row["digest_before"] is not None and row["digest_before"] != (left or row["digest_before"]):
            findings.add(row["seq"], "the content before this change is not what was recorded before it")
        left = row["digest_after"]


async def _matches_live_row(conn: Connection, organization_id: str, node: Node, records: Sequence[Row]) -> bool | None:
    kind, entity_id = node
    reader = live_states().get(kind)
    if reader is None or not records or not is_id(entity_id):
        return None
    state = await reader(conn, organization_id, entity_id)
    if state is None:
        return None if records[-1]["operation_id"].endswith(".delete") else False
    return digest(state) == str(records[-1]["digest_after"])
