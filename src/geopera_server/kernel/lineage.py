"""The lineage a call records about the artifacts it made or changed.

An edge says that an artifact was derived from parents; an event says that an artifact changed and has no new parent. Each
holds the digest of the artifact's content, so that a later reader can tell whether the live row is still what was recorded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from geopera_server.values.encoding import canonical

NODE_KINDS = frozenset(
    {
        "order", "item", "asset", "collection", "project", "processing_job", "share_link", "upload", "capture", "aoi",
        "quotation", "feasibility_option", "report",
    }
)  # fmt: skip

Node = tuple[str, str]


def digest(state: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of the canonical JSON of a content, in hex."""
    return hashlib.sha256(canonical(state)).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageRecord:
    """One statement about one artifact, as the call made it."""

    kind: Literal["edge", "event"]
    entity: Node
    parents: tuple[Node, ...] = ()
    digest_before: str | None = None
    digest_after: str
    organization_id: str | None = None


@dataclass(slots=True)
class Lineage:
    """Collects what a call has to say; the pipeline writes and checks it before the commit.

    It is said to the caller's organization, unless an operator acts on another one.
    """

    records: list[LineageRecord] = field(default_factory=list)

    def edge(self, entity: Node, *, state: Mapping[str, Any], parents: Iterable[Node] = ()) -> None:
        """Records that an artifact with this content came into being from the parents (none: a root)."""
        _check(entity)
        self.records.append(LineageRecord(kind="edge", entity=entity, parents=tuple(parents), digest_after=digest(state)))

    def event(
        self, entity: Node, *, before: Mapping[str, Any], after: Mapping[str, Any], organization_id: str | None = None
    ) -> None:
        """Records that an artifact changed from one content to another."""
        _check(entity)
        self.records.append(
            LineageRecord(
                kind="event",
                entity=entity,
                digest_before=digest(before),
                digest_after=digest(after),
                organization_id=organization_id,
            )
        )

    def missing(self, produces: Iterable[str]) -> list[str]:
        """Returns the declared artifact kinds that no record speaks of."""
        spoken_of = {record.entity[0] for record in self.records}
        return [kind for kind in produces if kind not in spoken_of]


def _check(entity: Node) -> None:
    if entity[0] not in NODE_KINDS:
        raise ValueError(f"{entity[0]!r} is no kind of lineage node")
