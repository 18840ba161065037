"""What follows when credits come in for an organization that owes."""

from __future__ import annotations

import logging

from geopera_server.domains.billing.operations.monthly import collect
from geopera_server.domains.billing.standing import COLLECT
from geopera_server.domains.billing.store import months, wallets
from geopera_server.kernel.errors import Conflict, NotFound
from geopera_server.kernel.jobs import JobRun, TryAgain, background, finish
from geopera_server.kernel.operation import operation_of
from geopera_server.kernel.pipeline import Call
from geopera_server.kernel.principal import service

logger = logging.getLogger(__name__)


@background(COLLECT)
async def collect_open_months(run: JobRun) -> None:
    """Pays open months from the balance, oldest first, as far as it goes; the card is left for the daily round."""
    call_for = service(organization_id=run.entity_id)
    while True:
        try:
            call = Call(operation=operation_of(collect), given={"organization_id": run.entity_id}, principal=call_for)
            await run.kernel.run(call)
        except NotFound:
            # Purged meanwhile: nobody owes anything any more, and below the job ends.
            logger.info("%s is gone and owes nothing", run.entity_id)
        except Conflict as error:
            raise TryAgain(error.detail) from error
        if await _ended(run):
            return


async def _ended(run: JobRun) -> bool:
    """Ends the job unless the balance covers one more open month; credits that come in later queue it again."""
    async with run.kernel.pool.connection() as conn, conn.transaction():
        await wallets.lock_account(conn, run.entity_id)
        if await months.can_pay_one(conn, run.entity_id):
            return False
        await finish(conn, run.id, run.attempt)
        return True
