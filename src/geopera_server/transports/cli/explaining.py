"""What can be expected to go wrong with a deployment, each told in a sentence or two instead of a traceback."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import ValidationError
from pydantic_settings import SettingsError

from geopera_server.db.account import EmbeddedPostgresError
from geopera_server.db.migrate import MigrationChanged, SchemaAhead
from geopera_server.settings import SettingsRefused
from geopera_server.transports.cli.trouble import Trouble


def explanation_of(error: Exception) -> str | None:
    """Returns what to tell the person at the terminal; None for a defect, which deserves its traceback."""
    for kinds, explain in _EXPLANATIONS:
        if isinstance(error, kinds):
            return explain(error)
    return None


def place_of(dsn: str) -> str:
    """Returns a database's name and host, without user and password."""
    parts = conninfo_to_dict(dsn)
    return f"{parts.get('dbname') or 'the default database'} on {parts.get('host') or 'the local socket'}"


def _settings(error: ValidationError) -> str:
    wrong = [f"{'_'.join(('geopera', *map(str, one['loc']))).upper()}: {one['msg']}" for one in error.errors()]
    return f"Some settings are not usable. {'; '.join(wrong)}. See: geopera-server settings"


def _database_address(error: psycopg.ProgrammingError) -> str | None:
    if error.sqlstate is not None:
        return None
    # libpq could not read the address; its message would repeat what may hold a password.
    return "GEOPERA_DATABASE_URL is not readable. Write it as postgresql://user:password@host:5432/database."


def _database(error: psycopg.OperationalError) -> str:
    return (
        f"The database cannot be used: {_first_line(error)}. "
        "Check that PostgreSQL runs, and that GEOPERA_DATABASE_URL names it, its user and its password."
    )


def _right(error: psycopg.Error) -> str:
    return f"The database user lacks a right: {_first_line(error)}. Make it the owner of the database."


def _system(error: OSError) -> str | None:
    return "The disk is full. Free some space and start again." if error.errno == errno.ENOSPC else None


def _first_line(error: psycopg.Error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")


_EXPLANATIONS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Callable[[Any], str | None]], ...] = (
    ((Trouble, EmbeddedPostgresError, MigrationChanged, SchemaAhead, SettingsError, SettingsRefused), str),
    (ValidationError, _settings),
    (psycopg.errors.InsufficientPrivilege, _right),
    (psycopg.OperationalError, _database),
    (psycopg.ProgrammingError, _database_address),
    (OSError, _system),
)
