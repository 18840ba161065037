"""A house at work on an event loop: serving, or doing background work, until a signal comes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import uvicorn
import uvloop

from geopera_server.app import House, background, opened, seed
from geopera_server.settings import Settings
from geopera_server.transports.cli.explaining import place_of
from geopera_server.transports.cli.listening import port_trouble
from geopera_server.transports.cli.signals import Signals, Stopped

# What is under way may take this long to finish; supervisors commonly kill after 10 s (Docker) or 30 s (Kubernetes).
FINISH_WITHIN_S = 6
# Longer than the idle time of common proxies, so that none sends a request into a connection that is being closed.
KEEP_ALIVE_S = 75


def run_server(settings: Settings, dsn: str, bound: socket.socket, base_url: str, signals: Signals) -> None:
    """Serves over a migrated database until a signal comes."""

    async def life() -> None:
        ending = asyncio.Event()
        async with served_house(settings, dsn, bound, base_url):
            say(f"Geopera Server is ready at {base_url}")
            with signals.calling(ending.set):
                await ending.wait()

    run(life, signals)


def run_worker(settings: Settings, dsn: str, signals: Signals) -> None:
    """Does background work over a migrated database until a signal comes."""

    async def life() -> None:
        ending = asyncio.Event()
        base_url = f"http://{settings.host}:{settings.port}"
        async with opened(settings, dsn, base_url=base_url) as house, background(house):
            _collect_from_here_on()
            say(f"Geopera Server's worker takes jobs from {place_of(dsn)}")
            with signals.calling(ending.set):
                await ending.wait()

    run(life, signals)


def run(life: Callable[[], Coroutine[Any, Any, None]], signals: Signals) -> None:
    """Runs to its end what happens on the event loop; a signal that it does not handle itself cancels it.

    Raises Stopped when it was cancelled.
    """

    async def stoppable() -> None:
        task = asyncio.current_task()
        assert task is not None
        with signals.calling(task.cancel):
            await life()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(stoppable())
        except asyncio.CancelledError:
            raise Stopped from None


@contextlib.asynccontextmanager
async def served_house(settings: Settings, dsn: str, bound: socket.socket, base_url: str) -> AsyncIterator[House]:
    """Yields a house that answers on the socket and does its background work; what is under way at the end is finished."""
    async with opened(settings, dsn, base_url=base_url) as house:
        await seed(house.pool)
        _collect_from_here_on()
        async with background(house):
            server = _Server(_uvicorn_config(house))
            serving = asyncio.create_task(server.serve(sockets=[bound]), name="http")
            try:
                await server.listening
                yield house
            finally:
                server.should_exit = True
                await serving


def say(line: str) -> None:
    """Prints a line for whoever, or whatever, waits for it."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class _Server(uvicorn.Server):
    """Leaves signals to us and lets others wait until it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except OSError as error:
            # Two servers may have taken a free port together; only one can listen on it.
            self.listening.set_exception(port_trouble(self.config.host, self.config.port, error))
            self.should_exit = True
        else:
            self.listening.set_result(None)


def _uvicorn_config(house: House) -> uvicorn.Config:
    return uvicorn.Config(
        house.asgi,
        host=house.settings.host,
        port=house.settings.port,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=FINISH_WITHIN_S,
    )


def _collect_from_here_on() -> None:
    # What is loaded stays, so collections need not look at it again.
    gc.freeze()
    gc.enable()
