"""Deleting an organization: put on the calendar, taken off it, and carried out when its day has come."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.billing.store import administration, purging, standing
from geopera_server.domains.commitments.burning import standing_of, take_or_pay_due
from geopera_server.kernel.context import Context, Outside
from geopera_server.kernel.errors import Conflict
from geopera_server.ports.payments import NoSuchObject, ProcessorError
from geopera_server.values.ids import is_id

logger = logging.getLogger(__name__)

AT_ONCE = 200
_TELLS = {
    "unbilled": "amounts that no invoice has billed yet",
    "owing": "a month or a debt that is not paid",
    "paying": "a payment that is under way (one that its card holder does not confirm is given up after a day)",
    "running": "jobs that are running",
    "undelivered": "orders that are not delivered",
}
_KEEPS = {
    "unbilled": "unbilled_orders",
    "running": "running_jobs",
    "undelivered": "undelivered_orders",
    "paying": "open_payments",
}


async def obstacles(ctx: Context, organization_id: str) -> list[str]:
    """Returns what stands in the way of deleting an organization, in words."""
    found = await _found(ctx.conn, organization_id, ctx.now)
    return [words for name, words in _TELLS.items() if found[name]]


async def is_unbilled(ctx: Context, organization_id: str) -> bool:
    """Says whether an organization owes amounts that no invoice has billed yet."""
    return bool((await _found(ctx.conn, organization_id, ctx.now))["unbilled"])


async def _found(conn: Connection, organization_id: str, at: datetime) -> Row:
    """Returns what is under way or owed, by word; what a commitment's ended term has left to pay is owed too."""
    found = await administration.obstacles_of(conn, organization_id)
    if not found["unbilled"]:
        found["unbilled"] = bool(take_or_pay_due(await standing_of(conn, organization_id), at=at))
    return found


async def schedule(ctx: Context, organization: Row, *, days: int, reason: str | None) -> datetime:
    """Puts the deletion of a locked organization on the calendar, anew if it was there, and returns when it is due."""
    if organization["purge_started_at"] is not None:
        raise Conflict("This organization is being deleted already.", code="illegal_state")
    due_at = ctx.now + timedelta(days=days)
    by = ctx.principal.id
    await standing.schedule_deletion(
        ctx.conn,
        {
            "id": organization["id"],
            "at": ctx.now,
            "due_at": due_at,
            "requested_by": by if by is not None and is_id(by) else None,
            "reason": reason,
        },
    )
    return due_at


async def cancel(ctx: Context, organization: Row) -> None:
    """Takes the deletion of a locked organization off the calendar; raises Conflict when it is not there, or has begun."""
    if organization["deletion_due_at"] is None:
        raise Conflict("No deletion of this organization is scheduled.", code="illegal_state")
    if organization["purge_started_at"] is not None:
        raise Conflict("This organization is being deleted: it is too late to keep it.", code="illegal_state")
    await standing.end_deletion(ctx.conn, organization["id"], ctx.now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Emptied:
    """An organization whose files are gone, or the reason why it stays."""

    freed_bytes: int = 0
    reason: str | None = None


async def emptied(outside: Outside, organization_id: str) -> Emptied:
    """Shuts everybody out of an organization whose day has come, and removes its files and saved cards.

    Files go before their rows, a few at a time: a run that is killed is taken up by the next one where it stopped.
    """
    reason = await _begun(outside, organization_id)
    if reason is not None:
        return Emptied(reason=reason)
    try:
        await _forget_cards(outside, organization_id)
        return Emptied(freed_bytes=await _remove_files(outside, organization_id))
    except ProcessorError as error:
        logger.warning("the cards of %s cannot be forgotten: %s", organization_id, error)
        return Emptied(reason="card_processor_unavailable")
    except OSError as error:
        logger.warning("the files of %s cannot be removed: %s", organization_id, error)
        return Emptied(reason="storage_unavailable")


async def _begun(outside: Outside, organization_id: str) -> str | None:
    """Marks the deletion as begun; returns what hinders it instead, as a word."""
    async with outside.connection() as conn, conn.transaction():
        organization = await purging.lock_due(conn, organization_id, outside.now)
        if organization is None:
            return "not_due"
        reason = await _hindrance(conn, organization_id, outside.now)
        if reason is None:
            await purging.shut_out(conn, organization_id, outside.now)
        return reason


async def _hindrance(conn: Connection, organization_id: str, at: datetime) -> str | None:
    found = await _found(conn, organization_id, at)
    return next((word for name, word in _KEEPS.items() if found[name]), None)


async def _forget_cards(outside: Outside, organization_id: str) -> None:
    processor = outside.ports.processor
    async with outside.connection() as conn:
        methods = await purging.live_methods(conn, organization_id, processor.name)
    for method_id in methods:
        try:
            await processor.cards.detach(method_id)
        except NoSuchObject:
            logger.info("the processor has forgotten the card %s already", method_id)


async def _remove_files(outside: Outside, organization_id: str) -> int:
    freed = 0
    while True:
        async with outside.connection() as conn:
            assets = await purging.some_assets(conn, organization_id, AT_ONCE)
        if not assets:
            return freed + await _remove_leavings(outside, organization_id)
        for asset in assets:
            if not asset["external"]:
                await outside.ports.store.delete(asset["href"])
                freed += asset["file_size_bytes"]
        async with outside.connection() as conn:
            await purging.forget_assets(conn, organization_id, [asset["id"] for asset in assets])


async def _remove_leavings(outside: Outside, organization_id: str) -> int:
    """Removes what work that broke off has left in the folders of the organization's projects, and no asset names."""
    freed = 0
    async with outside.connection() as conn:
        projects = await purging.projects(conn, organization_id)
    for project_id in projects:
        found = {each.path: each.size_bytes async for each in outside.ports.store.list(f"projects/{project_id}")}
        async with outside.connection() as conn:
            kept = await purging.named_by_assets(conn, list(found))
        for path in found.keys() - kept:
            await outside.ports.store.delete(path)
            freed += found[path]
    return freed


async def forget(ctx: Context, organization_id: str) -> str | None:
    """Removes the rows of an emptied organization and blanks its own; returns what hinders it instead, as a word.

    A call that was let in before the doors were shut may have ordered or stored something since: that is left to the next run.
    """
    organization = await purging.lock_due(ctx.conn, organization_id, ctx.now)
    if organization is None or organization["purge_started_at"] is None:
        return "not_due"
    reason = await _hindrance(ctx.conn, organization_id, ctx.now)
    if reason is None and await purging.some_assets(ctx.conn, organization_id, 1):
        reason = "files_left"
    if reason is None:
        await purging.forget_data(ctx.conn, organization_id)
        await purging.blank(ctx.conn, organization_id, ctx.now)
    return reason
