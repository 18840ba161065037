"""The first operator and organization of a real deployment."""

from __future__ import annotations

import asyncio
import getpass
import sys
from pathlib import Path

from geopera_server.adapters.secrets import SettingsSecrets
from geopera_server.db.pool import Connection, make_pool
from geopera_server.db.presence import database
from geopera_server.domains.identity.bootstrap import create_api_key, create_organization, create_user
from geopera_server.domains.identity.store.operators import claim_bootstrap, operator_exists
from geopera_server.kernel.errors import OperationError
from geopera_server.settings import Settings
from geopera_server.transports.cli.trouble import Trouble
from geopera_server.values.clock import now


def password_from(file: Path | None) -> str:
    """Returns the first line of the file (of standard input for `-`), or asks at the terminal, twice."""
    if file == Path("-"):
        return sys.stdin.readline().rstrip("\r\n")
    if file is not None:
        try:
            return file.read_text().partition("\n")[0].rstrip("\r")
        except OSError as error:
            raise Trouble(f"The password file {file} cannot be read ({error.strerror}). Check --password-file.") from None
    if not sys.stdin.isatty():
        raise Trouble("There is no terminal to ask for a password. Give --password-file FILE, or - for standard input.")
    password = getpass.getpass("Password of the operator: ")
    if getpass.getpass("Once more: ") != password:
        raise Trouble("The two passwords differ. Start again.")
    return password


def bootstrap(
    settings: Settings, *, organization: str, email: str, password: str, name: str | None, force: bool
) -> dict[str, str]:
    """Makes operator, organization, project and key in one transaction and returns what to show once.

    Raises Trouble when there is an operator and `force` is not given, or when the address or password is not taken.
    """

    async def run(dsn: str) -> dict[str, str]:
        async with make_pool(dsn, min_size=1, max_size=1) as pool, pool.connection() as conn, conn.transaction():
            await claim_bootstrap(conn)
            if await operator_exists(conn) and not force:
                raise Trouble("This deployment has an operator already. Sign in as them, or add another with --force.")
            return await _make(conn, settings, organization=organization, email=email, password=password, name=name)

    with database(settings) as dsn:
        try:
            return asyncio.run(run(dsn))
        except OperationError as error:
            raise Trouble(str(error)) from None


async def _make(
    conn: Connection, settings: Settings, *, organization: str, email: str, password: str, name: str | None
) -> dict[str, str]:
    at, secrets = now(), SettingsSecrets(settings)
    user = await create_user(conn, email=email, password=password, display_name=name, operator=True, at=at)
    made = await create_organization(conn, name=organization, owner_id=user["id"], at=at)
    key = await create_api_key(
        conn,
        organization_id=made.organization["id"],
        name="bootstrap",
        digest=lambda secret: secrets.digest("api_keys", secret),
        at=at,
        created_by=user["id"],
    )
    return {
        "organization_id": made.organization["id"],
        "project_id": made.default_project["id"],
        "user_id": user["id"],
        "api_key": key.secret,
    }
