"""The server's own process, as whoever runs it meets it: real commands, real folders, real signals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

COMMAND = Path(sys.executable).with_name("geopera-server")
READY = re.compile(r"Geopera Server is ready at (http://127\.0\.0\.1:\d+)\n")
PASSWORD = "correct horse battery staple"


def environment(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GEOPERA_")}
    return {**inherited, **more}


def run(*arguments: object, given: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        [COMMAND, *map(str, arguments)], env=environment(**variables), input=given, capture_output=True, text=True, timeout=60
    )


def refused(*arguments: object, **variables: str) -> str:
    """Runs a command that must end with one explanation and returns it."""
    ended = run(*arguments, **variables)
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    said = ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert said.startswith("geopera-server: ")
    return said


class Running:
    """A server process that has said that it is ready."""

    def __init__(self, *arguments: object, **variables: str) -> None:
        self.process = subprocess.Popen(
            [COMMAND, *map(str, arguments)],
            env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.line = self.read_line()
        said = READY.fullmatch(self.line)
        self.url = said.group(1) if said else ""

    def read_line(self) -> str:
        readable, _, _ = select.select([self.process.stdout], [], [], 60)
        assert readable, "nothing was said for a minute"
        line = self.process.stdout.readline()
        assert line, f"it ended with {self.process.wait()}: {self.process.stderr.read()}"
        return line

    def get(self, path: str = "/healthz") -> httpx.Response:
        return httpx.get(self.url + path, timeout=30)

    def end(self, signum: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Sends the signal and returns exit code and what else was printed."""
        self.process.send_signal(signum)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


@contextlib.contextmanager
def up(*arguments: object, **variables: str) -> Iterator[Running]:
    """Serves in a process of its own until the block ends."""
    running = Running("up", *arguments, **variables)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


def postmaster_of(folder: Path) -> int:
    return int((folder / "postgres" / "pgdata" / "postmaster.pid").read_text().splitlines()[0])


def ended(pid: int) -> bool:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], 10)[0])
    finally:
        os.close(process)


def until_healthy(running: Running, within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if running.get().status_code == 200:
                return
        assert time.monotonic() < deadline, "it did not recover"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cli") / "data"


def test_one_folder_through_its_life(folder):
    """Up, crash of the database, kill -9, up again, orderly end; in the meantime nobody else may have the folder."""
    with up("--data", folder, "--port", 0) as first:
        assert READY.fullmatch(first.line)
        assert first.get().json() == {"status": "ok"}
        assert httpx.post(f"{first.url}/v1/op/projects.list", json={}).status_code == 401

        assert "already runs" in refused("up", "--data", folder, "--port", 0)

        os.kill(postmaster_of(folder), signal.SIGKILL)
        until_healthy(first)

        postmaster = postmaster_of(folder)
        first.process.kill()
        assert ended(postmaster)

    with up("--data", folder, "--port", 0) as second:
        assert second.get().json() == {"status": "ok"}
        postmaster = postmaster_of(folder)
        began = time.monotonic()
        code, out, err = second.end(signal.SIGINT)
        assert (code, out, err) == (0, "", "")
        assert time.monotonic() - began < 5
        assert ended(postmaster)


def test_requests_under_way_finish_and_a_second_signal_does_not_wait(cluster):
    with database_of(cluster) as dsn, up("--port", 0, "--database-url", dsn, GEOPERA_DATA_DIR="") as running:
        pass
