"""Forgetting a card at its processor after its organization has."""

from __future__ import annotations

import logging

from geopera_server.domains.payments.store import cards as store
from geopera_server.kernel.jobs import JobRun, TryAgain, background, finish
from geopera_server.ports.payments import NoSuchObject, ProcessorError

logger = logging.getLogger(__name__)

FORGET_CARD = "payment_method.forget"


@background(FORGET_CARD)
async def forget_card(run: JobRun) -> None:
    """Detaches a card at its processor, unless it was saved again meanwhile or belongs to a processor of before."""
    error: str | None = None
    processor = run.kernel.ports.processor
    async with run.kernel.pool.connection() as conn:
        row = await store.to_forget(conn, run.organization_id, run.entity_id)
    if row is not None and row["processor"] == processor.name:
        try:
            await processor.cards.detach(row["method_id"])
        except NoSuchObject:
            logger.info("card %s is not known to its processor any more", run.entity_id)
        except ProcessorError as refusal:
            if not run.last_chance:
                raise TryAgain(f"The card processor does not detach card {run.entity_id}: {refusal}") from refusal
            logger.exception("card %s stays attached at its processor; detach it there", run.entity_id)
            error = str(refusal)
    async with run.kernel.pool.connection() as conn:
        await finish(conn, run.id, run.attempt, error=error)
