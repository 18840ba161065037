"""How long from the command to the first answered request: on a new folder, on a known one, and after kill -9.

The floor is the same command's imports alone, in a process of their own. Run with `make bench`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from machine import described

ROUNDS = 7
TARGET_S = 3.0
COMMAND = [str(Path(sys.executable).with_name("geopera-server")), "up", "--port", "0", "--data"]


def started(folder: Path) -> tuple[float, subprocess.Popen[str]]:
    """Starts a server and returns how long it took to answer, and its process."""
    began = time.perf_counter()
    process = subprocess.Popen([*COMMAND, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    with urllib.request.urlopen(f"{url}/healthz") as reply:
        assert reply.status == 200
    return time.perf_counter() - began, process


def start_and_stop(folder: Path) -> tuple[float, float]:
    """Returns the time to the first answer and the time from SIGTERM to the end, in seconds."""
    up_s, process = started(folder)
    began = time.perf_counter()
    process.terminate()
    assert process.wait() == 0
    return up_s, time.perf_counter() - began


def start_and_kill(folder: Path) -> None:
    """Leaves the folder as a crash would."""
    _, process = started(folder)
    process.kill()
    process.wait()


def imports_alone() -> float:
    """Returns how long it takes to load what the command loads, in seconds."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import geopera_server.transports.cli.running"], check=True)
    return time.perf_counter() - began


def main() -> None:
    print(described())
    os.environ.pop("GEOPERA_DATABASE_URL", None)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "data")
        first_s, _ = start_and_stop(folder)
        warm, floors, killed = [], [], []
        for _ in range(ROUNDS):
            warm.append(start_and_stop(folder))
            floors.append(imports_alone())
            start_and_kill(folder)
            killed.append(start_and_stop(folder)[0])
    up_s = statistics.median(up for up, _ in warm)
    floor_s = statistics.median(floors)
    print(f"first start, with initdb and migrations   {first_s:.2f} s")
    print(f"start on a known folder (median of {ROUNDS})      {up_s:.2f} s, target {TARGET_S:g} s")
    print(f"start after kill -9                       {statistics.median(killed):.2f} s")
    print(f"SIGTERM to the end                        {statistics.median(down for _, down in warm):.2f} s")
    print(f"imports alone                             {floor_s:.2f} s")
    print(f"ratio of start to imports alone           {up_s / floor_s:.2f}")


if __name__ == "__main__":
    main()
