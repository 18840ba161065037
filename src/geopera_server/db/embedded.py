"""An embedded PostgreSQL: a private server in a data folder, run as our child process.

It listens on a socket that no other user can reach, survives a crash of either side without losing a committed
transaction, and ends when this process ends, even by SIGKILL (on Linux).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg.conninfo import make_conninfo

from geopera_server.db.account import EmbeddedPostgresError, account_for
from geopera_server.db.binaries import find_binaries, runnable_by
from geopera_server.db.child import Child
from geopera_server.db.cluster import USER, Cluster, major_of, make_socket_dir, pgdata_of, remove_sockets
from geopera_server.db.folder_lock import FolderLock
from geopera_server.db.postmaster import PORT, open_cluster

__all__ = ["DATABASE", "EmbeddedPostgres", "EmbeddedPostgresError", "running_at", "start_embedded"]

DATABASE = "geopera"


@dataclass(kw_only=True)
class _Running:
    """What changes while a server is in use: its process, and our claim on the data folder."""

    child: Child
    claim: FolderLock | None


@dataclass(frozen=True, kw_only=True)
class EmbeddedPostgres:
    """A running embedded PostgreSQL; made by `start_embedded`, ended by `stop` or by leaving a `with` block."""

    cluster: Cluster
    start_timeout_s: float
    _running: _Running

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self._running.child.pid

    def dsn(self, dbname: str = DATABASE) -> str:
        """Return a libpq connection string for one of the server's databases."""
        return _dsn(self.cluster, dbname)

    def is_running(self) -> bool:
        """Tell whether the server process is alive."""
        return self._running.child.is_running()

    def stop(self, timeout_s: float = 30) -> None:
        """End the server: open transactions are rolled back, then it has `timeout_s` to write all to disk.

        A server that takes longer is ended hard and recovers at its next start. Stopping twice does nothing.
        """
        claim = self._running.claim
        if claim is None:
            return
        self._running.child.end(timeout_s)
        remove_sockets(self.cluster)
        self.cluster.socket_dir.rmdir()
        self._running.claim = None
        claim.release()

    def restart(self, timeout_s: float = 30) -> None:
        """End the server as `stop` does, unless it has died by itself, and start it again under the same address."""
        if self._running.claim is None:
            raise EmbeddedPostgresError("This server was stopped and its data folder given up; call start_embedded.")
        self._running.child.end(timeout_s)
        self._running.child = open_cluster(self.cluster, timeout_s=self.start_timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def start_embedded(
    data_dir: Path,
    *,
    bin_dir: Path | None = None,
    start_timeout_s: float = 60.0,
    settings: Mapping[str, str] | None = None,
) -> EmbeddedPostgres:
    """Start PostgreSQL on `data_dir`, making the folder, its cluster and the database `geopera` where they are missing.

    `bin_dir` names the folder of `postgres` and `initdb` to use; `settings` are server settings that go before ours.
    Raises EmbeddedPostgresError, whose text says what to do, if the folder is in use or the server does not start.
    """
    data_dir = data_dir.resolve()
    # As root, the server's account has to pass through.
    data_dir.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    with _claimed(data_dir) as claim:
        cluster = _cluster(data_dir, bin_dir, settings or {})
        try:
            child = _serve(cluster, start_timeout_s)
        except BaseException:
            with contextlib.suppress(OSError):  # not empty: a server we did not start uses it
                cluster.socket_dir.rmdir()
            raise
        running = _Running(child=child, claim=claim)
    return EmbeddedPostgres(cluster=cluster, start_timeout_s=start_timeout_s, _running=running)


def running_at(data_dir: Path) -> str | None:
    """Return a connection string for a server that somebody runs on `data_dir`; None when nobody does.

    Only who may enter the folder of its socket can connect.
    """
    try:
        noted = (pgdata_of(data_dir.resolve()) / "postmaster.pid").read_text().splitlines()
    except OSError:
        return None
    if len(noted) < 5:
        return None
    dsn = make_conninfo(host=noted[4], port=PORT, user=USER, dbname=DATABASE)
    try:
        psycopg.connect(dsn, connect_timeout=5).close()
    except psycopg.OperationalError:
        return None
    return dsn


@contextlib.contextmanager
def _claimed(data_dir: Path) -> Iterator[FolderLock]:
    """Claim the data folder for this process; the claim is kept unless the block fails."""
    claim = FolderLock(data_dir / "lock")
    if not claim.try_take():
        holder = claim.holder()
        claim.leave_to_heirs()
        raise EmbeddedPostgresError(
            f"Process {holder} already runs an embedded PostgreSQL on {data_dir}. Stop that process, choose another "
            "data folder, or let several processes share one PostgreSQL through GEOPERA_DATABASE_URL.",
        )
    try:
        yield claim
    except BaseException:
        claim.release()
        raise


def _cluster(data_dir: Path, bin_dir: Path | None, settings: Mapping[str, str]) -> Cluster:
    pgdata = pgdata_of(data_dir)
    account = account_for(data_dir, pgdata)
    binaries = runnable_by(account, find_binaries(bin_dir, major=major_of(pgdata)), data_dir)
    socket_dir = make_socket_dir(data_dir, account)
    return Cluster(data_dir=data_dir, account=account, binaries=binaries, socket_dir=socket_dir, settings=dict(settings))


def _serve(cluster: Cluster, timeout_s: float) -> Child:
    child = open_cluster(cluster, timeout_s=timeout_s)
    try:
        _ensure_database(cluster)
    except BaseException:
        child.end()
        raise
    return child


def _dsn(cluster: Cluster, dbname: str) -> str:
    return make_conninfo(host=str(cluster.socket_dir), port=PORT, user=USER, dbname=dbname)


def _ensure_database(cluster: Cluster) -> None:
    with psycopg.connect(_dsn(cluster, "postgres"), autocommit=True) as connection:
        found = connection.execute("SELECT FROM pg_database WHERE datname = 'geopera'").fetchone()
        if found is None:
            connection.execute("CREATE DATABASE geopera")
