"""A source of captures as the registry has it; its id is also the host name that searches and captures give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import shapely
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

ALL_SOURCES = frozenset({"geopera", "api.geopera.com"})
"""Names that published clients send as host and that mean every source together; the own host name is another one."""

DATA_TYPES = ("optical", "sar", "elevation", "lidar", "thermal", "vector")
OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One row of the registry; `coverage` None is the whole Earth, no collections means that none have been told."""

    id: str
    title: str
    description: str
    access_model: str
    scope: str
    countries: Sequence[str]
    attribution: str
    license: str
    vendor: str
    collections: Sequence[Mapping[str, Any]]
    connector: Mapping[str, Any]
    coverage: Mapping[str, Any] | None
    active: bool = True

    @property
    def has_own_search(self) -> bool:
        """Says whether searches go out to another catalogue, rather than to our scene index."""
        return bool(self.connector["kind"] == "stac")

    @property
    def route(self) -> dict[str, Any]:
        """What the host port needs to find the host."""
        return {**self.connector, "host": self.id}

    @property
    def mirror_route(self) -> dict[str, Any]:
        """The way to our own copies of this host's scenes."""
        return {"kind": "index", "host": self.id}

    def collection(self, collection_id: str) -> Mapping[str, Any]:
        """Returns what the registry tells of a collection, empty when it tells nothing."""
        return next((each for each in self.collections if each["id"] == collection_id), {})

    def is_open(self, collection_id: str) -> bool:
        """Says whether a collection's captures are open data; a collection may differ from its source."""
        return bool(self.collection(collection_id).get("access_model", self.access_model) == OPEN)

    def covers(self, area: BaseGeometry | None) -> bool:
        """Says whether the source may have anything there."""
        if area is None or self.coverage is None:
            return True
        return bool(shapely.intersects(shape(dict(self.coverage)), area))

    def offers(self, collections: Sequence[str], data_types: Sequence[str]) -> tuple[str, ...] | None:
        """Returns the collections to ask this source for, an empty tuple for all, None when it has nothing of the kind."""
        if not self.collections:
            return None if data_types else tuple(collections)
        known = [
            each["id"]
            for each in self.collections
            if (not collections or each["id"] in collections) and (not data_types or each["data_type"] in data_types)
        ]
        if not known:
            return None
        return () if len(known) == len(self.collections) and not collections else tuple(known)

    def unknown_among(self, collections: Iterable[str]) -> list[str]:
        """Returns those of the collections that this source does not have."""
        return [each for each in collections if self.collections and not self.collection(each)]

    def as_dto(self) -> dict[str, Any]:
        """Returns the public part, with exactly the keys of SourceDTO."""
        return {
            "id": self.id,
            "title": self.title,
            "description": self.description,
            "access_model": self.access_model,
            "scope": self.scope,
            "countries": list(self.countries),
            "attribution": self.attribution,
            "license": self.license,
            "collections": list(self.collections),
        }


def means_all(host: str | None, base_url: str) -> bool:
    """Says whether a host name means every source: none at all, a published alias, or this deployment's own name."""
    if host is None or not host.strip():
        return True
    own = urlsplit(base_url)
    return host.strip().lower() in ALL_SOURCES | {(own.hostname or "").lower(), own.netloc.lower()}


def with_collections(source: Source, seen: Mapping[str, float | None]) -> Source:
    """Returns the source with collections added that scenes name and the registry does not, each with its GSD in metres."""
    added = [new_collection(each, gsd, source.access_model) for each, gsd in seen.items() if not source.collection(each)]
    return replace(source, collections=[*source.collections, *added])


def new_collection(collection_id: str, gsd: float | None, access_model: str) -> dict[str, Any]:
    """Returns what the registry says of a collection that nobody has described yet."""
    return {
        "id": collection_id,
        "title": collection_id,
        "data_type": "optical",
        "gsd": gsd,
        "render_strategy": "preview",
        "render_params": {},
        "access_model": access_model,
    }
