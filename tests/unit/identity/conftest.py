"""An identity realm over a database of its own, called over HTTP without a socket."""

from __future__ import annotations

import hmac
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from argon2 import PasswordHasher
from psycopg import AsyncConnection
from pydantic import SecretStr

from geopera_server.adapters.secrets import SettingsSecrets
from geopera_server.db.migrate import migrate
from geopera_server.db.pool import connection_arguments, make_pool
from geopera_server.domains.identity import passwords
from geopera_server.domains.identity.authenticate import make_authenticator
from geopera_server.domains.identity.bootstrap import create_api_key, create_organization, create_user
from geopera_server.domains.identity.oauth.realm import make_realm
from geopera_server.domains.identity.oauth.tokens import make_tokens
from geopera_server.domains.usage.metering import Meter
from geopera_server.kernel.pipeline import Kernel
from geopera_server.kernel.policy import RateCaps
from geopera_server.kernel.registry import load
from geopera_server.ports import Ports
from geopera_server.settings import Settings
from geopera_server.transports.http.app import make_app
from geopera_server.transports.http.links import SignedLinks
from geopera_server.transports.http.oauth import oauth_routes
from geopera_server.values.clock import now
from support.realms import BASE_URL, PASSWORD, Realms

SETTINGS = Settings(secret=SecretStr("a secret that only these tests know"), data_dir=Path("unused"))


@pytest.fixture(scope="session", autouse=True)
def quick_passwords():
    """Hashes cheaply: what a hash costs is not what these tests are about, and each takes 0.1 s at full strength."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords._OF_ACCOUNTS, "_hasher", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
        yield


@pytest_asyncio.fixture(scope="session")
async def identity_template(cluster, quick_passwords):
    """A migrated database with one organization, its owner and a key, and what is known of them."""
    dsn = cluster.create_database()
    migrate(dsn)
    async with await AsyncConnection.connect(dsn, **connection_arguments()) as conn:
        owner = await create_user(conn, email=Realms.email, password=PASSWORD, display_name="Ona Owner", at=now())
        made = await create_organization(conn, name="Harbour Survey", owner_id=owner["id"], at=now())
        organization_id = made.organization["id"]

        def digest(secret: str) -> bytes:
            return hmac.digest(SETTINGS.key_for("api_keys"), secret.encode(), "sha256")

        key = await create_api_key(conn, organization_id=organization_id, name="scripts", digest=digest, at=now())
    known = {
        "owner_id": owner["id"],
        "organization_id": organization_id,
        "project_id": made.default_project["id"],
        "api_key": key.secret,
        "api_key_id": key.row["id"],
    }
    return dsn, known


@pytest.fixture(scope="session")
def identity_registry():
    return load("geopera_server.domains.identity")


@pytest.fixture
def caps() -> RateCaps:
    return RateCaps(default=10_000, public=10_000)


@pytest.fixture
def settings() -> Settings:
    return SETTINGS


@pytest_asyncio.fixture
async def realms(cluster, identity_template, identity_registry, caps, settings):
    template, known = identity_template
    dsn = cluster.create_database(template)
    pool = make_pool(dsn, min_size=1, max_size=8)
    await pool.open()
    tokens = make_tokens(settings)
    kernel = Kernel(
        pool=pool,
        ports=Ports(
            connect=pool.connection,
            host_for=None,
            store=None,
            processor=None,
            meter=Meter(pool.connection),
            addresses=None,
            renders=None,
            source_roots=(),
            scratch=Path(),
        ),
        links=SignedLinks(BASE_URL, settings.key_for("links")),
        secrets=SettingsSecrets(settings),
        authenticate=make_authenticator(tokens, settings.key_for("api_keys")),
        caps=caps,
        check_replies=True,
    )
    routes = oauth_routes(kernel, settings, tokens)
    app = make_app(kernel, identity_registry, max_body_bytes=1_000_000, more_routes=routes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE_URL) as http:
        yield Realms(kernel=kernel, realm=make_realm(pool, tokens, settings), tokens=tokens, http=http, **known)
    await pool.close()
    cluster.drop_database(dsn)
