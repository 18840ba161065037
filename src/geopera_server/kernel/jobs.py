"""Background work: rows that exist when the call that asked for them has committed, and workers that take them in turn.

The row is the truth. A worker holds a job by a lease, and proves itself with the attempt number it was given: whoever writes
for a job checks that number, so a worker that was given up for dead can change nothing any more. A lease ends when it is not
renewed in time, or at once when the worker's own database session ends, as it does when the process is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import pkgutil
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from geopera_server.db.pool import Connection, Row
from geopera_server.kernel.errors import Conflict, Unavailable

if TYPE_CHECKING:
    from geopera_server.kernel.pipeline import Kernel

logger = logging.getLogger(__name__)

CHANNEL = "geopera_job"
POLL_S = 2.0
_SESSION_LOCK = 0x6A6F62
_BACKOFF_S = (1, 3, 10, 30, 120)

_CLAIM = (
    "WITH next AS (SELECT id FROM job j WHERE (state = 'queued' AND run_after <= now())"
    " OR (state = 'running' AND (leased_until < now() OR NOT EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory'"
    "     AND l.classid = %(lock_class)s::bigint::oid AND l.objid::bigint = j.worker::bigint AND l.granted)))"
    " ORDER BY run_after LIMIT %(most)s FOR UPDATE SKIP LOCKED)"
    " UPDATE job SET state = 'running', attempt = job.attempt + 1,"
    " failures = job.failures + (job.state = 'running')::int, worker = %(worker)s,"
    " leased_until = now() + make_interval(secs => %(lease_s)s) FROM next WHERE job.id = next.id RETURNING job.*"
)


class TryAgain(Exception):
    """What the job needs is not there at the moment; it is put back and tried later."""


class LeaseLost(Conflict):
    """The job was given to another worker; what this one did is not kept."""


@dataclass(slots=True)
class JobRun:
    """One attempt at one job."""

    id: str
    kind: str
    organization_id: str
    entity_id: str
    payload: dict[str, Any]
    attempt: int
    failures: int
    max_attempts: int
    kernel: Kernel
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    done: float = 0.0

    @property
    def last_chance(self) -> bool:
        """Whether the job is given up if this attempt fails like those before it."""
        return self.failures + 1 >= self.max_attempts

    def progress(self, share: float) -> None:
        """Notes how much is done, 0 to 1; stored with the next heartbeat."""
        self.done = share


JobHandler = Callable[[JobRun], Awaitable[None]]
JOB_ATTRIBUTE = "__geopera_job__"


def background(kind: str) -> Callable[[JobHandler], JobHandler]:
    """Declares the decorated function as the one that does jobs of a kind.

    It must be safe to run again from the start. Raising TryAgain or a database error puts the job back; on the last chance
    the function itself has to bring the matter to an end.
    """

    def declare(handler: JobHandler) -> JobHandler:
        setattr(handler, JOB_ATTRIBUTE, kind)
        return handler

    return declare


def load_handlers(package: str) -> dict[str, JobHandler]:
    """Returns the handlers declared in the `jobs` modules below a package, by kind."""
    root = importlib.import_module(package)
    found: dict[str, JobHandler] = {}
    for entry in pkgutil.walk_packages(root.__path__, prefix=f"{package}."):
        if entry.name.rpartition(".")[2] == "jobs":
            for value in vars(importlib.import_module(entry.name)).values():
                if isinstance(kind := getattr(value, JOB_ATTRIBUTE, None), str):
                    found[kind] = value
    return found


async def require_lease(conn: Connection, job_id: str, attempt: int) -> None:
    """Locks the job's row for the rest of the transaction; raises LeaseLost when the attempt is not the present one."""
    cursor = await conn.execute(
        "SELECT id FROM job WHERE id = %s AND attempt = %s AND state = 'running' FOR UPDATE", (job_id, attempt)
    )
    if await cursor.fetchone() is None:
        raise LeaseLost("This job was given to another worker.")


async def finish(conn: Connection, job_id: str, attempt: int, *, error: str | None = None) -> None:
    """Ends a job for good, in the transaction that holds what it did."""
    await conn.execute(
        "UPDATE job SET state = %s, leased_until = NULL, error = %s, finished_at = now(),"
        " progress = CASE WHEN %s THEN 1 ELSE progress END WHERE id = %s AND attempt = %s AND state = 'running'",
        ("failed" if error else "done", error, error is None, job_id, attempt),
    )


