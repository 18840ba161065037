"""What it costs to turn an upload of 10,000 x 10,000 pixels into a COG: `inspect` and `convert` against rio-cogeo alone.

Ours includes the confined process, exact statistics, checksums and reading the result back; rio-cogeo runs its own function in
this Python, once as `rio cogeo create` calls it and once with the predictor and the averaged overviews that ours writes. Each
side runs in a process of its own that imports first and times only its work. All run in turn, round by round; the ratios of
each round are taken and their medians printed, with the largest resident memory of any process of a side. Run with `make bench`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parent)]

import numpy as np
import rasterio
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_translate
from rio_cogeo.profiles import cog_profiles

from geopera_server.raster import ingest
from machine import described

ROUNDS = 3
SIDE_PX = 10_000
SCENE = "imagery/S2_L2A_bolzano_20220612_B04-B03-B02-B08-SCL.tif"


def plain(_scene: Path, result: Path) -> None:
    """Writes one band of real reflectances, side by side until they fill the square, as a bare striped file."""
    _tiled(result, slice(0, 1), "uint16", nodata=0)


def photo(_scene: Path, result: Path) -> None:
    """Writes three bands as the tiled and compressed picture that a drone's or a map's software exports."""
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "interleave": "pixel"}
    _tiled(result, slice(0, 3), "uint8", **tiles, photometric="RGB")


def _tiled(result: Path, chosen: slice, dtype: str, **layout: Any) -> None:
    # Brings the whole house along, which would count as memory of the sides.
    from conftest import shared_data_folder  # noqa: PLC0415

    with rasterio.open(shared_data_folder() / SCENE) as scene:
        bands = scene.read()[chosen]
        place = {"crs": scene.crs, "transform": scene.transform}
    values = bands if dtype == "uint16" else np.clip(bands // 12, 0, 255).astype("uint8")
    _, height, width = values.shape
    square = {"driver": "GTiff", "width": SIDE_PX, "height": SIDE_PX, "count": len(values), "dtype": dtype}
    with rasterio.open(result, "w", **square, **place, **layout) as dataset:
        for row in range(0, SIDE_PX, height):
            strip = np.tile(values[:, : SIDE_PX - row], (1, 1, -(-SIDE_PX // width)))[:, :, :SIDE_PX]
            dataset.write(strip, window=Window(0, row, SIDE_PX, strip.shape[1]))


def ours(source: Path, result: Path) -> Callable[[], object]:
    return lambda: ingest.convert(ingest.inspect([source]), result)


def theirs(source: Path, result: Path, *, alike: bool) -> Callable[[], object]:
    profile = cog_profiles.get("deflate") | {"BIGTIFF": "IF_SAFER"} | ({"predictor": 2} if alike else {})
    config = {"GDAL_NUM_THREADS": "ALL_CPUS", "GDAL_TIFF_INTERNAL_MASK": True}
    resampling = "average" if alike else "nearest"
    return lambda: cog_translate(source, result, profile, config=config, overview_resampling=resampling, quiet=True)


RASTERS = {"1 x uint16": plain, "3 x uint8": photo}
SIDES: dict[str, Callable[[Path, Path], Callable[[], object]]] = {
    "ours": ours,
    "rio-cogeo": lambda source, result: theirs(source, result, alike=False),
    "alike": lambda source, result: theirs(source, result, alike=True),
}


def timed(side: str, source: Path, result: Path) -> tuple[float, float, int]:
    """Runs one side and returns its seconds, its peak memory in MB, and the bytes it wrote."""
    result.unlink(missing_ok=True)
    process = subprocess.Popen([sys.executable, __file__, side, source, result], stdout=subprocess.PIPE, text=True)
    printed = process.stdout.read()
    process.stdout.close()
    # Of this one process and those it started and waited for, which is where ours does its work.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{side} failed"
    return float(printed), usage.ru_maxrss / 1000, result.stat().st_size


def main() -> None:
    print(f"# {described()}")
    print(f"{'raster':<12}" + "".join(f"{side:>10} s {'MB':>6} {'file MB':>8} {'ratio':>6}" for side in SIDES))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.tif"
        for name in RASTERS:
            subprocess.run([sys.executable, __file__, name, source, source], check=True)
            rounds = [[timed(side, source, Path(folder) / "result.tif") for side in SIDES] for _ in range(ROUNDS)]
            cells = []
            for place in range(len(SIDES)):
                seconds, memory, size = (statistics.median(each) for each in zip(*(r[place] for r in rounds), strict=True))
                ratio = statistics.median(r[0][0] / r[place][0] for r in rounds)
                cells.append(f"{seconds:>12.2f} {memory:>6.0f} {size / 1e6:>8.0f} {ratio:>6.2f}")
            print(f"{name:<12}" + "".join(cells), flush=True)


def run(name: str, source: str, result: str) -> None:
    """Writes the raster of that name, or times the side of that name."""
    if name in RASTERS:
        RASTERS[name](Path(source), Path(result))
        return
    work = SIDES[name](Path(source), Path(result))
    started = time.perf_counter()
    work()
    print(time.perf_counter() - started)


if __name__ == "__main__":
    run(*sys.argv[1:]) if len(sys.argv) > 1 else main()
