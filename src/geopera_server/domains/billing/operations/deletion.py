"""Deleting organizations: asked for by owners, scheduled by operators, done by the clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from geopera_server.db.pool import Row
from geopera_server.domains.billing import deletion
from geopera_server.domains.billing.deletion import Emptied
from geopera_server.domains.billing.each import for_each
from geopera_server.domains.billing.operations.monthly import ORGANIZATION, OrgInput
from geopera_server.domains.billing.store import administration, months, purging, standing
from geopera_server.domains.identity.access import require_human
from geopera_server.domains.pricing.rules import aud
from geopera_server.kernel.context import Context, Outside
from geopera_server.kernel.errors import Conflict, Denied, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.kernel.principal import PLATFORM_ORGANIZATION_ID
from geopera_server.values.ids import is_id


class DeletionInput(BaseModel):
    """In how many days, and why."""

    days: int = Field(30, ge=1, le=365)
    reason: str | None = Field(None, max_length=1_000)


class Deletion(BaseModel):
    """When the organization is deleted; null for not at all."""

    organization_id: str
    scheduled_at: datetime | None


class _Empty(BaseModel):
    """Nothing to say."""


@operation(
    "organizations.deletion.request",
    effect="destructive",
    scope="organizations:write",
    extension=True,
    example={"days": 30, "reason": "The project is over"},
)
async def request(ctx: Context, given: DeletionInput) -> Deletion:
    """Schedules the deletion of your organization; until then nothing more is bought, and it can be kept after all.

    Everything in it goes for good then, except what accounting and provenance have to keep. Only an owner does this.
    """
    organization = await _own(ctx)
    if found := await deletion.obstacles(ctx, organization["id"]):
        raise Conflict(
            f"Your organization still has {', and '.join(found)}. Settle, finish or cancel that first.", code="illegal_state"
        )
    due_at = await deletion.schedule(ctx, organization, days=given.days, reason=given.reason)
    return Deletion(organization_id=organization["id"], scheduled_at=due_at)


@operation("organizations.deletion.cancel", effect="compute", scope="organizations:write", extension=True, example={})
async def cancel(ctx: Context, given: _Empty) -> Deletion:  # noqa: ARG001
    """Keeps your organization after all; only an owner does this."""
    organization = await _own(ctx)
    await deletion.cancel(ctx, organization)
    return Deletion(organization_id=organization["id"], scheduled_at=None)


async def _own(ctx: Context) -> Row:
    require_human(ctx.principal)
    organization_id = ctx.organization_id
    if ctx.principal.organization_role != "owner":
        raise Denied("Only owners of the organization do this. Ask one of them.")
    organization = await _locked(ctx, organization_id)
    scheduled_by = organization["deletion_requested_by"]
    if scheduled_by is not None and not await standing.is_member(ctx.conn, organization_id, scheduled_by):
        raise Denied("The operator of this deployment has scheduled this deletion, and alone can change that. Write to them.")
    return organization


async def _locked(ctx: Context, organization_id: str) -> Row:
    organization = await months.lock_organization(ctx.conn, organization_id) if is_id(organization_id) else None
    if organization is None:
        raise NotFound("organization")
    if organization["id"] == PLATFORM_ORGANIZATION_ID:
        raise Conflict("This is the platform's own organization, which stays.", code="illegal_state")
    ctx.touch("organization", organization_id)
    return organization


class ScheduleInput(DeletionInput):
    """Which organization, in how many days, and why."""

    organization_id: str
    force: bool = Field(False, description="also with amounts that no invoice has billed yet")


@operation(
    "billing.admin.schedule_deletion",
    effect="destructive",
    scope="admin:write",
    extension=True,
    while_suspended=True,
    example={"organization_id": ORGANIZATION, "days": 30},
)
async def schedule_deletion(ctx: Context, given: ScheduleInput) -> Deletion:
    """Schedules the deletion of an organization, or moves it to another day."""
    organization = await _locked(ctx, given.organization_id)
    if not given.force and await deletion.is_unbilled(ctx, organization["id"]):
        raise Conflict(
            "This organization owes amounts that no invoice has billed yet. Bill them with billing.enterprise.mark_invoiced,"
            " or set force.",
            code="illegal_state",
        )
    due_at = await deletion.schedule(ctx, organization, days=given.days, reason=given.reason)
    return Deletion(organization_id=organization["id"], scheduled_at=due_at)


@operation(
    "billing.admin.cancel_deletion",
    effect="compute",
    scope="admin:write",
    extension=True,
    while_suspended=True,
    example={"organization_id": ORGANIZATION},
)
async def cancel_deletion(ctx: Context, given: OrgInput) -> Deletion:
    """Takes the deletion of an organization off the calendar."""
    organization = await _locked(ctx, given.organization_id)
    await deletion.cancel(ctx, organization)
    return Deletion(organization_id=organization["id"], scheduled_at=None)


class PendingDeletion(TypedDict):
    """An organization that is to be deleted: when that was scheduled, and when it happens."""

    id: str
    name: str
    scheduled_at: datetime
    purge_at: datetime
    requested_by: str | None
    reason: str | None
    storage_bytes: int
    unbilled_aud: float


class PendingDeletions(TypedDict):
    """Everybody who is to be deleted, the first to go first."""

    organizations: list[PendingDeletion]
    total: int


@operation("billing.deletions.pending", effect="read", scope="admin:read", raw=True, example={})
async def pending(ctx: Context, given: _Empty) -> PendingDeletions:  # noqa: ARG001
    """Lists the organizations that are to be deleted, the first to go first."""
    found = [
        PendingDeletion(
            id=row["id"],
            name=row["name"],
            scheduled_at=row["deletion_requested_at"],
            purge_at=row["deletion_due_at"],
            requested_by=row["deletion_requested_by"],
            reason=row["deletion_reason"],
            storage_bytes=row["storage_bytes"],
            unbilled_aud=aud(row["unbilled"]),
        )
        for row in await administration.deletions(ctx.conn)
    ]
    return PendingDeletions(organizations=found, total=len(found))


class PurgeOutcome(TypedDict):
    """Whether an organization is gone, what that freed, or why it stays."""

    organization_id: str
    purged: bool
    freed_bytes: int
    reason: str | None


async def _empty_one(outside: Outside, given: OrgInput) -> Emptied:
    return await deletion.emptied(outside, given.organization_id)


@operation("billing.deletion.purge", effect="destructive", scope="admin:write", raw=True, internal=True, prepare=_empty_one)
async def purge(ctx: Context, given: OrgInput, emptied: Emptied) -> PurgeOutcome:
    """Removes one organization whose files are gone."""
    ctx.touch("organization", given.organization_id)
    reason = emptied.reason or await deletion.forget(ctx, given.organization_id)
    return PurgeOutcome(
        organization_id=given.organization_id,
        purged=reason is None,
        freed_bytes=emptied.freed_bytes,
        reason=reason,
    )


class Purged(TypedDict):
    """An organization that is gone, and what that freed."""

    organization_id: str
    storage_freed_bytes: int


class Skipped(TypedDict):
    """An organization that stays for now, and why."""

    organization_id: str
    reason: str


@dataclass(slots=True)
class Round:
    """What has become of those whose day has come."""

    purged: list[Purged] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


async def _purge_due(outside: Outside, given: _Empty) -> Round:  # noqa: ARG001
    done = Round()
    async with outside.connection() as conn:
        due = await purging.due(conn, outside.now)
    async for organization_id, reply, code in for_each(outside, purge, due):
        if reply is not None and reply["purged"]:
            done.purged.append(Purged(organization_id=organization_id, storage_freed_bytes=reply["freed_bytes"]))
        else:
            done.skipped.append(Skipped(organization_id=organization_id, reason=code if reply is None else reply["reason"]))
    return done


class Cleanup(TypedDict):
    """Who is gone, and who stays for now."""

    purged: list[Purged]
    skipped: list[Skipped]


@operation(
    "billing.cleanup_deleted_orgs",
    effect="destructive",
    scope="admin:write",
    raw=True,
    while_suspended=True,
    prepare=_purge_due,
    example={},
)
async def cleanup_deleted_orgs(ctx: Context, given: _Empty, done: Round) -> Cleanup:  # noqa: ARG001
    """Deletes the organizations whose day has come: files, data, keys and tokens, and their names.

    Ledger, invoices, audit and lineage stay. One with unbilled or undelivered orders or running jobs is left for later.
    """
    return Cleanup(purged=done.purged, skipped=done.skipped)
