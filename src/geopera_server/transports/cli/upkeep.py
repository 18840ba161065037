"""Commands that look at a deployment or bring it up to date."""

from __future__ import annotations

import asyncio

import orjson
from rich.console import Console
from rich.table import Table

from geopera_server import domains
from geopera_server.db.migrate import known_migrations
from geopera_server.db.pool import make_pool
from geopera_server.db.presence import database
from geopera_server.kernel.registry import load
from geopera_server.settings import Settings
from geopera_server.transports.cli.given import default_of, variable_of
from geopera_server.transports.http.openapi import openapi_bytes


def bring_up_to_date(settings: Settings) -> str:
    """Migrates and seeds the database and returns the name of its newest migration."""

    async def seeded(dsn: str) -> None:
        from geopera_server.app import seed  # noqa: PLC0415  (slow to load, and not wanted where the database refuses)

        async with make_pool(dsn, min_size=1, max_size=2) as pool:
            await seed(pool)

    with database(settings) as dsn:
        asyncio.run(seeded(dsn))
    return known_migrations()[-1].name


def settings_table() -> None:
    """Prints name, default and meaning of every setting."""
    table = Table("Environment variable", "Default", "Meaning")
    for name, field in Settings.model_fields.items():
        table.add_row(variable_of(name), default_of(name), field.description)
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)


def openapi_text(*, operator: bool) -> str:
    """Returns the OpenAPI document, indented for people and diffs."""
    document = orjson.loads(openapi_bytes(load(domains.__name__), operator=operator))
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
