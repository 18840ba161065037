"""Runs the published clients as their users do: as processes of their own, out of the environment that holds them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parents[1] / "clients" / "scripts"
WITHIN_S = 60.0
_LINE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Finished:
    """What a process left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Returns what it printed, read as JSON."""
        assert self.out.strip(), self.err
        return json.loads(self.out)


@dataclass(frozen=True)
class Clients:
    """The clients' environment, used from a home folder without anything in it."""

    venv: Path
    home: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Returns the variables of a clean login; proxies are left out because everything is on loopback."""
        path = f"{self.venv / 'bin'}:{os.environ['PATH']}"
        return {"HOME": str(self.home), "PATH": path, "NO_PROXY": "*", "COLUMNS": "200", "NO_COLOR": "1", **more}

    async def start(self, *command: str | Path, **variables: str) -> asyncio.subprocess.Process:
        """Starts a program of the environment with all three pipes."""
        return await asyncio.create_subprocess_exec(
            self.venv / "bin" / command[0],
            *command[1:],
            env=self.environment(**variables),
            cwd=self.home,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
        )

    async def run(self, *command: str | Path, stdin: str = "", **variables: str) -> Finished:
        """Runs a program of the environment to its end."""
        process = await self.start(*command, **variables)
        try:
            out, err = await asyncio.wait_for(process.communicate(stdin.encode()), WITHIN_S)
        finally:
            await _ended(process)
        assert process.returncode is not None
        return Finished(process.returncode, out.decode(), err.decode())

    async def script(self, name: str, given: Mapping[str, Any]) -> Any:
        """Runs one of our scripts with the given JSON on its standard input, and returns the JSON that it prints."""
        finished = await self.run("python", SCRIPTS / name, stdin=json.dumps(given))
        assert finished.code == 0, finished.err
        return finished.json()

    @contextlib.asynccontextmanager
    async def conversation(self, name: str, *arguments: str, **variables: str) -> AsyncIterator[Conversation]:
        """Runs one of our scripts that answers each line of JSON with one, until the block ends."""
        process = await self.start("python", SCRIPTS / name, *arguments, **variables)
        assert process.stderr is not None
        noise = asyncio.create_task(process.stderr.read())
        try:
            yield Conversation(process, noise)
        finally:
            await _ended(process)
            await noise


@dataclass(frozen=True)
class Conversation:
    """A process that answers line by line."""

    process: asyncio.subprocess.Process
    noise: asyncio.Task[bytes]

    async def ask(self, **question: Any) -> Any:
        """Sends one question and returns the answer."""
        await self.tell(**question)
        return await self.heard()

    async def tell(self, **words: Any) -> None:
        """Sends one line that is not answered."""
        stdin = self.process.stdin
        assert stdin is not None
        stdin.write(json.dumps(words).encode() + b"\n")
        await stdin.drain()

    async def heard(self) -> Any:
        """Returns what the process says next."""
        stdout = self.process.stdout
        assert stdout is not None
        line = await asyncio.wait_for(stdout.readline(), WITHIN_S)
        assert line, (await self.noise).decode()
        return json.loads(line)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Closes a process's input, which ends our scripts, and kills what does not end by that."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), 5)
    except TimeoutError:
        process.kill()
        await process.wait()