async def progressed(conn: Connection, job_id: str, attempt: int) -> None:
    """Notes that a job has come further, so that only failures from here on count against it."""
    await conn.execute("UPDATE job SET failures = 0 WHERE id = %s AND attempt = %s", (job_id, attempt))


async def hand_back(conn: Connection, run: JobRun, why: str) -> None:
    """Gives a job back that was interrupted and has not failed."""
    await conn.execute(
        "UPDATE job SET state = 'queued', leased_until = NULL, error = %s, run_after = now()"
        " WHERE id = %s AND attempt = %s AND state = 'running'",
        (why, run.id, run.attempt),
    )


async def put_back(conn: Connection, run: JobRun, error: str) -> None:
    """Gives a job back for a later attempt, waiting longer each time."""
    wait_s = _BACKOFF_S[min(run.failures, len(_BACKOFF_S) - 1)] * random.uniform(0.8, 1.2)  # noqa: S311
    await conn.execute(
        "UPDATE job SET state = 'queued', leased_until = NULL, failures = failures + 1, error = %s,"
        " run_after = now() + make_interval(secs => %s)"
        " WHERE id = %s AND attempt = %s AND state = 'running'",
        (error, wait_s, run.id, run.attempt),
    )


async def hasten(conn: Connection, kind: str, entity_id: str) -> None:
    """Makes the queued job of an entity due at once, as part of the caller's transaction; one that runs is left alone."""
    await conn.execute(
        "UPDATE job SET run_after = now() WHERE kind = %s AND entity_id = %s AND state = 'queued' AND run_after > now()",
        (kind, entity_id),
    )


async def postpone(conn: Connection, kind: str, entity_id: str, until: datetime) -> bool:
    """Makes the queued job of an entity due at another time; False when there is none, or it runs."""
    cursor = await conn.execute(
        "UPDATE job SET run_after = %s WHERE kind = %s AND entity_id = %s AND state = 'queued'", (until, kind, entity_id)
    )
    return cursor.rowcount == 1


async def call_off(conn: Connection, kind: str, entity_id: str) -> bool:
    """Ends the queued job of an entity, which has nothing left to do once the caller's transaction commits; False as above."""
    cursor = await conn.execute(
        "UPDATE job SET state = 'done', progress = 1, finished_at = now()"
        " WHERE kind = %s AND entity_id = %s AND state = 'queued'",
        (kind, entity_id),
    )
    return cursor.rowcount == 1


async def cancel_for(conn: Connection, kind: str, entity_id: str) -> None:
    """Ends the open job of an entity in the caller's transaction; whoever runs it loses the lease."""
    await conn.execute(
        "UPDATE job SET state = 'failed', leased_until = NULL, error = 'cancelled', finished_at = now()"
        " WHERE kind = %s AND entity_id = %s AND state IN ('queued', 'running')",
        (kind, entity_id),
    )


