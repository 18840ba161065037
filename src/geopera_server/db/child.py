"""Child processes that do not outlive this process, even when it is killed with SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue

from geopera_server.db.account import Account

_CHILD_EXEC = Path(__file__).with_name("child_exec.py")


class Child:
    """A running child process; when this process ends in any way, Linux sends the child SIGINT.

    The kernel ties that signal to the thread that started the child. A thread of the child's own starts it and then
    waits for its end, so that a start from a short-lived thread does not take the child down early.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        account: Account,
        output: int,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._ended = threading.Event()
        started: SimpleQueue[subprocess.Popen[bytes] | OSError] = SimpleQueue()

        def live() -> None:
            try:
                process = _spawn(argv, account=account, output=output, pass_fds=pass_fds)
            except OSError as error:
                started.put(error)
                return
            started.put(process)
            process.wait()
            self._ended.set()

        threading.Thread(target=live, name=f"child {Path(argv[0]).name}", daemon=True).start()
        process = started.get()
        if isinstance(process, OSError):
            raise process
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def is_running(self) -> bool:
        """Tell whether the child has not ended yet."""
        return not self._ended.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the child's end; False if it still runs after `timeout_s`."""
        return self._ended.wait(timeout_s)

    def send(self, signum: signal.Signals) -> None:
        """Send a signal; does nothing when the child has ended."""
        if self.is_running():
            self._process.send_signal(signum)

    def end(self, timeout_s: float = 5) -> None:
        """End the child: SIGINT and `timeout_s` to finish, then SIGQUIT and 5 s more, then SIGKILL."""
        for signum, grace_s in ((signal.SIGINT, timeout_s), (signal.SIGQUIT, 5), (signal.SIGKILL, None)):
            self.send(signum)
            if self.wait(grace_s):
                return


def _spawn(
    argv: Sequence[str],
    *,
    account: Account,
    output: int,
    pass_fds: Sequence[int],
) -> subprocess.Popen[bytes]:
    become = f"{account.uid}:{account.gid}" if account.dropped else "-"
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-I", "-S", str(_CHILD_EXEC), str(os.getpid()), str(int(signal.SIGINT)), become, *argv],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd="/",
        # Our own settings may hold secrets, and PG* variables would change the server's behaviour.
        env={"PATH": os.defpath, "LC_ALL": "C"},
        pass_fds=tuple(pass_fds),
        # Ctrl-C in a terminal is for us; we stop the child after our last query.
        start_new_session=True,
    )
