"""Run as a script by `child.py`: gives up root, asks for a signal at the parent's death, becomes another program.

Imports the standard library alone and finishes every import first: the new account may be unable to read this
interpreter. A script rather than a `preexec_fn`, which may deadlock in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def become(parent_pid: int, death_signal: int, account: str, argv: list[str]) -> None:
    """Replace this process by `argv` under `account` ("uid:gid", or "-" for no change)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if account != "-":
        uid, gid = map(int, account.split(":"))
        try:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        except OSError as error:
            sys.exit(f"root may not become user id {uid} ({error}): start as an ordinary user, or allow CAP_SETUID")
    if sys.platform == "linux":
        # After setuid, which clears it.
        if libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
        if os.getppid() != parent_pid:
            sys.exit("the parent process ended before its child started")
    # The interpreter ignores these, and an ignored signal would stay ignored in the new program.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.umask(0o077)
    os.execv(argv[0], argv)  # noqa: S606


if __name__ == "__main__":
    become(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