class Worker:
    """Takes jobs and does them, a few at a time, until stopped."""

    def __init__(
        self, kernel: Kernel, handlers: dict[str, JobHandler], *, dsn: str, slots: int, lease_s: int, attempts: int
    ) -> None:
        self._kernel = kernel
        self._handlers = handlers
        self._dsn = dsn
        self._slots = slots
        self._lease_s = lease_s
        self._attempts = attempts
        self._number = random.getrandbits(31)
        self._session: AsyncConnection[Row] | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Works until stop is called; a database that is away for a while is waited for."""
        bell = asyncio.create_task(self._hear_bell(), name="job-bell")
        try:
            while not self._stopping.is_set():
                self._wake.clear()
                try:
                    taken = await self._take()
                except (psycopg.Error, OSError) as error:
                    logger.warning("no jobs can be taken: %s", error)
                    taken = 0
                if not taken:
                    await self._idle()
        finally:
            bell.cancel()
            for task in self._running:
                task.cancel()
            await asyncio.gather(bell, *self._running, return_exceptions=True)
            if self._session is not None:
                await self._session.close()

    def stop(self) -> None:
        """Makes run return soon; what is unfinished is put back for another worker."""
        self._stopping.set()
        self._wake.set()

    async def _idle(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), POLL_S)

    async def _take(self) -> int:
        free = self._slots - len(self._running)
        if free <= 0 or self._session is None or self._session.closed:
            return 0
        values = {"lock_class": _SESSION_LOCK, "most": free, "worker": str(self._number), "lease_s": self._lease_s}
        async with self._kernel.pool.connection() as conn:
            rows = await (await conn.execute(_CLAIM, values)).fetchall()
        for row in rows:
            task = asyncio.create_task(self._do(row), name=f"job-{row['kind']}")
            self._running.add(task)
            task.add_done_callback(self._freed)
        return len(rows)

    def _freed(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._wake.set()

    async def _open_session(self) -> AsyncConnection[Row]:
        """Opens the one connection whose life is this worker's life."""
        if self._session is not None and not self._session.closed:
            return self._session
        session = await AsyncConnection.connect(self._dsn, autocommit=True, row_factory=dict_row)
        await session.execute("SELECT pg_advisory_lock(%s::int, %s::int)", (_SESSION_LOCK, self._number))
        await session.execute("LISTEN geopera_job")
        self._session = session
        return session

    async def _hear_bell(self) -> None:
        while True:
            try:
                session = await self._open_session()
                self._wake.set()
                async for _ in session.notifies():
                    self._wake.set()
            except (psycopg.Error, OSError) as error:
                logger.warning("the job bell fell silent: %s", error)
                await asyncio.sleep(POLL_S)

    async def _do(self, row: Row) -> None:
        run = JobRun(
            id=row["id"], kind=row["kind"], organization_id=row["organization_id"], entity_id=row["entity_id"],
            payload=row["payload"], attempt=row["attempt"], failures=row["failures"],
            max_attempts=self._attempts, kernel=self._kernel,
        )  # fmt: skip
        heartbeat = asyncio.create_task(self._keep_lease(run), name=f"lease-{run.id}")
        try:
            await self._handlers[run.kind](run)
        except LeaseLost:
            logger.warning("job %s attempt %d lost its lease", run.id, run.attempt)
        except asyncio.CancelledError:
            run.lost.set()
            await self._settle_row(hand_back, run, "the worker was stopped")
            raise
        except (TryAgain, psycopg.Error, Unavailable) as error:
            logger.info("job %s attempt %d is put back: %s", run.id, run.attempt, error)
            await self._settle_row(put_back, run, str(error))
        except Exception as error:
            logger.exception("job %s attempt %d broke", run.id, run.attempt)
            await self._settle_row(give_up if run.last_chance else put_back, run, str(error) or type(error).__name__)
        finally:
            heartbeat.cancel()

    async def _settle_row(self, how: Callable[[Connection, JobRun, str], Awaitable[None]], run: JobRun, why: str) -> None:
        """Writes how an attempt ended; if the database is away the lease runs out and says the same."""
        try:
            async with self._kernel.pool.connection() as conn:
                await how(conn, run, why)
        except (psycopg.Error, OSError) as error:
            logger.warning("job %s keeps its lease until it runs out: %s", run.id, error)

    async def _keep_lease(self, run: JobRun) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            try:
                async with self._kernel.pool.connection() as conn:
                    cursor = await conn.execute(
                        "UPDATE job SET leased_until = now() + make_interval(secs => %s), progress = %s"
                        " WHERE id = %s AND attempt = %s AND state = 'running'",
                        (self._lease_s, run.done, run.id, run.attempt),
                    )
            except (psycopg.Error, OSError) as error:
                logger.warning("the lease of job %s could not be renewed: %s", run.id, error)
                continue
            if cursor.rowcount == 0:
                run.lost.set()
                return


async def give_up(conn: Connection, run: JobRun, why: str) -> None:
    """Ends a job whose attempts are used up."""
    await finish(conn, run.id, run.attempt, error=why)


async def ring_for(kernel: Kernel) -> None:
    """Rings the bell for calls of this process that have queued jobs, until cancelled.

    The bell rings after the commit and not with it: a NOTIFY inside a transaction takes a lock that every other commit
    with one waits for. A bell that is not heard costs at most one poll.
    """
    while True:
        await kernel.job_queued.wait()
        kernel.job_queued.clear()
        try:
            async with kernel.pool.connection() as conn:
                await conn.execute("SELECT pg_notify(%s, '')", (CHANNEL,))
        except (psycopg.Error, OSError) as error:
            logger.warning("the job bell could not be rung: %s", error)
