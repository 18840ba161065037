"""Until when items are kept: what nears its end, moving it on by the clock, and what operators decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import AwareDatetime, BaseModel, Field
from typing_extensions import TypedDict

from geopera_server.db.pool import Row
from geopera_server.domains.billing.each import run_for
from geopera_server.domains.items import retention
from geopera_server.domains.items.erasing import ERASE
from geopera_server.domains.items.store import erasing
from geopera_server.domains.items.store import retention as store
from geopera_server.kernel.context import Context, Outside
from geopera_server.kernel.errors import InvalidInput, NotFound
from geopera_server.kernel.operation import Handler, operation
from geopera_server.values.ids import is_id

MOST_DAYS = 36_500
MOST_NAMED = 10_000


class _Empty(BaseModel):
    pass


class ExpiringInput(BaseModel):
    """How many days ahead to look."""

    days: int = Field(7, ge=0, le=MOST_DAYS)


class ExpiringItem(TypedDict):
    """An item that is about to expire, and what that will free."""

    id: str
    name: str
    project_id: str
    organization_id: str
    expires_at: datetime
    storage_bytes: int


class Expiring(TypedDict):
    """What expires within some days, soonest first."""

    items: list[ExpiringItem]
    total: int
    days: int


@operation("items.list_expiring", effect="read", scope="admin:read", raw=True, example={"days": 7})
async def list_expiring(ctx: Context, given: ExpiringInput) -> Expiring:
    """Lists everybody's items that expire within some days, soonest first; those that should have already come first."""
    rows = await store.items_expiring(ctx.conn, ctx.now + timedelta(days=given.days))
    items = [ExpiringItem(**row) for row in rows]  # type: ignore[typeddict-item]
    return Expiring(items=items, total=len(items), days=given.days)


class _Step(TypedDict):
    """How many were moved on in one step, by what became of them, and whether more are due."""

    items: int
    others: int
    more: bool


@dataclass(slots=True)
class Round:
    """What a round over organizations has come to; `failed` counts organizations whose turn broke off."""

    items: int = 0
    others: int = 0
    failed: int = 0


async def _round(outside: Outside, step: Handler, organization_ids: Sequence[str]) -> Round:
    """Repeats a step for each organization until nothing more is due there; one that fails never stops the rest."""
    done = Round()
    for organization_id in organization_ids:
        while True:
            reply, _ = await run_for(outside, step, organization_id, {})
            if reply is None:
                done.failed += 1
                break
            done.items += reply["items"]
            done.others += reply["others"]
            if not reply["more"]:
                break
    return done


@operation("items.retention.expire", effect="compute", scope="admin:write", raw=True, internal=True)
async def expire_some(ctx: Context, given: _Empty) -> _Step:  # noqa: ARG001
    """Moves some of one organization's items on that are due."""
    expired, near = await retention.expire_some(ctx)
    return _Step(items=expired, others=near, more=retention.AT_ONCE in {expired, near})


async def _expire_all(outside: Outside, given: _Empty) -> Round:  # noqa: ARG001
    async with outside.connection() as conn:
        due = await store.organizations_to_expire(conn, at=outside.now, near=outside.now + retention.NEAR)
    return await _round(outside, expire_some, due)


class ExpireBatch(TypedDict):
    """How many items expired and how many are about to; `failed` counts organizations that are tried again later."""

    expired: int
    expiring: int
    failed: int
    as_of: datetime


@operation(
    "items.expire_batch", effect="compute", scope="admin:write", raw=True, while_suspended=True, prepare=_expire_all, example={}
)
async def expire_batch(ctx: Context, given: _Empty, done: Round) -> ExpireBatch:  # noqa: ARG001
    """Moves items on whose time is over to expired, and those with a week left to expiring; runs by the clock.

    Metadata of expired items stays readable. What their files took is free at once; the files are removed 30 days later.
    """
    return ExpireBatch(expired=done.items, expiring=done.others, failed=done.failed, as_of=ctx.now)


