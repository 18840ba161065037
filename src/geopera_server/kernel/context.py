"""What a handler is given. The two kinds keep network and transaction apart by type.

`Context` has a database connection inside the call's transaction and no ports; `Outside` has the ports and no transaction.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from geopera_server.kernel.errors import Denied
from geopera_server.kernel.lineage import Lineage
from geopera_server.kernel.principal import Principal
from geopera_server.ports import Links, Ports, Secrets
from geopera_server.ports.addresses import Addresses
from geopera_server.values.ids import new_id

# A handler, what it is given, and who calls: answered with the body of the reply.
RunFurther = Callable[[Callable[..., Awaitable[Any]], Mapping[str, Any], Principal], Awaitable[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A state change that subscriptions, alerts and notifications hear of once the call has committed."""

    type: str
    entity_type: str
    entity_id: str
    data: Mapping[str, Any]
    project_id: str | None = None
    organization_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedJob:
    """Background work that exists exactly when the call that asked for it has committed."""

    kind: str
    entity_id: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    organization_id: str | None = None
    run_after: datetime | None = None
    id: str = field(default_factory=new_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How a call came in, as far as a handler may care: from where, and which form of an answer would do."""

    ip: str | None = None
    user_agent: str | None = None
    accept: str = "*/*"
    if_none_match: str | None = None


@dataclass(slots=True, kw_only=True)
class Context:
    """One call inside its transaction; what it records here is written with it or not at all."""

    conn: AsyncConnection[dict[str, Any]]
    principal: Principal
    operation_id: str
    invocation_id: str
    now: datetime
    links: Links
    secrets: Secrets
    addresses: Addresses
    asked: Asked = field(default_factory=Asked)
    idempotency_key: str | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    lineage: Lineage = field(default_factory=Lineage)
    events: list[Event] = field(default_factory=list)
    jobs: list[QueuedJob] = field(default_factory=list)
    touched: list[tuple[str, str]] = field(default_factory=list)

    @property
    def organization_id(self) -> str:
        """The one organization this call acts in; every query names it."""
        if self.principal.organization_id is None:
            raise Denied("This account belongs to no organization yet. Create one with organizations.create.")
        return self.principal.organization_id

    def emit(
        self,
        event_type: str,
        entity: tuple[str, str],
        data: Mapping[str, Any],
        *,
        project_id: str | None = None,
        organization_id: str | None = None,
    ) -> None:
        """Records an event for the outbox; of the caller's organization, unless an operator acts on another one."""
        kind, entity_id = entity
        self.events.append(
            Event(
                type=event_type,
                entity_type=kind,
                entity_id=entity_id,
                data=data,
                project_id=project_id,
                organization_id=organization_id,
            )
        )

    def enqueue(
        self,
        kind: str,
        entity_id: str,
        payload: Mapping[str, Any] | None = None,
        *,
        organization_id: str | None = None,
        run_after: datetime | None = None,
    ) -> None:
        """Queues background work on an entity, which has at most one open job of a kind: one more is the same one."""
        self.jobs.append(
            QueuedJob(
                kind=kind, entity_id=entity_id, payload=payload or {}, organization_id=organization_id, run_after=run_after
            )
        )

    def touch(self, entity_type: str, entity_id: str) -> None:
        """Names an entity in the audit row of this call."""
        self.touched.append((entity_type, entity_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """One call outside any transaction: it may use the network, and borrow a connection for as long as a query takes.

    `run` runs a further call, audited as one of its own: for what is done to many organizations, each by itself.
    """

    principal: Principal
    operation_id: str
    invocation_id: str
    now: datetime
    links: Links
    secrets: Secrets
    ports: Ports
    run: RunFurther
    asked: Asked = field(default_factory=Asked)
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def organization_id(self) -> str:
        """The one organization this call acts in."""
        return self.principal.organization_id or ""

    def connection(self) -> AbstractAsyncContextManager[AsyncConnection[dict[str, Any]]]:
        """Lends a connection in autocommit; give it back before waiting for anybody outside."""
        return self.ports.connect()
