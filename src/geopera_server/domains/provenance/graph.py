"""What an artifact was made from and what was made from it, within one organization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection
from geopera_server.domains.identity.access import reads_everywhere
from geopera_server.domains.provenance import store
from geopera_server.domains.provenance.live import live_states
from geopera_server.kernel.errors import InvalidInput, NotFound
from geopera_server.kernel.lineage import NODE_KINDS, Node
from geopera_server.kernel.principal import Principal
from geopera_server.values.ids import is_id

MAX_NODES = 5_000
_VISITS_PER_NODE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """That `src` was derived from `dst`, `depth` steps from where the walk began, and which call said so."""

    src: Node
    dst: Node
    depth: int
    operation_id: str
    invocation_id: str
    recorded_at: datetime


def check_kind(entity_type: str) -> str:
    """Returns a kind of artifact that lineage speaks of; raises InvalidInput for any other word."""
    if entity_type not in NODE_KINDS:
        known = ", ".join(sorted(NODE_KINDS))
        raise InvalidInput(
            f"There is no kind of artifact {entity_type!r}. Use one of: {known}.",
            loc=("entity_type",),
            code="unknown_field_value",
        )
    return entity_type


async def root_organization(conn: Connection, principal: Principal, root: Node) -> str:
    """Returns the organization whose lineage tells of the artifact, if the caller may read it.

    Everybody of an organization reads all its artifacts, deleted ones by what the lineage kept of them; operators read
    everywhere. Raises NotFound for what neither lineage nor a live row knows.
    """
    own = principal.organization_id
    if own is not None and (await store.is_known(conn, own, *root) or await _lives(conn, own, root)):
        return own
    if reads_everywhere(principal):
        other = await store.organization_behind(conn, *root)
        if other is not None:
            return other
    raise NotFound(root[0].replace("_", " "))


async def _lives(conn: Connection, organization_id: str, root: Node) -> bool:
    kind, entity_id = root
    reader = live_states().get(kind)
    return reader is not None and is_id(entity_id) and await reader(conn, organization_id, entity_id) is not None


async def walk(
    conn: Connection, organization_id: str, root: Node, *, up: bool, max_depth: int, max_nodes: int = MAX_NODES
) -> list[Edge]:
    """Returns the edges met when walking breadth first from the root, nearest first, each once at its least depth.

    Up is towards origins. No more than `max_nodes` artifacts beside the root are reached, the nearest ones.
    """
    values: dict[str, Any] = {
        "organization": organization_id,
        "type": root[0],
        "id": root[1],
        "max_depth": max_depth,
        "most_nodes": max_nodes + 1,
        "most_visits": (max_nodes + 1) * _VISITS_PER_NODE,
    }
    rows = await (store.edges_up(conn, values) if up else store.edges_down(conn, values))
    return [
        Edge(
            src=(row["src_type"], row["src_id"]),
            dst=(row["dst_type"], row["dst_id"]),
            depth=row["depth"],
            operation_id=row["operation_id"],
            invocation_id=row["invocation_id"],
            recorded_at=row["recorded_at"],
        )
        for row in rows
    ]


def far_ends(edges: Sequence[Edge], *, up: bool) -> dict[Node, int]:
    """Returns the artifacts that a walk reached with their least depth, nearest first."""
    found: dict[Node, int] = {}
    for edge in edges:
        found.setdefault(edge.dst if up else edge.src, edge.depth)
    return found