@operation("items.retention.purge", effect="destructive", scope="admin:write", raw=True, internal=True)
async def purge_some(ctx: Context, given: _Empty) -> _Step:  # noqa: ARG001
    """Removes some of what one organization deleted or lost by expiry too long ago."""
    items, deleted, expired = await retention.purge_some(ctx)
    return _Step(items=items, others=deleted + expired, more=retention.AT_ONCE in {items, deleted, expired})


async def _purge_all(outside: Outside, given: _Empty) -> Round:  # noqa: ARG001
    async with outside.connection() as conn:
        due = await store.organizations_to_purge(conn, outside.now - retention.KEPT_FOR)
    return await _round(outside, purge_some, due)


class Purge(TypedDict):
    """How many items went for good, and how many files of items that stay."""

    items: int
    files: int
    failed: int
    as_of: datetime


@operation(
    "items.admin.purge",
    effect="destructive",
    scope="admin:write",
    raw=True,
    extension=True,
    while_suspended=True,
    prepare=_purge_all,
    example={},
)
async def purge(ctx: Context, given: _Empty, done: Round) -> Purge:  # noqa: ARG001
    """Removes for good what was deleted 30 days ago, and the files of what expired then; runs by the clock.

    Objects go after their rows. Those that earlier work was given up on are taken up again.
    """
    for left in await erasing.left_behind(ctx.conn):
        ctx.enqueue(ERASE, left["call_id"], organization_id=left["organization_id"])
    return Purge(items=done.items, files=done.others, failed=done.failed, as_of=ctx.now)


class SetRetentionInput(BaseModel):
    """Which items, or all of which project; until when, or for how many days from now. A null time means for ever."""

    item_ids: list[str] | None = Field(None, min_length=1, max_length=MOST_NAMED)
    project_id: str | None = None
    expires_at: AwareDatetime | None = None
    days: int | None = Field(None, ge=0, le=MOST_DAYS)


class SetRetentionOutput(BaseModel):
    """How many items are kept so from now on."""

    updated: int


@operation(
    "items.admin.set_retention",
    effect="compute",
    scope="admin:write",
    produces=("item",),
    extension=True,
    example={"item_ids": ["0192d3c4-0000-7000-8000-000000000000"], "days": 90},
)
async def set_retention(ctx: Context, given: SetRetentionInput) -> SetRetentionOutput:
    """Says until when items are kept, whoever they belong to: those named, or all of one project.

    Expired items come back if they are to be kept longer and their files are still there, which is for 30 days.
    """
    expires_at = _end(given, ctx.now)
    rows = await _chosen(ctx, given)
    return SetRetentionOutput(updated=await retention.set_retention(ctx, rows, expires_at))


def _end(given: SetRetentionInput, at: datetime) -> datetime | None:
    says_when = "expires_at" in given.model_fields_set
    if says_when == (given.days is not None):
        raise InvalidInput("Say either expires_at (null: for ever) or days.", loc=("expires_at",))
    if given.days is not None:
        return at + timedelta(days=given.days)
    if given.expires_at is not None and abs(given.expires_at - at) > timedelta(days=MOST_DAYS):
        raise InvalidInput(f"expires_at lies at most {MOST_DAYS:,} days from now.", loc=("expires_at",))
    return given.expires_at


async def _chosen(ctx: Context, given: SetRetentionInput) -> list[Row]:
    """Returns the items that are meant, locked; raises NotFound unless all that were named are there."""
    if (given.item_ids is None) == (given.project_id is None):
        raise InvalidInput("Name either item_ids or a project_id.", loc=("item_ids",))
    wanted = (
        await _ids_of_project(ctx, given.project_id) if given.item_ids is None else {each.lower() for each in given.item_ids}
    )
    if not all(is_id(each) for each in wanted):
        raise NotFound("item")
    rows = await store.lock_items(ctx.conn, sorted(wanted))
    if given.item_ids is not None and len(rows) < len(wanted):
        raise NotFound("item")
    if not rows:
        raise NotFound(detail="This project has no items.")
    return rows


async def _ids_of_project(ctx: Context, project_id: str | None) -> set[str]:
    if project_id is None or not is_id(project_id) or not await store.project_exists(ctx.conn, project_id):
        raise NotFound("project")
    return set(await store.live_ids_of_project(ctx.conn, project_id))
