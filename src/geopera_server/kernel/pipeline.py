"""Runs an operation. Every way in builds a Call and comes here; nothing else may run an operation.

authenticate -> rate limit -> authorise scope -> validate input -> claim idempotency -> BEGIN
    -> execute -> validate output -> seal lineage -> audit -> COMMIT -> reply

A change happens in one transaction or not at all. Its handler runs behind a savepoint, so that a refused call takes back all
that it wrote and still leaves its audit row. A change that finds that something outside has to happen first, as a card to be
charged, takes its transaction back, plays that interlude, and begins it anew. A read runs without a transaction, unless it
asks for one moment, and hands its audit row to a batch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg import errors as sql_errors
from psycopg_pool import PoolTimeout

from geopera_server.db.pool import Connection, Pool
from geopera_server.kernel import audit, idempotency, policy
from geopera_server.kernel.audit import AuditEvent, AuditWriter
from geopera_server.kernel.context import Asked, Context, Outside
from geopera_server.kernel.crashing import crash_point
from geopera_server.kernel.errors import (
    Conflict,
    NotFound,
    OperationError,
    Unauthenticated,
    Unavailable,
)
from geopera_server.kernel.interlude import MOST_INTERLUDES, Interlude
from geopera_server.kernel.operation import Handler, Operation, operation_of
from geopera_server.kernel.outbox import write_recorded
from geopera_server.kernel.overspending import OVERSPENDING, overspent
from geopera_server.kernel.policy import RateCaps
from geopera_server.kernel.principal import GUEST, Authenticator, Credential, Principal
from geopera_server.kernel.reply import Reply, render
from geopera_server.kernel.transaction import begun
from geopera_server.kernel.validation import ignored_fields, parse_input
from geopera_server.ports import Links, Ports, Secrets
from geopera_server.values.clock import now
from geopera_server.values.encoding import canonical
from geopera_server.values.ids import new_id

logger = logging.getLogger(__name__)

DEADLOCK_RETRIES = 3
_STARTS_OVER = (sql_errors.DeadlockDetected, sql_errors.SerializationFailure)


class LineageMissing(RuntimeError):
    """An operation said that it produces an artifact kind and recorded no lineage for it; nothing it did is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request to run an operation, from wherever it came.

    `given` may be a function: what came is then read only once it is known who sent it. A `principal` is whoever the caller
    has made sure of, and is not counted; one that a ticket from outside stands for is, with `counted`.
    """

    operation: Operation
    given: Mapping[str, Any] | Callable[[], Mapping[str, Any]]
    credential: Credential | None = None
    principal: Principal | None = None
    counted: bool = False
    idempotency_key: str | None = None
    asked: Asked = field(default_factory=Asked)
    invocation_id: str = field(default_factory=new_id)


@dataclass(slots=True)
class _Trace:
    """What the audit row will say, as far as the call has come."""

    call: Call
    at: datetime
    started: float
    principal: Principal = GUEST
    given: Mapping[str, Any] = field(default_factory=dict)
    entities: tuple[tuple[str, str], ...] = ()
    input_digest: str | None = None
    admitted: bool = False
    audited: bool = False

    def event(self, status: int, *, code: str | None = None, replayed: bool = False) -> AuditEvent:
        operation = self.call.operation
        return AuditEvent(
            invocation_id=self.call.invocation_id,
            at=self.at,
            operation_id=operation.id,
            side_effect=operation.effect,
            scope=operation.scope,
            principal_type=self.principal.kind,
            principal_id=self.principal.id,
            api_key_id=self.principal.api_key_id,
            organization_id=self.principal.organization_id,
            status=status,
            code=code,
            duration_ms=round((time.perf_counter() - self.started) * 1000, 3),
            ip=self.call.asked.ip,
            user_agent=self.call.asked.user_agent,
            entities=self.entities,
            input_digest=self.input_digest,
            idempotency_key=self.call.idempotency_key,
            replayed=replayed,
        )


class Kernel:
    """Runs operations over a pool of connections and the chosen adapters."""

    def __init__(
        self,
        *,
        pool: Pool,
        ports: Ports,
        links: Links,
        secrets: Secrets,
        authenticate: Authenticator,
        caps: RateCaps,
        check_replies: bool = False,
    ) -> None:
        self.pool = pool
        self.ports = ports
        self.links = links
        self.secrets = secrets
        self.caps = caps
        self.check_replies = check_replies
        self.reads_audit = AuditWriter(pool.connection)
        self.job_queued = asyncio.Event()
        self._authenticate = authenticate

    async def run(self, call: Call) -> Reply:
        """Runs the call and returns its reply.

        Raises OperationError for every refusal, its audit row already taken care of; anything else raised is a defect.
        """
        trace = _Trace(call, now(), time.perf_counter())
        try:
            try:
                return await self._run(call, trace)
            except psycopg.OperationalError:
                if trace.admitted:
                    raise
                # Nothing has been done yet, and after a restart of the database the pool is full of dead connections.
                await self.pool.check()
                return await self._run(call, trace)
        except Exception as error:
            refusal = as_refusal(error)
            if not trace.audited:
                status, code = (500, "internal_error") if refusal is None else (refusal.status, refusal.code)
                self.reads_audit.add(trace.event(status, code=code))
            if refusal is None or refusal is error:
                raise
            raise refusal from error
        finally:
            self._count(trace)

    def _count(self, trace: _Trace) -> None:
        """Counts a call of an organization's people and keys, however it ended; what the platform does itself is not one."""
        if trace.call.credential is not None and trace.principal.organization_id is not None:
            self.ports.meter.count(trace.principal.organization_id, "api_requests")

    async def _run_further(self, handler: Handler, given: Mapping[str, Any], principal: Principal) -> bytes:
        """Runs a further call, for one that is outside, and returns the body of its reply."""
        return (await self.run(Call(operation=operation_of(handler), given=given, principal=principal))).body

    async def identify(self, credential: Credential) -> Principal:
        """Returns whose credential it is, counting the call; raises Unauthenticated or RateLimited.

        Raises Denied for a credential that is for some operations only.
        """
        async with self.pool.connection() as conn:
            admission = await self._authenticate(conn, credential, "default")
        if admission is None:
            raise Unauthenticated("The credential is unknown, revoked or expired. Get a new token and try again.")
        policy.check_rate(admission, "default", self.caps, now())
        policy.require_unrestricted(admission.principal)
        return admission.principal

    async def _run(self, call: Call, trace: _Trace) -> Reply:
        operation = call.operation
        async with self.pool.connection() as conn:
            await self._admit(conn, trace)
            trace.admitted = True
            policy.authorise(operation, trace.principal)
            trace.given = call.given() if callable(call.given) else call.given
            given = parse_input(operation, trace.given)
            # Keyed: of an input that is known but for a password, a plain digest would let the password be searched for.
            trace.input_digest = self.secrets.digest("audit_inputs", canonical(trace.given).decode()).hex()
            if operation.reads and not operation.goes_outside:
                return self._noted(trace, await self._read(conn, trace, given))
        if operation.goes_outside:
            result = await operation.handler(self._outside(trace), given)
            return self._noted(trace, render(operation, result, asked=trace.call.asked, check=self.check_replies))
        return await self._change(trace, given)

    def _noted(self, trace: _Trace, reply: Reply) -> Reply:
        self.reads_audit.add(trace.event(reply.status))
        return reply

    async def _admit(self, conn: Connection, trace: _Trace) -> None:
        """Finds out who calls and counts the call; the trace knows the caller also when the call is over a cap."""
        call = trace.call
        if call.principal is not None:
            trace.principal = call.principal
            if call.counted:
                await policy.count_ticket(conn, call.principal, call.operation.rate_class, self.caps, trace.at)
        elif call.credential is None:
            if not call.operation.public:
                raise Unauthenticated("No credential was sent. Send 'Authorization: Bearer <token or API key>'.")
            ip, rate_class = call.asked.ip or "unknown", call.operation.rate_class
            await policy.count_guest(conn, ip, self.caps, trace.at, rate_class=rate_class)
        else:
            admission = await self._authenticate(conn, call.credential, call.operation.rate_class)
            if admission is None:
                raise Unauthenticated("The credential is unknown, revoked or expired. Get a new token and try again.")
            trace.principal = admission.principal
            policy.check_rate(admission, call.operation.rate_class, self.caps, trace.at)

    async def _read(self, conn: Connection, trace: _Trace, given: Any) -> Reply:
        operation, ctx = trace.call.operation, self._context(trace, conn)
        if not operation.snapshot:
            result = await operation.handler(ctx, given)
        else:
            async with conn.transaction():
                await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                result = await operation.handler(ctx, given)
        trace.entities = tuple(ctx.touched)
        return render(operation, result, asked=trace.call.asked, check=self.check_replies)

    async def _change(self, trace: _Trace, given: Any) -> Reply:
        operation = trace.call.operation
        claim = self._claim(trace, given)
        if claim is not None and operation.prepare is not None:
            # A repeat is answered before the outside is asked anything again.
            async with self.pool.connection() as conn:
                stored = await idempotency.stored_reply(conn, claim, trace.at)
                if stored is not None:
                    await audit.write(conn, trace.event(stored.status, replayed=True))
                    return Reply.replayed(stored)
        prepared = () if operation.prepare is None else (await operation.prepare(self._outside(trace), given),)
        for _ in range(MOST_INTERLUDES):
            try:
                return await self._transact_again(trace, claim, (given, *prepared))
            except Interlude as interlude:
                await interlude.play(self._outside(trace))
        raise Conflict(
            "What this call needs is taken by others again and again. Send the same request again, with the same"
            " Idempotency-Key.",
            code="resource_busy",
            retry_after_s=2,
        )

    async def _transact_again(self, trace: _Trace, claim: idempotency.Claim | None, arguments: tuple[Any, ...]) -> Reply:
        for attempt in range(DEADLOCK_RETRIES):
            try:
                async with self.pool.connection() as conn:
                    return await self._transact(conn, trace, claim, arguments)
            except _STARTS_OVER:
                if attempt == DEADLOCK_RETRIES - 1:
                    raise
                logger.info("%s met a deadlock and starts over", trace.call.invocation_id)
        raise AssertionError("unreachable")

    async def _transact(
        self, conn: Connection, trace: _Trace, claim: idempotency.Claim | None, arguments: tuple[Any, ...]
    ) -> Reply:
        """Steps from BEGIN to COMMIT; a refused call goes back to the savepoint and leaves its audit row."""
        ctx = self._context(trace, conn)
        async with begun(conn):
            try:
                reply = await self._attempt(ctx, trace, claim, arguments)
            except Exception as error:
                if conn.broken or isinstance(error, (*_STARTS_OVER, Interlude)):
                    raise
                await conn.execute("ROLLBACK TO SAVEPOINT call")
                async with conn.pipeline():
                    await audit.write(conn, _failed_event(trace, error))
                    await conn.execute("COMMIT")
                trace.audited = True
                raise
        crash_point("call-committed")
        if ctx.jobs:
            self.job_queued.set()
        return reply

    async def _attempt(self, ctx: Context, trace: _Trace, claim: idempotency.Claim | None, arguments: tuple[Any, ...]) -> Reply:
        """Executes and records; the commit travels with the last rows, in one round trip."""
        operation, conn = trace.call.operation, ctx.conn
        stored = None if claim is None else await idempotency.taken(conn, claim, trace.at)
        if stored is not None:
            await audit.write(conn, trace.event(stored.status, replayed=True))
            await conn.execute("COMMIT")
            return Reply.replayed(stored)
        result = await operation.handler(ctx, *arguments)
        trace.entities = _entities(ctx)
        if missing := ctx.lineage.missing(operation.produces):
            raise LineageMissing(f"{operation.id} recorded no lineage for {', '.join(missing)}")
        reply = render(
            operation, result, asked=trace.call.asked, check=self.check_replies, warnings=_warnings(operation, trace.given)
        )
        async with conn.pipeline():
            await write_recorded(ctx)
            await audit.write(conn, trace.event(reply.status))
            if claim is not None:
                await _remember(conn, trace, claim, operation, reply)
            await conn.execute("COMMIT")
        return reply

    def _claim(self, trace: _Trace, given: Any) -> idempotency.Claim | None:
        call = trace.call
        # Who belongs to no organization yet, as somebody who makes their first one, claims for themselves.
        claimant_id = trace.principal.organization_id or trace.principal.id
        if call.idempotency_key is None or not call.operation.idempotent or claimant_id is None:
            return None
        return idempotency.claim_for(
            claimant_id,
            call.operation.id,
            call.idempotency_key,
            given.model_dump(mode="json", by_alias=True),
        )

    def _context(self, trace: _Trace, conn: Connection) -> Context:
        return Context(
            conn=conn,
            principal=trace.principal,
            operation_id=trace.call.operation.id,
            invocation_id=trace.call.invocation_id,
            now=trace.at,
            links=self.links,
            secrets=self.secrets,
            addresses=self.ports.addresses,
            asked=trace.call.asked,
            idempotency_key=trace.call.idempotency_key,
            given=trace.given,
        )

    def _outside(self, trace: _Trace) -> Outside:
        return Outside(
            principal=trace.principal,
            operation_id=trace.call.operation.id,
            invocation_id=trace.call.invocation_id,
            now=trace.at,
            links=self.links,
            secrets=self.secrets,
            ports=self.ports,
            run=self._run_further,
            asked=trace.call.asked,
            given=trace.given,
        )


