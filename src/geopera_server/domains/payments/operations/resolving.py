"""Finding out what became of a charge that no call brought to its end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from pydantic import BaseModel
from typing_extensions import TypedDict

from geopera_server.db.pool import Row
from geopera_server.domains.payments import charging, outcomes
from geopera_server.domains.payments.store import topups
from geopera_server.kernel.context import Context, Outside
from geopera_server.kernel.errors import NotFound, Unavailable
from geopera_server.kernel.operation import operation
from geopera_server.ledger import postings
from geopera_server.ports.payments import Intent, Processor, ProcessorError
from geopera_server.values.clock import now


class ResolveInput(BaseModel):
    """The charge to look at."""

    topup_id: str


class Resolved(TypedDict):
    """How the charge stands now."""

    topup_id: str
    state: str
    granted: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """What the processor says of the charge, nothing for one that has no intent, and when one still open may be given up."""

    intent: Intent | None
    unclear_for: timedelta


async def look(outside: Outside, given: ResolveInput) -> Seen:
    """Asks the processor about the charge, and ends there what nobody is going to end, and what was refused."""
    processor = outside.ports.processor
    async with outside.connection() as conn:
        row = await topups.of_id(conn, given.topup_id)
        if row is None:
            raise NotFound("top-up")
        # Where the processor does not answer, this is also when the next look is due.
        await topups.look_later(conn, row["id"], at=now() + charging.lease(processor))
    if row["intent_id"] is None:
        return Seen(None, charging.lease(processor))
    if row["processor"] != processor.name:
        raise Unavailable(
            f"Charge {row['id']} was begun at the card processor {row['processor']!r}, not at {processor.name!r}. Set"
            " GEOPERA_PAYMENTS back until it has come to its end."
        )
    try:
        intent = await processor.charges.intent(row["intent_id"])
        if intent.status in {"requires_confirmation", "requires_action"} and _abandoned(row, intent, processor):
            intent = await processor.charges.cancel(intent.id)
        elif intent.status == "failed":
            # The client secret is in somebody's browser, and another card could still pay with it.
            ended = await processor.charges.cancel(intent.id)
            intent = ended if ended.status == "succeeded" else intent
    except ProcessorError as error:
        raise Unavailable(f"The card processor cannot tell about charge {row['id']} at the moment: {error}") from error
    return Seen(intent, charging.lease(processor))


def _abandoned(row: Row, intent: Intent, processor: Processor) -> bool:
    """Says whether nobody is at work on the charge any more, or its card holder has had time enough."""
    if intent.status == "requires_action":
        return bool(row["created_at"] + charging.ASKED_TO_CONFIRM_FOR <= now())
    return bool(row["held_until"] + charging.lease(processor) <= now())


@operation(
    "billing.payments.resolve",
    effect="compute",
    scope="admin:write",
    raw=True,
    internal=True,
    prepare=look,
    while_suspended=True,
)
async def resolve(ctx: Context, given: ResolveInput, seen: Seen) -> Resolved:
    """Writes what became of a charge, grants what was paid, and takes back what the processor has taken back."""
    await topups.lock_account(ctx.conn, ctx.organization_id)
    row = await topups.of_id(ctx.conn, given.topup_id, lock=True)
    if row is None or row["organization_id"] != ctx.organization_id:
        raise NotFound("top-up")
    if seen.intent is not None:
        row = await outcomes.record(
            ctx.conn, row["id"], seen.intent, invocation_id=ctx.invocation_id, unclear_for=seen.unclear_for
        )
    elif row["state"] == "created" and row["held_until"] <= now():
        row = await outcomes.give_up(ctx.conn, row, invocation_id=ctx.invocation_id)
    if row["state"] == "succeeded":
        row = await charging.granted(ctx, row)
        if seen.intent is not None and seen.intent.reversed_cents > row["reversed_credits"]:
            await _take_back(ctx, row, seen.intent.reversed_cents)
    return Resolved(topup_id=row["id"], state=row["state"], granted=row["ledger_entry_id"] is not None)


async def _take_back(ctx: Context, row: Row, reversed_credits: int) -> None:
    """Corrects the account by what the processor has reversed since the last look; the organization then owes."""
    reversed_credits = min(reversed_credits, row["credits"])
    cause = postings.Cause(
        organization_id=row["organization_id"],
        invocation_id=ctx.invocation_id,
        at=ctx.now,
        note="The card processor took this payment back.",
    )
    posting = postings.Posting(
        reason="correction",
        credits=row["reversed_credits"] - reversed_credits,
        external_ref=f"{row['processor']}:{row['intent_id']}:reversed:{reversed_credits}",
        topup_id=row["id"],
    )
    await postings.post(ctx.conn, cause, posting)
    await topups.set_reversed(ctx.conn, row["id"], reversed_credits=reversed_credits, at=ctx.now)
    await topups.set_past_due(ctx.conn, row["organization_id"])
