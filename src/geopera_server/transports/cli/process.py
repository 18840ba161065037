"""The life of a server process: take the port, bring up the database, run the house, end in order."""

# ruff: noqa: PLC0415

from __future__ import annotations

import gc
import importlib
import logging
import threading

from geopera_server.db.presence import database
from geopera_server.settings import Settings
from geopera_server.transports.cli.listening import take_port, url_of
from geopera_server.transports.cli.signals import Signals

logger = logging.getLogger(__name__)

_HOUSE = "geopera_server.transports.cli.running"


def serve(settings: Settings) -> None:
    """Serves until a signal comes, and prints one line with the address once it answers."""
    signals = Signals()
    with take_port(settings.host, settings.port) as bound:
        base_url = url_of(bound, settings.host)
        if settings.env == "production" and settings.public_url is None:
            logger.warning("GEOPERA_PUBLIC_URL is not set: download addresses will begin with %s", base_url)
        _begin_loading()
        with database(settings) as dsn:
            from geopera_server.transports.cli.running import run_server

            run_server(settings, dsn, bound, base_url, signals)


def work(settings: Settings) -> None:
    """Does background work until a signal comes; serves nothing."""
    signals = Signals()
    _begin_loading()
    with database(settings) as dsn:
        from geopera_server.transports.cli.running import run_worker

        run_worker(settings, dsn, signals)


def demonstrate(settings: Settings, *, stay: bool) -> None:
    """Walks through the platform on real imagery and ends, or goes on serving until a signal comes."""
    signals = Signals()
    with take_port(settings.host, settings.port) as bound:
        _begin_loading()
        with database(settings) as dsn:
            from geopera_server.transports.cli.demonstrating import run_demonstration

            run_demonstration(settings, dsn, bound, url_of(bound, settings.host), signals, stay=stay)


def _begin_loading() -> None:
    """Loads the house's code, a second's work for one core, while the database comes up.

    Nothing that is loaded becomes garbage, so the collector stays off until the house runs: a tenth less time.
    The database's own modules are all there by then, so the two never wait for each other's imports.
    """
    gc.disable()
    threading.Thread(target=importlib.import_module, args=(_HOUSE,), name="house-loading", daemon=True).start()
