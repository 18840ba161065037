"""Brings a database to the schema of this code: plain SQL files, in order, forward only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources

import psycopg

# Any number, as long as it is ours: two servers that start together must not both migrate.
_MIGRATION_LOCK = 0x67656F7065726131


class SchemaAhead(Exception):
    """The database has migrations that this code does not know: run the newer code, or restore a backup."""


class MigrationChanged(Exception):
    """A migration file differs from what was applied: put it back as it was and add a new file instead."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of SQL."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def known_migrations() -> list[Migration]:
    """Returns the migrations of this code, first to last."""
    folder = resources.files("geopera_server.db") / "migrations"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return [Migration(entry.name, entry.read_text(encoding="utf-8")) for entry in files]


def migrate(dsn: str) -> list[str]:
    """Applies what is missing and returns the names applied; safe to call from several processes at once.

    Each file runs in a transaction of its own together with the note that it ran. Raises SchemaAhead or MigrationChanged.
    """
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("SELECT pg_advisory_lock(%s)", (_MIGRATION_LOCK,))
        conn.execute(
            "CREATE TABLE IF NOT EXISTS schema_migration"
            " (name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        applied: dict[str, str] = dict(conn.execute("SELECT name, checksum FROM schema_migration").fetchall())
        return [one.name for one in _missing(applied) if _apply(conn, one)]


def _missing(applied: dict[str, str]) -> list[Migration]:
    known = known_migrations()
    if unknown := applied.keys() - {one.name for one in known}:
        raise SchemaAhead(f"The database has {sorted(unknown)}, which this version does not know. Run a newer version.")
    for one in known:
        if applied.get(one.name, one.checksum) != one.checksum:
            raise MigrationChanged(f"{one.name} was changed after it was applied. Restore it and add a new file instead.")
    return [one for one in known if one.name not in applied]


def _apply(conn: psycopg.Connection[tuple[object, ...]], one: Migration) -> bool:
    with conn.transaction():
        conn.execute(one.sql.encode())
        conn.execute("INSERT INTO schema_migration (name, checksum) VALUES (%s, %s)", (one.name, one.checksum))
    return True
