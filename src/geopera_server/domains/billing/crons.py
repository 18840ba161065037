"""What runs by the clock: which operation, and at what times.

A process that schedules asks every now and then what is due. Each is run by one process at a time, under a lock that ends with
its database session; from one that was killed it is taken over at once, and a time is done when its row says so.
After a pause only the latest time of each is run: every one of them catches up by itself.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import orjson

from geopera_server.domains.billing.store import crons as store
from geopera_server.kernel.errors import OperationError
from geopera_server.kernel.pipeline import Call, Kernel
from geopera_server.kernel.principal import PLATFORM_ORGANIZATION_ID, Principal
from geopera_server.values.clock import now
from geopera_server.values.periods import month_of

if TYPE_CHECKING:
    from geopera_server.kernel.registry import Registry

logger = logging.getLogger(__name__)

RETRY_AFTER = (timedelta(minutes=1), timedelta(minutes=10), timedelta(hours=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """An operation that is due each time the clock, in UTC, passes a moment of the hour or of the day."""

    name: str
    every: timedelta
    offset: timedelta

    def latest_due(self, at: datetime) -> datetime:
        """Returns the last time it was due, at the given time or before."""
        midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
        passed = (at - midnight - self.offset) // self.every
        return midnight + self.offset + passed * self.every


DAY, HOUR = timedelta(days=1), timedelta(hours=1)
# Half an hour after midnight the counters of the day before are written, whichever process held them.
MONTHLY = Cron(name="billing.run_monthly_cron", every=DAY, offset=timedelta(minutes=30))
CRONS = (
    MONTHLY,
    Cron(name="billing.free_tier.grant_all", every=DAY, offset=timedelta(minutes=5)),
    Cron(name="billing.cleanup_deleted_orgs", every=DAY, offset=timedelta(hours=2)),
    Cron(name="billing.reconciliation.run_all", every=DAY, offset=timedelta(hours=3)),
    Cron(name="billing.dlq.replay", every=HOUR, offset=timedelta(minutes=10)),
    Cron(name="items.expire_batch", every=HOUR, offset=timedelta(minutes=20)),
    Cron(name="items.admin.purge", every=DAY, offset=timedelta(hours=4)),
)
OPERATIONS = frozenset(cron.name for cron in CRONS)


def clock() -> Principal:
    """Returns whom the clock calls as: a service that may run the crons and nothing else."""
    return Principal(
        kind="service",
        organization_id=PLATFORM_ORGANIZATION_ID,
        scopes=frozenset({"admin:read", "admin:write"}),
        only=OPERATIONS,
    )


async def run_due(kernel: Kernel, registry: Registry) -> None:
    """Runs what is due and not done, one after the other; what fails is tried again later."""
    for cron in CRONS:
        async with kernel.pool.connection() as conn:
            done = await store.is_done(conn, cron.name, cron.latest_due(now()), now())
        if not done:
            await _run_once(kernel, registry, cron)


async def _run_once(kernel: Kernel, registry: Registry, cron: Cron) -> None:
    # The connection is kept for as long as the run takes: its end is the end of the claim.
    async with kernel.pool.connection() as conn:
        if not await store.take_turn(conn, cron.name):
            return
        try:
            due_at = cron.latest_due(now())
            if await store.is_done(conn, cron.name, due_at, now()):
                return
            tries = await store.begin(conn, cron.name, due_at, now())
            outcome = await _outcome(kernel, registry, cron)
            if outcome is None:
                await store.finish(conn, cron.name, due_at, now())
            else:
                wait = RETRY_AFTER[min(tries, len(RETRY_AFTER)) - 1]
                await store.put_off(conn, cron.name, due_at, outcome, now() + wait)
        finally:
            if not conn.broken:
                await store.give_turn(conn, cron.name)


async def _outcome(kernel: Kernel, registry: Registry, cron: Cron) -> str | None:
    """Returns None when the operation went well with everybody, else what came instead."""
    try:
        reply = await kernel.run(Call(operation=registry.get(cron.name), given={}, principal=clock()))
    except OperationError as refusal:
        logger.warning("%s: %s", cron.name, refusal)
        return refusal.code
    except Exception as error:
        logger.exception("%s broke", cron.name)
        return type(error).__name__
    failed = orjson.loads(reply.body).get("failed", 0)
    return f"{failed} failed" if failed else None


def next_monthly_run(at: datetime) -> datetime:
    """Returns when the month of a time is billed: with the first round after it has closed."""
    return month_of(at).following.start + MONTHLY.offset
