"""Which operating-system account an embedded PostgreSQL runs under.

PostgreSQL refuses to run as root. A root process therefore hands the server to an account without rights, chosen so
that it stays the same from start to start.
"""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

_UNPRIVILEGED = "nobody"


class EmbeddedPostgresError(RuntimeError):
    """The embedded PostgreSQL cannot be started, reached or stopped; the text says what to do next."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """The user and group ids that the server's processes run with."""

    uid: int
    gid: int
    #: True when this process is root and gives its rights up for the server.
    dropped: bool

    def may_enter(self, folder: Path) -> bool:
        """Tell whether the account can reach `folder` by its path, judged by mode bits alone."""
        return all(self._has(part, stat.S_IXOTH) for part in (folder, *folder.parents))

    def may_run(self, program: Path) -> bool:
        """Tell whether the account can reach, read and execute `program`."""
        return self.may_enter(program.parent) and self._has(program, stat.S_IROTH | stat.S_IXOTH)

    def own(self, path: Path) -> None:
        """Give `path` to the account; does nothing unless rights are dropped."""
        if not self.dropped:
            return
        try:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)
        except OSError as error:
            raise EmbeddedPostgresError(
                f"PostgreSQL refuses to run as root, and {path} could not be given to user id {self.uid} ({error}). "
                "Start as an ordinary user, or allow the process to change owners and users (CAP_CHOWN, CAP_SETUID).",
            ) from error

    def own_tree(self, top: Path) -> None:
        """Give `top` and everything below it to the account, never through a symbolic link."""
        for folder, _, files in os.walk(top):
            self.own(Path(folder))
            for name in files:
                self.own(Path(folder, name))

    def require_name(self) -> None:
        """Raise EmbeddedPostgresError if the account has no entry in the user database, which initdb insists on."""
        if not _is_named(self.uid):
            raise EmbeddedPostgresError(
                f"User id {self.uid} has no entry in /etc/passwd, without which PostgreSQL makes no database folder. "
                "Run as a named user, add an entry, or set GEOPERA_DATABASE_URL to a PostgreSQL of your own.",
            )

    def _has(self, path: Path, bits: int) -> bool:
        if not self.dropped:
            return True
        info = path.stat()
        if info.st_uid == self.uid:
            bits <<= 6
        elif info.st_gid == self.gid:
            bits <<= 3
        return info.st_mode & bits == bits


def account_for(data_dir: Path, pgdata: Path) -> Account:
    """Return the account for a data folder: this process's own, or as root the folder's owner, or else `nobody`."""
    if os.geteuid() != 0:
        return Account(uid=os.geteuid(), gid=os.getegid(), dropped=False)
    if pgdata.is_dir() and (uid := pgdata.stat().st_uid):
        return Account(uid=uid, gid=pgdata.stat().st_gid, dropped=True)
    owner = data_dir.stat()
    if owner.st_uid and _is_named(owner.st_uid):
        return Account(uid=owner.st_uid, gid=owner.st_gid, dropped=True)
    return _unprivileged()


def _unprivileged() -> Account:
    try:
        entry = pwd.getpwnam(_UNPRIVILEGED)
    except KeyError:
        raise EmbeddedPostgresError(
            f"PostgreSQL refuses to run as root and there is no user {_UNPRIVILEGED!r} to run it as. "
            "Start as an ordinary user, or give the data folder to one (chown).",
        ) from None
    return Account(uid=entry.pw_uid, gid=entry.pw_gid, dropped=True)


def _is_named(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
