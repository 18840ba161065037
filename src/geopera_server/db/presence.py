"""A database that is there: waited for while it starts, migrated, brought back when it dies.

Apart from the composition root, so that it can come up while the rest of the house is still being loaded.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

import psycopg

from geopera_server.db.cluster import pgdata_of
from geopera_server.db.embedded import EmbeddedPostgres, EmbeddedPostgresError, running_at, start_embedded
from geopera_server.db.migrate import migrate
from geopera_server.settings import Settings

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.2
_RETRY_EVERY_S = 2.0


@contextlib.contextmanager
def database(settings: Settings) -> Iterator[str]:
    """Yields the address of a migrated database: the one that is set, or an embedded one kept in the data folder."""
    if settings.database_url is not None:
        wait_for(settings.database_url, within_s=settings.database_wait_s)
        _migrate(settings.database_url)
        yield settings.database_url
        return
    with start_embedded(settings.data_dir / "postgres") as embedded, kept_running(embedded):
        dsn = embedded.dsn()
        _migrate(dsn)
        yield dsn


def has_database(settings: Settings) -> bool:
    """Says whether an embedded database was ever made in the data folder."""
    return (pgdata_of(settings.data_dir / "postgres") / "PG_VERSION").exists()


@contextlib.contextmanager
def database_at_work(settings: Settings) -> Iterator[str]:
    """Yields the address of the database, also while a server works on the embedded one; then it is left as it is."""
    running = running_at(settings.data_dir / "postgres") if settings.database_url is None else None
    if running is not None:
        yield running
        return
    with database(settings) as dsn:
        yield dsn


def wait_for(dsn: str, *, within_s: float) -> None:
    """Returns when a database takes connections, as one that starts beside us in a container soon will.

    Raises psycopg.OperationalError, the last that was met, when it does not in time.
    """
    deadline = time.monotonic() + within_s
    told = False
    while True:
        try:
            with psycopg.connect(dsn, connect_timeout=5):
                return
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise
            if not told:
                logger.warning("waiting up to %g s for the database: %s", within_s, str(error).strip())
                told = True
            time.sleep(0.25)


@contextlib.contextmanager
def kept_running(embedded: EmbeddedPostgres) -> Iterator[None]:
    """Starts an embedded server again whenever it dies within the block; its address stays the same."""
    leaving = threading.Event()
    watch = threading.Thread(target=_restart_when_dead, args=(embedded, leaving), name="postgres-watch", daemon=True)
    watch.start()
    try:
        yield
    finally:
        leaving.set()
        watch.join()


def _restart_when_dead(embedded: EmbeddedPostgres, leaving: threading.Event) -> None:
    pause_s = _LOOK_EVERY_S
    while not leaving.wait(pause_s):
        if embedded.is_running():
            continue
        logger.error("the embedded PostgreSQL (process %d) died and is started again", embedded.pid)
        try:
            embedded.restart()
            pause_s = _LOOK_EVERY_S
        except (EmbeddedPostgresError, OSError) as error:
            logger.error("the embedded PostgreSQL does not start: %s", error)  # noqa: TRY400  the text is for people
            pause_s = _RETRY_EVERY_S


def _migrate(dsn: str) -> None:
    if applied := migrate(dsn):
        logger.info("the schema was brought to %s (%d migrations applied)", applied[-1], len(applied))
