"""A house without HTTP: operations are run through its kernel by whoever the test says."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from geopera_server.app import House, opened
from geopera_server.kernel.chain import seal
from geopera_server.kernel.errors import OperationError
from geopera_server.kernel.operation import Handler, operation_of
from geopera_server.kernel.pipeline import Call
from geopera_server.kernel.principal import Principal
from geopera_server.kernel.sealing import SealingKey
from support.serving import Place, Resident, settings_for

BASE_URL = "http://house.test"


@dataclass
class Caller:
    """Somebody who runs operations."""

    house: House
    principal: Principal

    async def op(self, operation_id: str, given: Mapping[str, Any] | None = None, *, key: str | None = None) -> Any:
        """Runs an operation that must succeed and returns its reply."""
        return orjson.loads((await self._run(self.house.registry.get(operation_id), given, key)).body)

    async def refused(
        self, operation_id: str, given: Mapping[str, Any] | None = None, *, key: str | None = None
    ) -> tuple[int, str]:
        """Runs an operation that must be refused and returns status and code."""
        try:
            reply = await self._run(self.house.registry.get(operation_id), given, key)
        except OperationError as error:
            return error.status, error.code
        raise AssertionError(f"{operation_id} was not refused: {reply.body!r}")

    async def run(self, handler: Handler, given: Mapping[str, Any] | None = None) -> Any:
        """Runs an operation of the test's own and returns its reply."""
        return orjson.loads((await self._run(operation_of(handler), given, None)).body)

    async def _run(self, operation, given, key):
        call = Call(operation=operation, given=given or {}, principal=self.principal, idempotency_key=key)
        return await self.house.kernel.run(call)


def owner_of(resident: Resident, *, scopes: Sequence[str] = ("*",)) -> Principal:
    """Returns the owner of an organization; `*` without the platform's rights."""
    held = frozenset({"*:read", "*:write"} if tuple(scopes) == ("*",) else scopes)
    return Principal(
        kind="user", id=resident.user_id, organization_id=resident.organization_id, organization_role="owner", scopes=held
    )


def operator_of(place: Place) -> Principal:
    """Returns an operator, who belongs to no organization."""
    return Principal(kind="user", id=place.operator_id, scopes=frozenset({"admin:read", "admin:write", "*:read", "*:write"}))


@dataclass
class Household:
    """The house and its people."""

    house: House
    place: Place

    @property
    def owner(self) -> Caller:
        return Caller(self.house, owner_of(self.place.home))

    @property
    def stranger(self) -> Caller:
        return Caller(self.house, owner_of(self.place.stranger))

    @property
    def operator(self) -> Caller:
        return Caller(self.house, operator_of(self.place))

    @property
    def project_id(self) -> str:
        return self.place.home.project_id

    async def sql(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Asks the database directly."""
        async with self.house.pool.connection() as conn:
            cursor = await conn.execute(query, values)
            return await cursor.fetchall() if cursor.description else []

    async def tamper(self, query: str, *values: Any) -> None:
        """Changes the database as somebody would who has it all, past the triggers that keep rows as they are."""
        async with self.house.pool.connection() as conn, conn.transaction():
            await conn.execute("SET LOCAL session_replication_role = 'replica'")
            cursor = await conn.execute(query, values)
            assert cursor.rowcount > 0, "the tampering changed nothing"

    async def seal(self) -> int:
        """Seals what waits, as the background does twice a second."""
        async with self.house.pool.connection() as conn:
            return await seal(conn, SealingKey(self.house.settings.key_for("lineage")))


@contextlib.asynccontextmanager
async def inhabited(dsn: str, place: Place, data_dir: Path, **more: Any) -> AsyncIterator[Household]:
    """Opens a house over a prepared database, with nothing running in the background."""
    async with opened(settings_for(data_dir, **more), dsn, base_url=BASE_URL) as house:
        yield Household(house, place)
