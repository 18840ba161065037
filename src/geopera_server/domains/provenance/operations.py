"""Asking where data came from, and whether the answer can be believed."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from geopera_server.domains.provenance import store
from geopera_server.domains.provenance.graph import MAX_NODES, Edge, check_kind, far_ends, root_organization, walk
from geopera_server.domains.provenance.verification import Findings, head_of, verify_artifact, verify_chain
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import InvalidInput
from geopera_server.kernel.operation import operation

RELATION = "derived-from"
LAST_SEQ = 2**53
_EXAMPLE = {"entity_type": "item", "entity_id": "0192d3c4-0000-7000-8000-000000000000"}


class LineageGetInput(BaseModel):
    """Which artifact, which way, and how far."""

    entity_type: str
    entity_id: str
    direction: Literal["up", "down", "both"] = "up"
    max_depth: int = Field(20, ge=1, le=50)


class LineageNode(BaseModel):
    """An artifact that was reached, and how many steps away it is."""

    entity_type: str
    entity_id: str
    depth: int


class LineageEdge(BaseModel):
    """That one artifact was derived from another, and the call that said so."""

    model_config = ConfigDict(extra="allow")

    src_type: str
    src_id: str
    dst_type: str
    dst_id: str
    relation: str
    invocation_id: str
    depth: int
    operation: str
    recorded_at: datetime


class LineageGetOutput(BaseModel):
    """The lineage of an artifact; the root is not among the nodes."""

    root: dict[str, str]
    direction: str
    nodes: list[LineageNode] = Field(default_factory=list)
    edges: list[LineageEdge] = Field(default_factory=list)


@operation("provenance.get", effect="read", scope="provenance:read", snapshot=True, example=_EXAMPLE)
async def get(ctx: Context, given: LineageGetInput) -> LineageGetOutput:
    """Walks from an artifact towards its origins, towards what was made from it, or both ways.

    At most 5,000 artifacts, the nearest ones, each once with its least number of steps.
    """
    root = (check_kind(given.entity_type), given.entity_id)
    organization_id = await root_organization(ctx.conn, ctx.principal, root)
    ctx.touch(*root)
    depths: dict[tuple[str, str], int] = {}
    edges: list[Edge] = []
    for up in _ways(given.direction):
        left = MAX_NODES - len(depths)
        found = await walk(ctx.conn, organization_id, root, up=up, max_depth=given.max_depth, max_nodes=left)
        edges += found
        depths |= {node: depth for node, depth in far_ends(found, up=up).items() if node != root}
    return LineageGetOutput(
        root={"entity_type": root[0], "entity_id": root[1]},
        direction=given.direction,
        nodes=[LineageNode(entity_type=kind, entity_id=id_, depth=depth) for (kind, id_), depth in depths.items()],
        edges=[_as_edge(edge) for edge in edges],
    )


def _ways(direction: str) -> tuple[bool, ...]:
    return {"up": (True,), "down": (False,), "both": (True, False)}[direction]


def _as_edge(edge: Edge) -> LineageEdge:
    return LineageEdge(
        src_type=edge.src[0],
        src_id=edge.src[1],
        dst_type=edge.dst[0],
        dst_id=edge.dst[1],
        relation=RELATION,
        invocation_id=edge.invocation_id,
        depth=edge.depth,
        operation=edge.operation_id,
        recorded_at=edge.recorded_at,
    )


class LineageHistoryInput(BaseModel):
    """Which artifact."""

    entity_type: str
    entity_id: str


class LineageRecordOutput(TypedDict):
    """One statement about an artifact; its place in the chain is null until it is sealed, within a second or so."""

    seq: int | None
    kind: str
    operation: str
    invocation_id: str
    principal_type: str
    principal_id: str | None
    parents: list[dict[str, str]]
    digest_before: str | None
    digest_after: str
    recorded_at: datetime
    hash: str | None


class LineageHistory(TypedDict):
    """All that was recorded about an artifact, oldest first."""

    entity_type: str
    entity_id: str
    records: list[LineageRecordOutput]


@operation("provenance.history", effect="read", scope="provenance:read", raw=True, extension=True, example=_EXAMPLE)
async def history(ctx: Context, given: LineageHistoryInput) -> LineageHistory:
    """Returns every record about an artifact, oldest first; deleted artifacts keep theirs."""
    root = (check_kind(given.entity_type), given.entity_id)
    organization_id = await root_organization(ctx.conn, ctx.principal, root)
    ctx.touch(*root)
    rows = await store.history_of(ctx.conn, organization_id, *root)
    return LineageHistory(entity_type=root[0], entity_id=root[1], records=[_as_record(row) for row in rows])


def _as_record(row: dict[str, Any]) -> LineageRecordOutput:
    return LineageRecordOutput(
        seq=row["seq"],
        kind=row["kind"],
        operation=row["operation_id"],
        invocation_id=row["invocation_id"],
        principal_type=row["principal_type"],
        principal_id=row["principal_id"],
        parents=row["parents"],
        digest_before=row["digest_before"],
        digest_after=row["digest_after"],
        recorded_at=row["recorded_at"],
        hash=row["hash"],
    )


class LineageVerifyInput(BaseModel):
    """One artifact, or a stretch of the organization's chain; neither means all of it."""

    entity_type: str | None = None
    entity_id: str | None = None
    from_seq: int | None = Field(None, ge=1, le=LAST_SEQ)
    to_seq: int | None = Field(None, ge=1, le=LAST_SEQ)


