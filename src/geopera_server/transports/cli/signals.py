"""The end of a server's life: the first SIGINT or SIGTERM ends it in order, the second at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

HEARD = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """Somebody asked the process to end; unwinds the main thread as KeyboardInterrupt would."""


class Signals:
    """Hears SIGINT and SIGTERM from its making on; for the main thread."""

    def __init__(self) -> None:
        self.heard = False
        self._end: Callable[[], object] = _unwind
        for signum in HEARD:
            signal.signal(signum, self._handle)

    @contextlib.contextmanager
    def calling(self, end: Callable[[], object]) -> Iterator[None]:
        """Within the block, the first signal makes the running event loop call `end` instead of raising Stopped."""
        loop = asyncio.get_running_loop()
        before, self._end = self._end, lambda: loop.call_soon_threadsafe(end)
        try:
            yield
        finally:
            self._end = before

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        if self.heard:
            # Open transactions are the database's to roll back, and an embedded one ends with its parent.
            os._exit(128 + signum)
        self.heard = True
        self._end()


def _unwind() -> NoReturn:
    raise Stopped
