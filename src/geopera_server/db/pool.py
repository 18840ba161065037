"""Connections to PostgreSQL, set up once for the whole house: autocommit, UTC, dict rows, ids as text."""

from __future__ import annotations

from typing import Any

import orjson
import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.adapt import Loader
from psycopg.rows import dict_row
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg_pool import AsyncConnectionPool

from geopera_server.values.encoding import dumps

Row = dict[str, Any]
Connection = AsyncConnection[Row]
Pool = AsyncConnectionPool[Connection]


class IdLoader(Loader):
    """Reads uuid columns as text, since ids are opaque strings everywhere else."""

    def load(self, data: Any) -> str:
        return bytes(data).decode()


set_json_loads(orjson.loads)
set_json_dumps(lambda value: dumps(value).decode())
psycopg.adapters.register_loader("uuid", IdLoader)


async def _configure(conn: Connection) -> None:
    # Statements are few and repeated: prepare them at the second use.
    conn.prepare_threshold = 2
    conn.prepared_max = 500


def connection_arguments() -> dict[str, Any]:
    """Returns what every connection of the house is opened with."""
    return {
        "autocommit": True,
        "row_factory": dict_row,
        "cursor_factory": AsyncCursor,
        # Statements are short and many: compiling them would cost more than it saves.
        "options": "-c timezone=UTC -c statement_timeout=60000 -c idle_in_transaction_session_timeout=60000 -c jit=off",
        "application_name": "geopera-server",
    }


def make_pool(dsn: str, *, min_size: int = 2, max_size: int = 20) -> Pool:
    """Returns a closed pool; the caller opens and closes it.

    A caller waits at most ten seconds for a connection. Broken ones, as after a restart of the database, are replaced when
    they are given back.
    """
    return AsyncConnectionPool(
        dsn,
        kwargs=connection_arguments(),
        configure=_configure,
        min_size=min_size,
        max_size=max_size,
        timeout=10.0,
        # Given up soon, since whoever asks next begins anew at once: the waits in between double, up to minutes.
        reconnect_timeout=2.0,
        open=False,
        name="geopera",
    )
