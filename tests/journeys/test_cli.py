"""The server's own process, as whoever runs it meets it: real commands, real folders, real signals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
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
        [COMMAND, *map(str, arguments)],
        env=environment(**variables), input=given, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


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

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
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
def running(*arguments: object, **variables: str) -> Iterator[Running]:
    """Runs a command that says a line and goes on, until the block ends."""
    process = subprocess.Popen(
        [COMMAND, *map(str, arguments)],
        env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield Running(process)
    finally:
        process.kill()
        process.communicate()


def up(*arguments: object, **variables: str) -> contextlib.AbstractContextManager[Running]:
    return running("up", *arguments, **variables)


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


def until_healthy(server: Running, within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if server.get().status_code == 200:
                return
        assert time.monotonic() < deadline, "it did not recover"
        time.sleep(0.05)


@pytest.fixture
def dsn(cluster) -> Iterator[str]:
    """An empty database."""
    made = cluster.create_database()
    yield made
    cluster.drop_database(made)


def value_in(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as conn:
        row = conn.execute(query).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def folder(tmp_path) -> Iterator[Path]:
    """A data folder that is not there yet, in memory where that can be had: a database recovers there at once."""
    memory = Path("/dev/shm")
    home = Path(tempfile.mkdtemp(prefix="geopera-cli-", dir=memory if os.access(memory, os.W_OK) else tmp_path))
    yield home / "data"
    shutil.rmtree(home)


def test_one_folder_through_its_life(folder):
    """Up, crash of the database, kill -9, up again, orderly end; meanwhile nobody else may have the folder."""
    with up("--data", folder, "--port", 0) as first:
        assert READY.fullmatch(first.line)
        assert first.get().json() == {"status": "ok"}
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
        assert second.end(signal.SIGINT) == (0, "", "")
        assert time.monotonic() - began < 5
        assert ended(postmaster)


def half_sent(url: str, operation_path: str) -> socket.socket:
    """Begins a call whose body is still to come and returns its connection."""
    host, _, port = url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(
        f"POST {operation_path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n".encode()
    )
    # The server asks for the body once the call is being handled.
    assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue")
    return connection


def test_the_first_signal_lets_calls_finish_and_the_second_does_not(tmp_path, dsn):
    arguments = ("--data", tmp_path, "--port", 0, "--database-url", dsn)
    with up(*arguments) as patient, up(*arguments) as hasty:
        path = next(iter(patient.get("/openapi.json").json()["paths"]))
        slow = half_sent(patient.url, path)
        patient.process.terminate()
        until_closed(patient.url)
        slow.sendall(b"{}")
        assert slow.recv(100).startswith(b"HTTP/1.1 401")
        slow.close()
        assert patient.process.wait(10) == 0

        stuck = half_sent(hasty.url, path)
        hasty.process.terminate()
        until_closed(hasty.url)
        hasty.process.terminate()
        assert hasty.process.wait(2) == 128 + signal.SIGTERM
        stuck.close()


def until_closed(url: str) -> None:
    """Waits for the server to take no more connections, as it does once it has heard the signal."""
    deadline = time.monotonic() + 10
    with contextlib.suppress(httpx.ConnectError):
        while time.monotonic() < deadline:
            # A connection that waited to be taken when the signal came is cut.
            with contextlib.suppress(httpx.RemoteProtocolError, httpx.ReadError):
                httpx.get(f"{url}/healthz", timeout=10)
        pytest.fail("the signal was not heard")


def test_a_taken_port_is_told_and_flags_win_over_variables(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as other:
        variable, flag = (str(one.getsockname()[1]) for one in (taken, other))
        assert f"Port {variable} of 127.0.0.1 is taken" in refused("up", "--data", tmp_path, GEOPERA_PORT=variable)
        assert f"Port {flag} of" in refused("up", "--data", tmp_path, "--port", flag, GEOPERA_PORT=variable)


def test_production_takes_neither_a_generated_secret_nor_the_demo(tmp_path):
    assert "GEOPERA_SECRET" in refused("up", "--data", tmp_path, "--port", 0, GEOPERA_ENV="production")
    assert not (tmp_path / "secret").exists()
    production = {"GEOPERA_ENV": "production", "GEOPERA_SECRET": "a secret that is long enough for production"}
    assert "The demo makes accounts" in refused("demo", "--data", tmp_path, "--port", 0, **production)


def test_unusable_surroundings_are_told(tmp_path, dsn):
    (tmp_path / "file").touch()
    assert "cannot be written" in refused("up", "--data", tmp_path / "file", "--port", 0)
    assert "GEOPERA_LEASE_S" in refused("up", "--data", tmp_path, GEOPERA_LEASE_S="soon")
    assert "needs GEOPERA_DATABASE_URL" in refused("worker", "--data", tmp_path)

    nowhere = f"postgresql://someone:hidden@127.0.0.1:{free_port()}/x"
    said = refused("migrate", "--data", tmp_path, "--database-url", nowhere, GEOPERA_DATABASE_WAIT_S="0")
    assert "cannot be used" in said
    assert "hidden" not in said
    assert "hidden" not in refused("migrate", "--data", tmp_path, "--database-url", "postgresql//someone:hidden@host/x")

    with psycopg.connect(dsn) as conn:
        conn.execute("CREATE TABLE schema_migration AS SELECT '9999_later.sql' AS name, '' AS checksum")
    assert "9999_later.sql" in refused("migrate", "--data", tmp_path, "--database-url", dsn)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as once:
        return int(once.getsockname()[1])


def test_the_description_needs_no_database(tmp_path):
    ended = run("openapi", "--out", tmp_path / "openapi.json", GEOPERA_DATABASE_URL="host=nowhere")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    document = json.loads((tmp_path / "openapi.json").read_text())
    assert "/v1/op/orders.archive.place" in document["paths"]


def test_bootstrap_makes_one_operator(tmp_path, dsn):
    def bootstrap(email: str, *more: str) -> subprocess.CompletedProcess[str]:
        given = ("--organization", "Acme Mapping", "--email", email, "--password-file", "-", "--data", tmp_path)
        return run("admin", "bootstrap", *given, *more, "--database-url", dsn, given=PASSWORD + "\n")

    first = bootstrap("ops@acme.example")
    assert first.returncode == 0, first.stderr
    made = dict(line.split("=", 1) for line in first.stdout.splitlines())
    assert made.keys() == {"organization_id", "project_id", "user_id", "api_key"}

    again = bootstrap("second@acme.example")
    assert (again.returncode, again.stdout) == (2, "")
    assert "--force" in again.stderr
    assert bootstrap("second@acme.example", "--force").returncode == 0
    assert value_in(dsn, "SELECT count(*) FROM app_user WHERE operator") == 2

    with up("--data", tmp_path, "--port", 0, "--database-url", dsn) as server:
        form = {"grant_type": "client_credentials", "client_id": "geopera", "client_secret": made["api_key"]}
        exchanged = httpx.post(f"{server.url}/realms/public/protocol/openid-connect/token", data=form)
        assert exchanged.status_code == 200, exchanged.text


def test_a_worker_works_on_a_migrated_database(tmp_path, dsn):
    assert run("migrate", "--data", tmp_path, "--database-url", dsn).stdout.startswith("The database is at 0")
    assert value_in(dsn, "SELECT count(*) FROM catalog_source") > 0
    with running("worker", "--data", tmp_path, "--database-url", dsn) as worker:
        assert "takes jobs from" in worker.line
        assert worker.end() == (0, "", "")


def test_settings_are_listed_without_any_value():
    listed = run("settings", GEOPERA_SECRET="do not show this secret, it is long enough").stdout
    assert "GEOPERA_DATABASE_URL" in listed
    assert "do not show" not in listed
