"""A house at work on an event loop: serving, or doing background work, until a signal comes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import uvicorn
import uvloop

from geopera_server.app import background, opened, seed
from geopera_server.settings import Settings
from geopera_server.transports.cli.explaining import place_of
from geopera_server.transports.cli.listening import port_trouble
from geopera_server.transports.cli.signals import Signals

# What is under way may take this long to finish; supervisors commonly kill after 10 s (Docker) or 30 s (Kubernetes).
FINISH_WITHIN_S = 6
# Longer than the idle time of common proxies, so that none sends a request into a connection that is being closed.
KEEP_ALIVE_S = 75


def run_server(settings: Settings, dsn: str, bound: socket.socket, base_url: str, signals: Signals) -> None:
    """Serves over a migrated database until a signal comes."""
    _run(_serve(settings, dsn, bound, base_url, signals), signals)


def run_worker(settings: Settings, dsn: str, signals: Signals) -> None:
    """Does background work over a migrated database until a signal comes."""
    _run(_work(settings, dsn, signals), signals)


def _run(life: Coroutine[Any, Any, None], signals: Signals) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(life)
        except asyncio.CancelledError:
            if not signals.heard:
                raise


async def _serve(settings: Settings, dsn: str, bound: socket.socket, base_url: str, signals: Signals) -> None:
    with _cancelled_by(signals):
        async with opened(settings, dsn, base_url=base_url) as house:
            await seed(house.pool)
            _collect_from_here_on()
            async with background(house):
                config = uvicorn.Config(
                    house.asgi, host=settings.host, port=settings.port, http="httptools", ws="none", lifespan="off",
                    log_config=None, access_log=False, server_header=False, timeout_keep_alive=KEEP_ALIVE_S,
                    timeout_graceful_shutdown=FINISH_WITHIN_S,
                )  # fmt: skip
                server = _Server(config, on_ready=lambda: _say(f"Geopera Server is ready at {base_url}"))
                with signals.calling(server.end):
                    await server.serve(sockets=[bound])


async def _work(settings: Settings, dsn: str, signals: Signals) -> None:
    ending = asyncio.Event()
    with _cancelled_by(signals):
        async with opened(settings, dsn, base_url=f"http://{settings.host}:{settings.port}") as house, background(house):
            _collect_from_here_on()
            _say(f"Geopera Server's worker takes jobs from {place_of(dsn)}")
            with signals.calling(ending.set):
                await ending.wait()


def _collect_from_here_on() -> None:
    # What is loaded stays, so collections need not look at it again.
    gc.freeze()
    gc.enable()


@contextlib.contextmanager
def _cancelled_by(signals: Signals) -> Iterator[None]:
    """Within the block a signal cancels the present task, as long as nothing better is known to be done."""
    task = asyncio.current_task()
    assert task is not None
    with signals.calling(task.cancel):
        yield


class _Server(uvicorn.Server):
    """Leaves signals to us and says when it listens."""

    def __init__(self, config: uvicorn.Config, *, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except OSError as error:
            # Two servers may have taken a free port together; only one can listen on it.
            raise port_trouble(self.config.host, self.config.port, error) from None
        self._on_ready()

    def end(self) -> None:
        """Makes serve return once the requests under way are answered."""
        self.should_exit = True


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
