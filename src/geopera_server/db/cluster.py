"""A PostgreSQL database folder: where it lies, who may enter it, how it is made."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from geopera_server.db.account import Account, EmbeddedPostgresError
from geopera_server.db.binaries import Binaries
from geopera_server.db.child import Child
from geopera_server.db.folder_lock import FolderLock

USER = "geopera"
SOCKET_FILE = ".s.PGSQL.5432"
LOG_LIMIT_BYTES = 16 * 1024 * 1024
# sun_path holds 104 bytes on macOS and 108 on Linux, with the closing zero.
_SOCKET_PATH_LIMIT = 103
_SHORT_SOCKET_ROOT = Path("/tmp")  # noqa: S108  the folder made there is private and its owner checked
_LAST_LINES = 12


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """One database folder, and who serves it with which programs and settings."""

    data_dir: Path
    account: Account
    binaries: Binaries
    socket_dir: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def pgdata(self) -> Path:
        return pgdata_of(self.data_dir)

    @property
    def log(self) -> Path:
        return self.data_dir / "postgres.log"


def pgdata_of(data_dir: Path) -> Path:
    """Return the folder that holds PostgreSQL's own files."""
    return data_dir / "pgdata"


def major_of(pgdata: Path) -> int | None:
    """Return the major version that made a database folder; None if there is no such folder yet.

    Raises EmbeddedPostgresError if the folder holds something else.
    """
    try:
        return int((pgdata / "PG_VERSION").read_text())
    except FileNotFoundError:
        if pgdata.is_dir() and any(pgdata.iterdir()):
            raise EmbeddedPostgresError(
                f"{pgdata} holds files but no PostgreSQL database. Move it away, or choose another data folder.",
            ) from None
        return None


def make_socket_dir(data_dir: Path, account: Account) -> Path:
    """Return a folder for the server's socket that only `account` may enter.

    It lies in the data folder unless that path is too long for a socket, closed to the account, or has a comma, at
    which clients would split it.
    """
    path = data_dir / "socket"
    too_long = len(os.fsencode(path / SOCKET_FILE)) > _SOCKET_PATH_LIMIT
    if too_long or "," in str(path) or not account.may_enter(data_dir):
        digest = hashlib.sha256(f"{account.uid}:{data_dir}".encode()).hexdigest()
        path = _SHORT_SOCKET_ROOT / f"gp-{digest[:16]}"
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid not in {os.geteuid(), account.uid}:
        raise EmbeddedPostgresError(f"{path} belongs to another user (id {info.st_uid}). Remove it and start again.")
    path.chmod(0o700)
    account.own(path)
    return path


def remove_sockets(cluster: Cluster) -> None:
    """Remove the socket and its lock file, which a killed server leaves behind."""
    for name in (SOCKET_FILE, f"{SOCKET_FILE}.lock"):
        (cluster.socket_dir / name).unlink(missing_ok=True)


def initialise(cluster: Cluster, lock: FolderLock, deadline: float) -> None:
    """Make the database folder under another name and rename it, so that it appears whole or not at all."""
    cluster.account.require_name()
    partial = cluster.pgdata.with_suffix(".partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(mode=0o700)
    cluster.account.own(partial)
    with path_for(cluster.account, partial) as (path, fds), log_of(cluster) as log:
        log_start = os.fstat(log).st_size
        argv = [str(cluster.binaries.initdb), "-D", path, *_initdb_options(cluster)]
        child = Child(argv, account=cluster.account, output=log, pass_fds=(lock.fd, *fds))
        try:
            child.wait(deadline - time.monotonic())
        finally:
            child.end()
    if child.returncode != 0:
        raise EmbeddedPostgresError(f"initdb could not make {cluster.pgdata}.{last_words(cluster, log_start)}")
    partial.rename(cluster.pgdata)
    _sync(cluster.data_dir)


def _initdb_options(cluster: Cluster) -> list[str]:
    options = ["-U", USER, "--auth-local=trust", "--auth-host=reject", "-E", "UTF8", "--data-checksums"]
    if cluster.binaries.major >= 17:
        options += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    else:
        options += ["--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"]
    if cluster.settings.get("fsync") == "off":
        options += ["--no-sync"]
    return [*options, "--no-instructions"]


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def path_for(account: Account, folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield a path by which a child under `account` finds `folder`, and the descriptors it must inherit for that.

    A folder of the account's own below one that it may not enter (/root, say) is reached through an open descriptor.
    PostgreSQL makes it its working directory at once and uses relative paths from there.
    """
    if account.may_enter(folder):
        yield str(folder), ()
        return
    if sys.platform != "linux":
        raise EmbeddedPostgresError(
            f"User id {account.uid}, which runs PostgreSQL, may not enter a folder above {folder}. "
            "Choose a data folder elsewhere, or start as an ordinary user.",
        )
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}", (descriptor,)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def log_of(cluster: Cluster) -> Iterator[int]:
    """Yield a descriptor that appends to the server's log, which is begun anew once it has passed its limit."""
    if cluster.log.exists() and cluster.log.stat().st_size > LOG_LIMIT_BYTES:
        cluster.log.replace(cluster.log.with_suffix(".log.1"))
    descriptor = os.open(cluster.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def last_words(cluster: Cluster, log_start: int) -> str:
    """Return the end of what was logged since `log_start` (bytes), to close an error message with."""
    with cluster.log.open("rb") as log:
        log.seek(log_start)
        lines = log.read().decode(errors="replace").splitlines()[-_LAST_LINES:]
    return f" Its log {cluster.log} ends:\n" + "\n".join(lines) if lines else f" Its log is {cluster.log}."
