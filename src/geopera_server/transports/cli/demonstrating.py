"""The demo as a process: imagery, a served house, the walk through it."""

from __future__ import annotations

import asyncio
import socket

from rich.console import Console

from geopera_server.demo.running import how_to_go_on, prepare_imagery, run_demo
from geopera_server.demo.series import DemoSourceError
from geopera_server.demo.walk import WalkFailed
from geopera_server.settings import Settings
from geopera_server.transports.cli.running import run, served_house
from geopera_server.transports.cli.signals import Signals
from geopera_server.transports.cli.trouble import Trouble


def run_demonstration(
    settings: Settings, dsn: str, bound: socket.socket, base_url: str, signals: Signals, *, stay: bool
) -> None:
    """Walks through a house over a migrated database; raises Trouble where an answer is not as promised.

    With `stay` the house goes on serving until a signal comes.
    """
    console = Console()

    async def life() -> None:
        ending = asyncio.Event()
        async with served_house(settings, dsn, bound, base_url) as house:
            demo = await run_demo(house, base_url, imagery, console)
            console.print(how_to_go_on(demo, serving=stay), soft_wrap=True, highlight=False)
            if stay:
                with signals.calling(ending.set):
                    await ending.wait()

    try:
        imagery = prepare_imagery(settings.data_dir, console)
        run(life, signals)
    except (DemoSourceError, WalkFailed) as error:
        raise Trouble(f"The demo did not come to its end. {error}") from None
