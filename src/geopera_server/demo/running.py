"""The demo from end to end: imagery, seeding, the walk, and where to look next."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from geopera_server.app import House
from geopera_server.demo.imagery import DemoImagery, build_demo_imagery
from geopera_server.demo.seeding import ARCHIVE_HOST, Demo, seed_demo
from geopera_server.demo.walk import walk


def prepare_imagery(data_dir: Path, console: Console) -> DemoImagery:
    """Turns the packaged Sentinel-2 series into COGs and STAC items, with a bar on the first run."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("Making demo imagery of real Sentinel-2 data", total=None)
        return build_demo_imagery(
            (data_dir / "sources" / "demo").resolve(),
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )


async def run_demo(house: House, base_url: str, imagery: DemoImagery, console: Console) -> Demo:
    """Seeds and walks a house that is served at the address; raises WalkFailed when a step does not answer as promised."""
    path = house.settings.data_dir / "demo.json"
    console.print(f"Geopera Server is at [bold]{base_url}[/bold]. Walking the quickstart:")
    demo = await seed_demo(house, base_url, imagery, path)
    await walk(demo, imagery, console)
    console.print(f"\n[bold]Where to look next[/bold]\n   {path.resolve()} has the key, the accounts and the ids used above.")
    return demo


def how_to_go_on(demo: Demo, *, serving: bool) -> str:
    """Returns what to try by hand."""
    if not serving:
        return "   Keep it running with: geopera-server demo --data ./data/demo --port 8000 --serve"
    return (
        f"   {demo.base_url}/openapi.json lists every operation. Try one:\n"
        f"   curl -s {demo.base_url}/v1/op/orders.list -H 'X-API-Key: {demo.api_key}'\n"
        f"   {demo.base_url}/v1/op/catalog.provider.samples?provider={ARCHIVE_HOST} needs no key; open its thumbnail_url.\n"
        "   docs/library.md goes on from here: upload a file, see it on a map, find it, share it.\n"
        "   Stop with Ctrl-C."
    )
