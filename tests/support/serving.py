"""Serves a whole house on loopback, and speaks to it as its people do."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from pydantic import SecretStr

from geopera_server.app import House, background, opened
from geopera_server.db.migrate import migrate
from geopera_server.db.pool import make_pool
from geopera_server.domains.billing.seed import seed_plans
from geopera_server.domains.catalog.seed import seed_sources
from geopera_server.domains.identity.bootstrap import create_api_key, create_organization, create_user
from geopera_server.domains.pricing.seed import seed_price_list
from geopera_server.ledger.postings import Cause, Posting, post
from geopera_server.settings import Settings
from geopera_server.transports.cli.listening import take_port
from geopera_server.values.clock import now
from geopera_server.values.ids import new_id

SECRET = "a secret for tests that is long enough to pass"
PASSWORD = "correct horse battery staple"
OPENING_CREDITS = 100_000


@dataclass(frozen=True)
class Resident:
    """One organization with its people."""

    organization_id: str
    project_id: str
    api_key: str
    email: str
    user_id: str


@dataclass(frozen=True)
class Place:
    """Everybody in the prepared database."""

    home: Resident
    stranger: Resident
    operator_email: str
    operator_id: str


def settings_for(data_dir: Path, **more: Any) -> Settings:
    """Returns settings of a test house: known secret, replies checked, rates high enough not to be in the way."""
    values = {
        "data_dir": data_dir, "secret": SecretStr(SECRET), "check_replies": True, "rate_default": 100_000,
        "rate_placement": 100_000, "rate_spend": 100_000, "rate_public": 100_000, "port": 0,
        "crons": False,
    }  # fmt: skip
    return Settings(**{**values, **more})


async def prepared_template(dsn: str) -> Place:
    """Migrates and seeds a database; tests copy it."""
    migrate(dsn)
    settings = settings_for(Path())
    key = settings.key_for("api_keys")

    def digest(secret: str) -> bytes:
        return hmac.digest(key, secret.encode(), "sha256")

    pool = make_pool(dsn, max_size=2)
    await pool.open()
    async with pool.connection() as conn, conn.transaction():
        await seed_sources(conn)
        await seed_price_list(conn)
        await seed_plans(conn)
        home = await _resident(conn, digest, "Home Mapping", "owner@home.example")
        stranger = await _resident(conn, digest, "Strangers", "owner@stranger.example")
        operator = await create_user(conn, email="operator@platform.example", password=PASSWORD, operator=True, at=now())
    await pool.close()
    return Place(home, stranger, "operator@platform.example", operator["id"])


async def _resident(conn, digest, name: str, email: str) -> Resident:
    user = await create_user(conn, email=email, password=PASSWORD, at=now())
    made = await create_organization(conn, name=name, owner_id=user["id"], at=now())
    organization_id = made.organization["id"]
    key = await create_api_key(
        conn, organization_id=organization_id, name="tests", digest=digest, at=now(), created_by=user["id"]
    )
    cause = Cause(organization_id=organization_id, invocation_id=new_id(), at=now())
    await post(
        conn, cause, Posting(reason="operator_grant", credits=OPENING_CREDITS, external_ref=f"opening:{organization_id}")
    )
    return Resident(organization_id, made.default_project["id"], key.secret, email, user["id"])


@dataclass
class Actor:
    """Somebody who calls operations."""

    http: httpx.AsyncClient
    token: str
    headers: dict[str, str] = field(default_factory=dict)

    async def post(self, operation_id: str, body: Any = None, **headers: str) -> httpx.Response:
        """Calls an operation and returns the whole response."""
        sent = {"Authorization": f"Bearer {self.token}", **self.headers, **{k.replace("_", "-"): v for k, v in headers.items()}}
        return await self.http.post(f"/v1/op/{operation_id}", json={} if body is None else body, headers=sent)

    async def op(self, operation_id: str, body: Any = None, **headers: str) -> Any:
        """Calls an operation that must succeed and returns its reply."""
        response = await self.post(operation_id, body, **headers)
        assert response.is_success, f"{operation_id}: {response.status_code} {response.text}"
        return response.json()

    async def refused(self, operation_id: str, body: Any = None, **headers: str) -> tuple[int, str]:
        """Calls an operation that must be refused and returns status and code, the problem's form checked."""
        response = await self.post(operation_id, body, **headers)
        assert not response.is_success, f"{operation_id} was not refused: {response.text}"
        return response.status_code, problem_of(response)["code"]


def problem_of(response: httpx.Response) -> dict[str, Any]:
    """Returns the problem body of a refusal; every refusal has the same members."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    problem = response.json()
    assert {"type", "title", "status", "detail", "code", "invocation_id"} <= problem.keys()
    assert problem["status"] == response.status_code
    assert isinstance(problem["detail"], list if response.status_code == 422 else str)
    assert response.headers["x-invocation-id"] == problem["invocation_id"]
    return problem


@dataclass
class Serving:
    """A served house and its people."""

    base_url: str
    house: House
    place: Place
    http: httpx.AsyncClient

    @property
    def home(self) -> Actor:
        return Actor(self.http, self.place.home.api_key)

    @property
    def stranger(self) -> Actor:
        return Actor(self.http, self.place.stranger.api_key)

    async def operator(self) -> Actor:
        return await self.signed_in(self.place.operator_email)

    async def signed_in(self, email: str) -> Actor:
        """Returns a human after signing in with the password grant."""
        form = {"grant_type": "password", "client_id": "geopera", "username": email, "password": PASSWORD}
        response = await self.http.post("/realms/public/protocol/openid-connect/token", data=form)
        assert response.status_code == 200, response.text
        return Actor(self.http, response.json()["access_token"])

    async def sql(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Asks the database behind the house directly."""
        async with self.house.pool.connection() as conn:
            cursor = await conn.execute(query, values)
            return await cursor.fetchall() if cursor.description else []

    async def until_ended(self, order_id: str, *, within_s: float = 60.0) -> dict[str, Any]:
        """Waits for an order of the home organization to reach a final state and returns it."""
        deadline = asyncio.get_running_loop().time() + within_s
        while True:
            order = await self.home.op("orders.get", {"order_id": order_id})
            if order["status"] in {"fulfilled", "failed", "cancelled"}:
                return order
            assert asyncio.get_running_loop().time() < deadline, f"the order is still {order['status']} ({order['subStatus']})"
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def served(
    dsn: str, place: Place, *, data_dir: Path, source_roots: Sequence[Path] = (), **more: Any
) -> AsyncIterator[Serving]:
    """Serves a house over a prepared database until the block ends."""
    settings = settings_for(data_dir, source_roots=list(source_roots), **more)
    # As the command line does it: a socket made without naming TCP gets no TCP_NODELAY, and each call waits 40 ms.
    with take_port("127.0.0.1", 0) as listening:
        base_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with opened(settings, dsn, base_url=base_url) as house, background(house):
            config = uvicorn.Config(house.asgi, log_level="warning", lifespan="off", access_log=False)
            server = uvicorn.Server(config)
            task = asyncio.create_task(server.serve(sockets=[listening]))
            while not server.started:
                assert not task.done(), "the server did not start"
                await asyncio.sleep(0.005)
            try:
                async with httpx.AsyncClient(base_url=base_url, timeout=60) as http:
                    yield Serving(base_url, house, place, http)
            finally:
                server.should_exit = True
                await task
