"""Starts the server of a database folder and waits until it takes connections."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from geopera_server.db.account import EmbeddedPostgresError
from geopera_server.db.child import Child
from geopera_server.db.cluster import Cluster, initialise, last_words, log_of, major_of, path_for, remove_sockets
from geopera_server.db.folder_lock import FolderLock

PORT = 5432  # names the socket file only; nothing listens on TCP
DEFAULT_SETTINGS: Mapping[str, str] = {
    "shared_buffers": "128MB",
    "max_connections": "100",
    "fsync": "on",
    "synchronous_commit": "on",
    "wal_compression": "on",
    "jit": "off",
    "random_page_cost": "1.1",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # A DETAIL line holds values of the row that failed.
    "log_error_verbosity": "terse",
    "cluster_name": "geopera",
}
_STATUS_LINE = 7
_POLL_S = 0.005


def open_cluster(cluster: Cluster, *, timeout_s: float) -> Child:
    """Start a server on the database folder, made first if missing, and return it once it takes connections.

    Waits for the processes of an earlier server to end. Raises EmbeddedPostgresError with the server's own last words.
    """
    deadline = time.monotonic() + timeout_s
    lock = FolderLock(cluster.data_dir / "postgres.lock")
    try:
        # Every process of a server inherits this lock, so it is free only when the last of them has ended.
        if not lock.take(deadline):
            raise _still_used(cluster)
        if major_of(cluster.pgdata) is None:
            initialise(cluster, lock, deadline)
        elif cluster.pgdata.stat().st_uid != cluster.account.uid:
            cluster.account.own_tree(cluster.pgdata)
        _clear_leftovers(cluster)
        return _launch(cluster, lock, deadline)
    finally:
        lock.leave_to_heirs()


def _launch(cluster: Cluster, lock: FolderLock, deadline: float) -> Child:
    with path_for(cluster.account, cluster.pgdata) as (path, fds), log_of(cluster) as log:
        log_start = os.fstat(log).st_size
        argv = [str(cluster.binaries.postgres), "-D", path, *_server_options(cluster)]
        child = Child(argv, account=cluster.account, output=log, pass_fds=(lock.fd, *fds))
    try:
        _await_ready(child, cluster, log_start, deadline)
    except BaseException:
        child.end()
        raise
    return child


def _server_options(cluster: Cluster) -> list[str]:
    fixed = {"listen_addresses": "", "unix_socket_directories": str(cluster.socket_dir), "port": str(PORT)}
    if clash := fixed.keys() & cluster.settings.keys():
        raise ValueError(f"{', '.join(sorted(clash))} cannot be set: the embedded server is reached by its socket only")
    return [f"--{name}={value}" for name, value in {**DEFAULT_SETTINGS, **cluster.settings, **fixed}.items()]


def _await_ready(child: Child, cluster: Cluster, log_start: int, deadline: float) -> None:
    while not _is_ready(child, cluster.pgdata):
        if child.wait(_POLL_S):
            reason = f"PostgreSQL ended during its start (exit code {child.returncode})."
            raise EmbeddedPostgresError(reason + last_words(cluster, log_start))
        if time.monotonic() > deadline:
            reason = "PostgreSQL was not ready in time. If it is recovering from a crash, give it a longer start timeout."
            raise EmbeddedPostgresError(reason + last_words(cluster, log_start))


def _is_ready(child: Child, pgdata: Path) -> bool:
    lines = _pid_file(pgdata)
    return len(lines) > _STATUS_LINE and lines[0] == str(child.pid) and lines[_STATUS_LINE].strip() == "ready"


def _pid_file(pgdata: Path) -> list[str]:
    try:
        return (pgdata / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _noted_pid(pgdata: Path) -> int | None:
    lines = _pid_file(pgdata)
    return int(lines[0]) if lines and lines[0].isdecimal() else None


def _still_used(cluster: Cluster) -> EmbeddedPostgresError:
    pid = _noted_pid(cluster.pgdata)
    return EmbeddedPostgresError(
        f"The PostgreSQL of an earlier run (process {pid or 'unknown'}) still uses {cluster.pgdata}. "
        f"Wait until it has ended, or end it with: kill -INT {pid or '<process>'}",
    )


def _clear_leftovers(cluster: Cluster) -> None:
    """Remove what a killed server left behind where PostgreSQL itself would misread it.

    After a container restarts, the old server's process id may belong to any other process of ours, which PostgreSQL
    would take for a living server. A server works inside its database folder, which tells the two apart.
    """
    pid = _noted_pid(cluster.pgdata)
    if pid and sys.platform == "linux" and Path(f"/proc/{pid}").exists():
        if _works_in(pid, cluster.pgdata):
            raise EmbeddedPostgresError(
                f"A PostgreSQL started by other means (process {pid}) uses {cluster.pgdata}. Stop it first: kill -INT {pid}",
            )
        (cluster.pgdata / "postmaster.pid").unlink()
    remove_sockets(cluster)


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:
        # Gone meanwhile, or another account's process, which cannot be working in this private folder.
        return False
