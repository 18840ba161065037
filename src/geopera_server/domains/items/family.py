"""The relatives of an item as a tree, made of the edges that a walk of its lineage met."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from geopera_server.domains.items.shapes import FamilyNode
from geopera_server.domains.provenance.graph import Edge, far_ends
from geopera_server.kernel.lineage import Node
from geopera_server.values.ids import is_id

FAMILY_DEPTH = 10


def ids_in(edges: Sequence[Edge]) -> list[str]:
    """Returns the ids at both ends of edges that can be those of rows."""
    return sorted({entity_id for edge in edges for _, entity_id in (edge.src, edge.dst) if is_id(entity_id)})


def as_family(root: Node, edges: Sequence[Edge], *, up: bool, names: Mapping[Node, str]) -> list[FamilyNode]:
    """Returns the root's relatives on one side, each followed once, at its least depth."""
    depths = far_ends(edges, up=up)
    by_near: dict[Node, list[Edge]] = defaultdict(list)
    for edge in edges:
        by_near[edge.src if up else edge.dst].append(edge)
    followed: set[Node] = {root}

    def relatives(near: Node) -> list[FamilyNode]:
        return [relative(edge) for edge in by_near[near]]

    def relative(edge: Edge) -> FamilyNode:
        far = edge.dst if up else edge.src
        shown = FamilyNode(
            entity_type=far[0],
            entity_id=far[1],
            name=names.get(far),
            relation="derived-from",
            invocation_id=edge.invocation_id,
            created_at=edge.recorded_at,
        )
        if far not in followed and edge.depth == depths[far]:
            followed.add(far)
            shown["parents" if up else "children"] = relatives(far)
        return shown

    return relatives(root)