def _warnings(operation: Operation, given: Mapping[str, Any]) -> list[dict[str, str]]:
    return ignored_fields(operation, given) if operation.spends else []


def _entities(ctx: Context) -> tuple[tuple[str, str], ...]:
    spoken_of = [*ctx.touched, *(record.entity for record in ctx.lineage.records)]
    return tuple(dict.fromkeys(spoken_of))


async def _remember(conn: Connection, trace: _Trace, claim: idempotency.Claim, operation: Operation, reply: Reply) -> None:
    made_id = reply.member(operation.secret_id_field) if operation.secret_id_field else None
    await idempotency.remember(
        conn,
        claim,
        idempotency.StoredReply(status=reply.status, media_type=reply.media_type, body=reply.body),
        invocation_id=trace.call.invocation_id,
        now=trace.at,
        for_good=operation.spends,
        made_id=made_id,
    )


def _failed_event(trace: _Trace, error: Exception) -> AuditEvent:
    refusal = as_refusal(error)
    return trace.event(500, code="internal_error") if refusal is None else trace.event(refusal.status, code=refusal.code)


def as_refusal(error: Exception) -> OperationError | None:
    """Returns what a caller is told about an error; operation errors stay as they are, None for a defect of ours."""
    if isinstance(error, OperationError):
        return error
    if isinstance(error, sql_errors.InvalidTextRepresentation):
        # The only text that reaches a typed column unchecked is an id: a malformed id is an unknown id.
        return NotFound()
    if isinstance(error, psycopg.Error) and error.sqlstate in OVERSPENDING:
        return overspent(error)
    if isinstance(error, sql_errors.UniqueViolation):
        return Conflict("Somebody else made the same thing a moment ago. Look it up, then decide.")
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout)):
        return Unavailable(
            "The database does not answer at the moment. Send the same request again, with the same Idempotency-Key.",
            code="database_unavailable",
            retry_after_s=2,
        )
    return None
