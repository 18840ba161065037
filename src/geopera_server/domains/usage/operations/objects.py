"""The operators' look at whether what is stored is what the assets say."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from geopera_server.domains.usage.objects import Comparison, compare, delete_old
from geopera_server.kernel.context import Context, Outside
from geopera_server.kernel.operation import operation
from geopera_server.kernel.paging import clamped
from geopera_server.ports.store import StoredObject


class ReconcileStorageInput(BaseModel):
    """Which project, or all; how many findings of each sort to list; whether to remove orphans older than 7 days."""

    project_id: str | None = None
    limit: int = Field(500, ge=1)
    delete_orphans: bool = False


class MissingObject(BaseModel):
    """A live asset whose object is not there."""

    asset_id: str
    item_id: str
    project_id: str
    path: str
    bytes: int


class DamagedObject(MissingObject):
    """A live asset whose object has another size."""

    stored_bytes: int


class OrphanObject(BaseModel):
    """An object that no asset names and nobody is about to register."""

    path: str
    bytes: int
    modified_at: datetime
    deleted: bool


class ReconcileStorageOutput(BaseModel):
    """What was found; `corrected_bytes` is what removing orphans has freed."""

    checked: int
    missing_objects: list[MissingObject]
    orphan_objects: list[OrphanObject]
    corrected_bytes: int
    damaged_objects: list[DamagedObject]


async def _compared(outside: Outside, given: ReconcileStorageInput) -> ReconcileStorageOutput:
    found = await compare(outside, given.project_id, most=clamped(given.limit))
    deleted = await delete_old(outside, found.orphans, outside.now) if given.delete_orphans else {}
    return _output(found, deleted)


@operation(
    "usage.admin.reconcile_storage",
    effect="compute",
    scope="admin:write",
    extension=True,
    prepare=_compared,
    example={"limit": 500, "delete_orphans": False},
)
async def reconcile_storage(
    ctx: Context,
    given: ReconcileStorageInput,  # noqa: ARG001
    found: ReconcileStorageOutput,
) -> ReconcileStorageOutput:
    """Compares the objects in storage with the assets that name them; only removes what it was told to.

    An object is removed when `delete_orphans` is set, no asset names it, it is older than 7 days, and no order or background
    work that it was made by is under way. Every look goes through all of a project's objects: name one where there are many.
    """
    for each in (*found.missing_objects, *found.damaged_objects):
        ctx.touch("asset", each.asset_id)
    return found


def _output(found: Comparison, deleted: dict[str, int]) -> ReconcileStorageOutput:
    return ReconcileStorageOutput(
        checked=found.checked,
        missing_objects=[
            MissingObject(
                asset_id=asset["id"],
                item_id=asset["item_id"],
                project_id=asset["project_id"],
                path=asset["href"],
                bytes=asset["file_size_bytes"],
            )
            for asset in found.missing
        ],
        orphan_objects=[_orphan(each, deleted=each.path in deleted) for each in found.orphans],
        corrected_bytes=sum(deleted.values()),
        damaged_objects=[
            DamagedObject(
                asset_id=asset["id"],
                item_id=asset["item_id"],
                project_id=asset["project_id"],
                path=asset["href"],
                bytes=asset["file_size_bytes"],
                stored_bytes=size,
            )
            for asset, size in found.damaged
        ],
    )


def _orphan(found: StoredObject, *, deleted: bool) -> OrphanObject:
    return OrphanObject(path=found.path, bytes=found.size_bytes, modified_at=found.modified_at, deleted=deleted)