class ChainHead(TypedDict):
    """Where the chain ends; sequence 0 before anything was sealed."""

    seq: int
    hash: str | None
    signed_at: datetime | None


class ChainBreak(TypedDict):
    """Something that is not as it was recorded; a record that is not sealed yet has no sequence."""

    seq: int | None
    reason: str


class LineageVerdict(TypedDict):
    """Whether the lineage is what was recorded; `digest_matches` compares the newest record with the live artifact."""

    ok: bool
    checked: int
    head: ChainHead
    breaks: list[ChainBreak]
    digest_matches: bool | None


@operation(
    "provenance.verify", effect="read", scope="provenance:read", raw=True, extension=True, snapshot=True, example=_EXAMPLE
)
async def verify(ctx: Context, given: LineageVerifyInput) -> LineageVerdict:
    """Recomputes hashes, links and signatures of the lineage, and compares an artifact with its newest record.

    For an artifact, the sealed blocks that hold its records are verified; without one, the whole chain of the organization.
    """
    _check_choice(given)
    if given.entity_type is None or given.entity_id is None:
        organization_id, matches = ctx.organization_id, None
        findings = await verify_chain(ctx.conn, ctx.secrets, organization_id, from_seq=given.from_seq, to_seq=given.to_seq)
    else:
        root = (check_kind(given.entity_type), given.entity_id)
        organization_id = await root_organization(ctx.conn, ctx.principal, root)
        ctx.touch(*root)
        findings, matches = await verify_artifact(ctx.conn, ctx.secrets, organization_id, root)
    return await _verdict(ctx, organization_id, findings, matches=matches)


async def _verdict(ctx: Context, organization_id: str, findings: Findings, *, matches: bool | None) -> LineageVerdict:
    head = await head_of(ctx.conn, organization_id)
    return LineageVerdict(
        ok=not findings.breaks and matches is not False,
        checked=findings.checked,
        head=ChainHead(seq=head.seq, hash=head.hash, signed_at=head.signed_at),
        breaks=[ChainBreak(seq=each["seq"], reason=each["reason"]) for each in findings.breaks],
        digest_matches=matches,
    )


def _check_choice(given: LineageVerifyInput) -> None:
    if (given.entity_type is None) != (given.entity_id is None):
        missing = "entity_id" if given.entity_id is None else "entity_type"
        raise InvalidInput("An artifact is named by entity_type and entity_id together.", loc=(missing,))
    if given.entity_type is not None and (given.from_seq is not None or given.to_seq is not None):
        raise InvalidInput("Name an artifact or a stretch of the chain, not both.", loc=("from_seq",))
    if given.from_seq is not None and given.to_seq is not None and given.to_seq < given.from_seq:
        raise InvalidInput("to_seq must not lie before from_seq.", loc=("to_seq",))
