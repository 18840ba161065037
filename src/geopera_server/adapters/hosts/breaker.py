"""Keeps a dead host from costing its whole time-out on every call."""

from __future__ import annotations

import time
from collections.abc import Callable

from geopera_server.ports.host import Host, HostFailed, HostPage, HostQuery

REST_S = 30.0
FAILURES_ALLOWED = 3


class Breaker:
    """A host that is left alone for a while after it did not answer in time, or failed several times running.

    After the rest one search is let through; its outcome decides for all. A search that the host refused does not count
    against it.
    """

    def __init__(self, host: Host, *, rest_s: float = REST_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._host = host
        self._rest_s = rest_s
        self._clock = clock
        self._failures = 0
        self._open_until: float | None = None
        self._last: HostFailed | None = None

    async def search(self, query: HostQuery) -> HostPage:
        """Searches the host; raises HostFailed at once while it is being left alone."""
        self._check()
        try:
            page = await self._host.search(query)
        except HostFailed as failure:
            self._count(failure)
            raise
        self._failures, self._open_until = 0, None
        return page

    def _check(self) -> None:
        if self._open_until is None or self._last is None:
            return
        left = self._open_until - self._clock()
        if left > 0:
            raise HostFailed(f"{self._last.reason} It is tried again in {left:.0f} s.", timed_out=self._last.timed_out)
        # Whoever comes first tries for all; the others find the breaker shut for one more rest.
        self._open_until = self._clock() + self._rest_s

    def _count(self, failure: HostFailed) -> None:
        if failure.refused:
            self._failures, self._open_until = 0, None
            return
        self._failures += 1
        self._last = failure
        if failure.timed_out or self._failures >= FAILURES_ALLOWED:
            self._open_until = self._clock() + self._rest_s
