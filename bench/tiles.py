"""What a tile costs: ours against titiler over HTTP, and against rio-tiler alone, on the same images in the same order.

Over HTTP both servers are one uvicorn process each, as they would be deployed on this machine; ours authenticates every request,
looks up the item and its rights, audits and counts, titiler does none of it. Our cache of tiles is off: every tile is drawn.
Without HTTP, threads call our `render.tile` and what titiler calls for each tile: open, read, rescale, colour, encode.
Both take the nearest pixel and the same quality. Also printed: bytes and PSNR against the unencoded picture, processor time (which tells the
same on a busy machine), and memory over
20,000 tiles of many files. Run with `make bench`, or one part with `python bench/tiles.py http|engine|quality|memory`.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit

import morecantile
import numpy as np
import uvloop
from PIL import Image
from rio_tiler.colormap import cmap
from rio_tiler.io import Reader

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parent)]

from geopera_server.raster.formula import parse
from geopera_server.raster.readers import POOL
from geopera_server.raster.render import Rendering, Target, tile
from machine import described
from support.pictures import pictured_item
from support.postgres import TestCluster
from support.serving import prepared_template, served

ROUNDS = 5
CLIENTS = (1, 8, 32)
QUALITY = 75
MEMORY_TILES = 20_000
MEMORY_FILES = 200

HERE = Path(__file__).parent
IMAGERY = HERE.parents[1] / "shared" / "data" / "imagery"
TCI = IMAGERY / "sentinel-2-l2a_S2A_29RKH_20200219" / "TCI.tif"
GRID = morecantile.tms.get("WebMercatorQuad")

# What titiler's own documentation and images set.
TITILER_ENV = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_CACHEMAX": "200",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "VSI_CACHE": "TRUE",
    "VSI_CACHE_SIZE": "5000000",
}

Place = tuple[int, int, int]
Draw = Callable[[Place], bytes]


@dataclass(frozen=True)
class Scene:
    """An image with a picture of it, as we and as rio-tiler are asked for it."""

    name: str
    path: Path
    zooms: range
    rendering: Rendering
    expression: str | None = None
    colormap: str | None = None

    def places(self, limit: int = 300) -> list[Place]:
        """Tiles over the scene from its first zoom level to two beyond its own, each once, in an order like a map's users'."""
        with Reader(str(self.path)) as reader:
            bounds = reader.get_geographic_bounds(GRID.rasterio_geographic_crs)
            tiles = GRID.tiles(*bounds, zooms=list(self.zooms))
            found = [(each.z, each.x, each.y) for each in tiles if reader.tile_exists(each.x, each.y, each.z)]
        random.Random(7).shuffle(found)
        return found[:limit]


NDVI = "(b4-b1)/(b4+b1)"
SCENES = [
    Scene("true colour", TCI, range(8, 13), Rendering()),
    Scene(
        "NDVI",
        IMAGERY / "S2_L2A_bolzano_20220612_B04-B03-B02-B08-SCL.tif",
        range(11, 17),
        Rendering(formula=parse(NDVI), rescale=((-1, 1),), colormap="rdylgn"),
        NDVI,
        "rdylgn",
    ),
    Scene(
        "elevation",
        IMAGERY / "cop-dem-glo-30_N00_E006.tif",
        range(8, 14),
        Rendering(rescale=((0, 2000),), colormap="terrain"),
        None,
        "terrain",
    ),
]


def by_us(scene: Scene, size: int) -> Draw:
    target = Target(str(scene.path), "1")
    return lambda place: tile(target, scene.rendering, *place, quality=QUALITY, size=size)


def by_rio_tiler(scene: Scene, size: int) -> Draw:
    """What titiler does for each request, without HTTP."""
    colours = cmap.get(scene.colormap) if scene.colormap else None

    def draw(place: Place) -> bytes:
        z, x, y = place
        with Reader(str(scene.path)) as reader:
            image = reader.tile(x, y, z, tilesize=size, expression=scene.expression)
        if scene.rendering.rescale:
            image.rescale(scene.rendering.rescale)
        return image.render(img_format="WEBP", colormap=colours, quality=QUALITY)

    return draw


def in_threads(draw: Draw, places: Sequence[Place], clients: int) -> float:
    """Tiles per second when so many threads ask, each for the next one."""
    with ThreadPoolExecutor(clients) as threads:
        started = time.perf_counter()
        for _ in threads.map(draw, places):
            pass
        return len(places) / (time.perf_counter() - started)


def engine() -> None:
    print(f"\n{'without HTTP, tiles/s':<24} {'px':>4} {'clients':>7} {'ours':>8} {'rio-tiler':>10} {'ratio':>6}")
    for scene in SCENES:
        places = scene.places()
        for size in (256, 512):
            sides = [by_us(scene, size), by_rio_tiler(scene, size)]
            for clients in CLIENTS:
                rates = [[in_threads(side, places, clients) for side in sides] for _ in range(ROUNDS)]
                ours, theirs = (statistics.median(side) for side in zip(*rates, strict=True))
                ratio = statistics.median(one / other for one, other in rates)
                print(f"{scene.name:<24} {size:>4} {clients:>7} {ours:>8,.0f} {theirs:>10,.0f} {ratio:>6.2f}")


def quality() -> None:
    """Prints what the same quality number means on both sides."""
    print(
        f"\n{'at quality ' + str(QUALITY):<24} {'px':>4} {'our bytes':>10} {'theirs':>10} {'ratio':>6} {'our PSNR':>9} {'theirs':>7}"
    )
    for scene in SCENES:
        for size in (256, 512):
            ours, theirs = by_us(scene, size), by_rio_tiler(scene, size)
            target = Target(str(scene.path), "1")
            pairs, weights = [], []
            for place in scene.places(80):
                one, other = ours(place), theirs(place)
                whole = pixels(tile(target, scene.rendering, *place, format="png", size=size))
                weights.append((len(one), len(other)))
                if (whole[..., 3] > 0).all():
                    pairs.append((psnr(pixels(one), whole), psnr(pixels(other), pixels(lossless(scene, place, size)))))
            mine, yours = (sum(side) / len(weights) for side in zip(*weights, strict=True))
            seen = [statistics.mean(side) for side in zip(*pairs, strict=True)]
            print(
                f"{scene.name:<24} {size:>4} {mine:>10,.0f} {yours:>10,.0f} {mine / yours:>6.2f} {seen[0]:>9.2f} {seen[1]:>7.2f}"
            )


def lossless(scene: Scene, place: Place, size: int) -> bytes:
    z, x, y = place
    with Reader(str(scene.path)) as reader:
        image = reader.tile(x, y, z, tilesize=size, expression=scene.expression)
    if scene.rendering.rescale:
        image.rescale(scene.rendering.rescale)
    return image.render(img_format="PNG", colormap=cmap.get(scene.colormap) if scene.colormap else None)


def pixels(body: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGBA"))


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = np.mean((one[..., :3].astype(float) - other[..., :3].astype(float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-3)))


def memory() -> None:
    """Prints resident memory and open files while many tiles of many files are drawn by eight threads."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(8) as threads:
        files = [Target(str(shutil.copy(TCI, Path(folder) / f"{number}.tif")), "1") for number in range(MEMORY_FILES)]
        jobs = zip(range(MEMORY_TILES), itertools.cycle(files), itertools.cycle(SCENES[0].places(299)), strict=False)

        def draw(job: tuple[int, Target, Place]) -> None:
            tile(job[1], Rendering(), *job[2], quality=QUALITY)

        print(f"\n{'tiles drawn':>12} {'resident MB':>12} {'open files':>11} {'open rasters':>13}")
        done, started = 0, time.perf_counter()
        for count in (1_000, 5_000, 10_000, 15_000, MEMORY_TILES):
            for _ in threads.map(draw, itertools.islice(jobs, count - done)):
                pass
            done = count
            print(f"{count:>12,} {resident_mb():>12.0f} {len(os.listdir('/proc/self/fd')):>11} {POOL.open_count():>13}")
        print(f"{MEMORY_TILES / (time.perf_counter() - started):,.0f} tiles/s over {MEMORY_FILES} files")
        POOL.close_idle()


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Wire:
    """One kept-alive HTTP connection that only counts what it reads, so that the client weighs little on the machine."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._rest = "".join(f"{name}: {value}\r\n" for name, value in {"Host": parts.netloc, **headers}.items())

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def get(self, path: str) -> tuple[int, bytes]:
        self._writer.write(f"GET {path} HTTP/1.1\r\n{self._rest}\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        return int(head[9:12]), await self._reader.readexactly(length)


@dataclass(frozen=True)
class Server:
    """A tile server: where, with what headers, and what address a tile has there."""

    url: str
    headers: dict[str, str]
    address: str
    pid: int

    def cpu_s(self) -> float:
        """Seconds of processor time that the server has used so far, its database and all other children included."""
        fields = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields[int(stat.parent.name)] = stat.read_text().rpartition(")")[2].split()
        family, found = {self.pid}, 0
        while len(family) > found:
            found = len(family)
            family |= {pid for pid, each in fields.items() if int(each[1]) in family}
        return sum(sum(map(int, fields[pid][11:13])) for pid in family if pid in fields) / os.sysconf("SC_CLK_TCK")

    async def rate(self, places: Sequence[Place], clients: int) -> float:
        """Tiles per second when so many connections each ask for the next tile."""
        queue = iter(places)

        async def client() -> None:
            async with Wire(self.url, self.headers) as wire:
                for z, x, y in queue:
                    status, body = await wire.get(self.address.format(z=z, x=x, y=y))
                    assert status == 200, (status, body[:200])

        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        return len(places) / (time.perf_counter() - started)


async def over_http() -> None:
    for size in (256, 512):
        await over_http_at(size)


async def over_http_at(size: int) -> None:
    async with contextlib.AsyncExitStack() as stack:
        titiler = await stack.enter_async_context(titiler_served(size))
        ours = await stack.enter_async_context(house_served(size))
        places = SCENES[0].places()
        for server in (ours, titiler):
            await server.rate(places[:50], 4)
        print(
            f"\n{'over HTTP, tiles/s':<24} {'px':>4} {'clients':>7} {'ours':>8} {'titiler':>10} {'ratio':>6}   processor ms per tile"
        )
        for clients in CLIENTS:
            before = ours.cpu_s(), titiler.cpu_s()
            rates = [(await ours.rate(places, clients), await titiler.rate(places, clients)) for _ in range(ROUNDS)]
            used = ours.cpu_s() - before[0], titiler.cpu_s() - before[1]
            mine, theirs = (statistics.median(side) for side in zip(*rates, strict=True))
            ratios = [one / other for one, other in rates]
            each = [1000 * seconds / len(places) / ROUNDS for seconds in used]
            print(
                f"{'true colour':<24} {size:>4} {clients:>7} {mine:>8,.0f} {theirs:>10,.0f} {statistics.median(ratios):>6.2f}"
                f"   {each[0]:.1f} against {each[1]:.1f} ({each[1] / each[0]:.2f})",
                flush=True,
            )


@contextlib.asynccontextmanager
async def titiler_served(size: int) -> AsyncIterator[Server]:
    python = peer_python()
    port = free_port()
    with started(
        [str(python), "-m", "uvicorn", "titiler.application.main:app", "--port", str(port), "--log-level", "warning"],
        env={**os.environ, **TITILER_ENV},
    ) as process:
        path = f"/cog/tiles/WebMercatorQuad/{{z}}/{{x}}/{{y}}.webp?url={quote(str(TCI))}&tilesize={size}"
        server = Server(f"http://127.0.0.1:{port}", {}, path, process.pid)
        await answering(server, "/healthz")
        yield server


@contextlib.asynccontextmanager
async def house_served(size: int) -> AsyncIterator[Server]:
    with started([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, stdin=subprocess.PIPE) as process:
        line = await asyncio.to_thread(process.stdout.readline)
        told = json.loads(line)
        path = f"/api/v1/items/{told['item_id']}/tiles/{{z}}/{{x}}/{{y}}.webp?quality={QUALITY}&bands=1,2,3&rescale=0,255&size={size}"
        yield Server(told["url"], {"Authorization": f"Bearer {told['token']}"}, path, process.pid)


@contextlib.contextmanager
def started(command: list[str], **how) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(command, text=True, **how)
    try:
        yield process
    finally:
        if process.stdin:
            process.stdin.close()
        else:
            process.terminate()
        process.wait(30)


async def answering(server: Server, path: str) -> None:
    """Waits until a server answers; gives up after a minute."""
    deadline = time.monotonic() + 60
    while True:
        try:
            async with Wire(server.url, {}) as wire:
                await wire.get(path)
        except (OSError, asyncio.IncompleteReadError):
            assert time.monotonic() < deadline, f"{server.url} does not answer"
            await asyncio.sleep(0.2)
        else:
            return


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def peer_python() -> Path:
    """Python with titiler, in an environment of its own that is made on first use."""
    folder = HERE / "titiler"
    uv = os.environ.get("UV") or shutil.which("uv")
    assert uv, "uv is needed to install titiler: run `make bench`"
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    subprocess.run([uv, "sync", "--frozen", "--quiet", "--project", folder], check=True, env=environment)
    return folder / ".venv" / "bin" / "python"


async def serve() -> None:
    """Serves one house with the scene as an item, says where on standard output, and ends when standard input does."""
    with TestCluster() as cluster, tempfile.TemporaryDirectory() as folder:
        dsn = cluster.create_database()
        place = await prepared_template(dsn)
        more = {"tile_cache_bytes": 0, "rate_tiles": 10_000_000, "check_replies": False}
        async with served(dsn, place, data_dir=Path(folder), **more) as serving:
            item = await pictured_item(serving.house, place.home, ("data", TCI), stac_id="TCI")
            told = {"url": serving.base_url, "item_id": item["id"], "token": place.home.api_key}
            print(json.dumps(told), flush=True)
            await asyncio.to_thread(sys.stdin.read)


def main(parts: Sequence[str]) -> None:
    warnings.simplefilter("ignore")
    if "serve" in parts:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())
        return
    print(f"# {described()}")
    for name, part in (
        ("http", lambda: asyncio.run(over_http())),
        ("engine", engine),
        ("quality", quality),
        ("memory", memory),
    ):
        if not parts or name in parts:
            part()


if __name__ == "__main__":
    main(sys.argv[1:])
