"""Compares the objects in storage with the assets that name them, project by project.

An object that no asset names is an orphan, unless some id in its path is that of an order, an upload or a piece of background
work that has not ended: then somebody is about to register it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from geopera_server.db.pool import Row
from geopera_server.domains.usage.store import objects as store
from geopera_server.kernel.context import Outside
from geopera_server.kernel.errors import NotFound
from geopera_server.ports.store import ObjectMissing, StoredObject
from geopera_server.values.ids import is_id

ROOT = "projects"
ORPHANS_KEPT_FOR = timedelta(days=7)
_PAGE = 1_000
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(slots=True)
class Comparison:
    """What was looked at, and what was found; at most so many of each sort are kept."""

    most: int
    checked: int = 0
    missing: list[Row] = field(default_factory=list)
    damaged: list[tuple[Row, int]] = field(default_factory=list)
    orphans: list[StoredObject] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        return min(len(self.missing), len(self.damaged), len(self.orphans)) >= self.most


async def compare(outside: Outside, project_id: str | None, *, most: int) -> Comparison:
    """Compares one project's objects and assets, or everybody's; raises NotFound for a project that has neither."""
    comparison = Comparison(most)
    if project_id is not None:
        if not is_id(project_id):
            raise NotFound("project")
        project_id = project_id.lower()
    async with outside.connection() as conn:
        projects = {row["id"]: row["organization_id"] for row in await store.projects(conn, project_id)}
    folders = [project_id] if project_id else await outside.ports.store.folders(ROOT)
    for each in sorted({*projects, *folders}):
        objects = {found.path: found async for found in outside.ports.store.list(f"{ROOT}/{each}")}
        if each == project_id and not objects and each not in projects:
            raise NotFound("project")
        if each in projects:
            await _look_for_assets(outside, comparison, projects[each], each, objects)
        await _look_for_orphans(outside, comparison, objects)
        if comparison.is_full:
            break
    return comparison


async def _look_for_assets(
    outside: Outside, comparison: Comparison, organization_id: str, project_id: str, objects: dict[str, StoredObject]
) -> None:
    async for asset in _assets(outside, organization_id, project_id):
        comparison.checked += 1
        size = await _size(outside, asset["href"], objects)
        if size is None and len(comparison.missing) < comparison.most:
            comparison.missing.append(asset)
        if size is not None and size != asset["file_size_bytes"] and len(comparison.damaged) < comparison.most:
            comparison.damaged.append((asset, size))


async def _assets(outside: Outside, organization_id: str, project_id: str) -> AsyncIterator[Row]:
    after = None
    while True:
        async with outside.connection() as conn:
            page = await store.kept_assets(conn, organization_id, project_id, after=after, limit=_PAGE)
        for asset in page:
            yield asset
        if len(page) < _PAGE:
            return
        after = page[-1]["id"]


async def _size(outside: Outside, path: str, objects: dict[str, StoredObject]) -> int | None:
    """Returns an object's size; one that the listing has not may have come since, or lie in another project's folder."""
    if path in objects:
        return objects[path].size_bytes
    try:
        return await outside.ports.store.size(path)
    except ObjectMissing:
        return None


async def _look_for_orphans(outside: Outside, comparison: Comparison, objects: dict[str, StoredObject]) -> None:
    paths = sorted(objects)
    for start in range(0, len(paths), _PAGE):
        orphans = await _without_owner(outside, paths[start : start + _PAGE])
        comparison.checked += len(orphans)
        room = comparison.most - len(comparison.orphans)
        comparison.orphans += [objects[path] for path in orphans[:room]]


async def _without_owner(outside: Outside, paths: Sequence[str]) -> list[str]:
    ids = {path: _ID.findall(path) for path in paths}
    async with outside.connection() as conn:
        # Work that ends between the two questions has registered its objects before: ask for assets last.
        busy = await store.open_work(conn, [each for found in ids.values() for each in found])
        known = await store.known_paths(conn, paths)
    return [path for path in paths if path not in known and busy.isdisjoint(ids[path])]


async def delete_old(outside: Outside, orphans: Iterable[StoredObject], at: datetime) -> dict[str, int]:
    """Removes those that nobody has registered in a week, looked up once more, and returns their sizes by path."""
    old = {found.path: found.size_bytes for found in orphans if found.modified_at < at - ORPHANS_KEPT_FOR}
    still = await _without_owner(outside, sorted(old))
    for path in still:
        await outside.ports.store.delete(path)
    return {path: old[path] for path in still}
