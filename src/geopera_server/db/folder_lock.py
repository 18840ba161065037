"""A lock on a folder that the kernel drops when its last holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

_POLL_S = 0.01


class FolderLock:
    """An exclusive lock on a file, held until all who inherited its descriptor have closed it or died."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def try_take(self) -> bool:
        """Take the lock if it is free and note this process's id in the file."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, f"{os.getpid()}\n".encode(), 0)
        return True

    def take(self, deadline: float) -> bool:
        """Wait for the lock until `deadline` (time.monotonic); False if it was not to be had."""
        while not self.try_take():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def holder(self) -> str:
        """Return the process id that the last holder noted, for messages to people."""
        return os.pread(self.fd, 32, 0).decode().strip() or "unknown"

    def leave_to_heirs(self) -> None:
        """Close our descriptor; child processes that inherited it go on holding the lock."""
        os.close(self.fd)

    def release(self) -> None:
        """Free the lock for everyone, also when a forked process still has the descriptor."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        os.close(self.fd)
