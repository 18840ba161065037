"""Runs the command line's `up` and `worker` as their users do: as processes, which a test may kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from support.serving import SECRET

PROGRAM = [str(Path(sys.executable).parent / "geopera-server")]


def environment(data_dir: Path, dsn: str, shared_data: Path, **more: str) -> dict[str, str]:
    """Returns what a server process over a prepared database is started with."""
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("GEOPERA_")}
    return {
        **quiet, "GEOPERA_DATA_DIR": str(data_dir), "GEOPERA_DATABASE_URL": dsn, "GEOPERA_SECRET": SECRET,
        "GEOPERA_SOURCE_ROOTS": f'["{shared_data}"]', "GEOPERA_CHECK_REPLIES": "true",
        "GEOPERA_CRONS": "false", **more,
    }  # fmt: skip


class Process:
    """One running command; it is killed at the end of the block if it still runs."""

    def __init__(self, arguments: list[str], env: Mapping[str, str], log: Path) -> None:
        self.log = log
        self._file = log.open("ab")
        self.popen = subprocess.Popen(
            [*PROGRAM, *arguments], env=dict(env), stdout=subprocess.PIPE, stderr=self._file, text=True
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(timeout=20)
        self.popen.stdout.close()
        self._file.close()

    def ready_url(self) -> str:
        """Waits for the line that says where the server is, and returns the address."""
        line = self.popen.stdout.readline()
        assert "http://" in line, f"no ready line but {line!r}; log: {self.log.read_text()[-2000:]}"
        return "http://" + line.partition("http://")[2].split()[0]

    def was_killed(self, *, within_s: float = 30.0) -> bool:
        """Waits for the process to end and says whether SIGKILL ended it."""
        return self.popen.wait(timeout=within_s) == -signal.SIGKILL

    def terminate(self) -> int:
        """Asks the process to stop and returns its exit code."""
        self.popen.terminate()
        return self.popen.wait(timeout=30)


def up(data_dir: Path, dsn: str, shared_data: Path, **more: str) -> Process:
    """Starts a server with background work on any free port."""
    return Process(["up", "--port", "0"], environment(data_dir, dsn, shared_data, **more), data_dir / "up.log")


def worker(data_dir: Path, dsn: str, shared_data: Path, **more: str) -> Process:
    """Starts a worker."""
    return Process(["worker"], environment(data_dir, dsn, shared_data, **more), data_dir / "worker.log")
