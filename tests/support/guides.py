"""Runs what the documents tell their readers to run, and holds what they say it prints against what it prints."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

WRITTEN_ADDRESS = "http://127.0.0.1:8000"
WITHIN_S = 180.0
_BLOCK = re.compile(r"^```(sh|python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_END = "=== end of block"


@dataclass(frozen=True)
class Block:
    """Commands of a document, and the lines it says they print; none where it says nothing."""

    language: str
    commands: str
    printed: tuple[str, ...]


def blocks_of(text: str) -> list[Block]:
    """Returns the blocks of a document in their order; a block of text belongs to the commands before it."""
    blocks: list[Block] = []
    for language, body in _BLOCK.findall(text):
        if language == "text":
            blocks[-1] = Block(blocks[-1].language, blocks[-1].commands, tuple(body.splitlines()))
        else:
            blocks.append(Block(language, body, ()))
    return blocks


def section(text: str, heading: str) -> str:
    """Returns what stands under a heading, up to the next of its kind."""
    return text.partition(f"## {heading}\n")[2].partition("\n## ")[0]


@dataclass(frozen=True)
class Deployment:
    """A demo that is kept running, and the folder that a reader would be in."""

    folder: Path
    base_url: str

    def run(self, blocks: list[Block]) -> list[str]:
        """Runs blocks one after another in one shell, as a reader pastes them, and returns what each printed."""
        script = "".join(f"{_as_shell(block)}echo '{_END}'\n" for block in blocks).replace(WRITTEN_ADDRESS, self.base_url)
        finished = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder, env=_environment(), capture_output=True, text=True, timeout=WITHIN_S, check=False,
        )  # fmt: skip
        printed = finished.stdout.replace(self.base_url, WRITTEN_ADDRESS).split(f"{_END}\n")
        assert finished.returncode == 0, f"after:\n{printed[-1][-2000:]}\n{finished.stderr[-2000:]}"
        return printed[:-1]


def _as_shell(block: Block) -> str:
    return block.commands if block.language == "sh" else f"python3 - <<'PYTHON'\n{block.commands}PYTHON\n"


def fault(block: Block, printed: str) -> str | None:
    """Returns in what the lines of a document differ from what came; problems have to be told of in the document."""
    lines = printed.splitlines()
    rest = iter(lines)
    matched = set()
    for line in block.printed:
        pattern = re.compile(".*".join(re.escape(part) for part in line.split("…")))
        found = next((each for each in rest if pattern.fullmatch(each)), None)
        if found is None:
            return f"nothing printed is like\n  {line}\nin\n{printed}"
        matched.add(found)
    untold = [each for each in lines if "urn:geopera:problem" in each and each not in matched]
    return f"the document does not tell of\n  {untold[0]}" if untold else None


def _environment(**more: str) -> Mapping[str, str]:
    quiet = {name: value for name, value in os.environ.items() if not name.startswith(("GEOPERA_", "PYTHON"))}
    return {**quiet, "NO_PROXY": "*", "PYTHONUNBUFFERED": "1", **more}


@contextmanager
def demo_kept_running(folder: Path) -> Iterator[Deployment]:
    """Runs `geopera-server demo --serve` from nothing in a folder, beside what is installed, until the block ends."""
    installed = Path(sys.prefix)
    (folder / ".venv").symlink_to(installed)
    log = folder / "demo.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [installed / "bin" / "geopera-server", "demo", "--data", "./data/demo", "--port", "0", "--serve"],
            cwd=folder, env=_environment(), stdout=subprocess.PIPE, stderr=written, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            walked = []
            for line in process.stdout:
                walked.append(line)
                if "Stop with Ctrl-C" in line:
                    break
            assert process.poll() is None, f"{''.join(walked)[-2000:]}\n{log.read_text()[-2000:]}"
            yield Deployment(folder, json.loads((folder / "data" / "demo" / "demo.json").read_text())["base_url"])
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
