"""Runs one piece of work on untrusted files in a process of its own, and ends that process in every case.

The request goes down one pipe as JSON, answers come back over another as lines of JSON: `{"progress": 0.4}`, and at the
end `{"result": ...}`, `{"refused": code, "reason": ...}`, `{"unwritten": errno}`, `{"broken_off": traceback}` for an error that
no reader should raise over a file, or `{"crashed": traceback}` when the file was not looked at.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from geopera_server.raster.errors import Stopped, WriteFailed
from geopera_server.raster.ingest.limits import Limits
from geopera_server.raster.ingest.refusals import KINDS, Damaged, IngestRefused, TooDemanding

if TYPE_CHECKING:
    from geopera_server.raster.cog import Progress, ShouldStop

logger = logging.getLogger(__name__)

T = TypeVar("T")

WORKER = "geopera_server.raster.ingest.worker"
ASKED_EVERY_S = 0.25
MAX_ANSWER_BYTES = 32_000_000

_KEPT_VARIABLES = ("GDAL_DATA", "PROJ_DATA", "PROJ_LIB", "LD_LIBRARY_PATH")
_OWN_VARIABLES = {
    "PATH": os.defpath,
    "LC_ALL": "C.UTF-8",
    "MALLOC_ARENA_MAX": "2",
    "OPENBLAS_NUM_THREADS": "1",
    # What lies beside a file must not change what it means; pyogrio's GDAL has no other way to be told early enough.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "PROJ_NETWORK": "OFF",
    # A colon twice is HDF5's word for "no plug-in is ever loaded".
    "HDF5_PLUGIN_PRELOAD": "::",
}


class WorkerFailed(RuntimeError):
    """The worker ended in a way that no upload should bring about: a fault of this program."""


def run(
    task: str,
    request: dict[str, Any],
    result: type[T],
    *,
    files: Sequence[Path],
    limits: Limits,
    scratch: Path | None = None,
    destination: Path | None = None,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> T:
    """Runs `task` over the files in a confined process and returns what it found.

    Raises IngestRefused, WriteFailed or Stopped; also for a process that crashed over the files or passed its limits.
    """
    folder = scratch if destination is None else destination.parent
    seconds = limits.inspect_s if destination is None else limits.convert_s
    with _work_folder(folder) as work:
        whole = {
            **request,
            "task": task,
            "files": [str(path.resolve()) for path in files],
            "names": [path.name for path in files],
            "work": str(work),
            "limits": asdict(limits),
            "seconds": seconds,
            "parent": os.getpid(),
        }
        with _process(work) as process:
            answer = _conversation(process, whole, time.monotonic() + seconds, progress, should_stop)
        if "result" not in answer:
            raise _error(answer)
        if destination is not None:
            (work / "result.tif").replace(destination)
    return _typed(result, answer["result"])


def _typed(result: type[T], value: Any) -> T:
    # The worker imports this module too, and has no use for pydantic.
    from pydantic import TypeAdapter  # noqa: PLC0415

    return TypeAdapter(result).validate_python(value)


@contextmanager
def _work_folder(parent: Path | None) -> Iterator[Path]:
    try:
        folder = Path(tempfile.mkdtemp(prefix=".ingest-", dir=parent)).resolve()
    except OSError as error:
        raise WriteFailed.of(error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _process(work: Path) -> Iterator[subprocess.Popen[bytes]]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-m", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=work,
            # Nothing of our own environment: it may hold secrets, and GDAL takes options from it.
            env={**kept, **_OWN_VARIABLES, "TMPDIR": str(work)},
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            for pipe in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):
                    _open(pipe).close()
            process.wait()


def _conversation(
    process: subprocess.Popen[bytes],
    request: dict[str, Any],
    deadline: float,
    progress: Progress | None,
    should_stop: ShouldStop | None,
) -> dict[str, Any]:
    with suppress(BrokenPipeError):
        _open(process.stdin).write(json.dumps(request).encode())
        _open(process.stdin).close()
    for line in _lines(process, deadline, should_stop):
        answer: dict[str, Any] = json.loads(line)
        if "progress" not in answer:
            return answer
        if progress is not None:
            progress(answer["progress"])
    return _ended_silently(process)


def _lines(process: subprocess.Popen[bytes], deadline: float, should_stop: ShouldStop | None) -> Iterator[bytes]:
    """The lines the process writes, until it closes its end."""
    output = _open(process.stdout)
    os.set_blocking(output.fileno(), False)
    waiting = b""
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while True:
            if should_stop is not None and should_stop():
                raise Stopped
            if time.monotonic() > deadline:
                raise TooDemanding("The file took too long to read; send it as a Cloud Optimized GeoTIFF, or in parts.")
            if not selector.select(min(ASKED_EVERY_S, max(0.0, deadline - time.monotonic()))):
                continue
            piece = os.read(output.fileno(), 1 << 16)
            if not piece:
                return
            *whole, waiting = (waiting + piece).split(b"\n")
            if len(waiting) > MAX_ANSWER_BYTES:
                raise TooDemanding("The file describes itself at too great a length; send it in parts.")
            yield from whole


def _ended_silently(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    process.wait()
    if process.returncode in (-signal.SIGKILL, -signal.SIGXCPU):
        return {"refused": TooDemanding.code, "reason": "The file needs more memory or time to read than is allowed."}
    if process.returncode < 0:
        # A decoder that crashes did so over these bytes.
        return {"refused": Damaged.code, "reason": "The file is damaged: its decoder broke off."}
    return {"crashed": f"the worker ended with status {process.returncode} and said nothing"}


def _error(answer: dict[str, Any]) -> Exception:
    if "refused" in answer:
        return KINDS.get(answer["refused"], IngestRefused)(answer["reason"])
    if "broken_off" in answer:
        # A reader that fails on bytes it did not expect is a fault of ours, yet the customer can only send other bytes.
        logger.error("reading an upload broke off\n%s", answer["broken_off"])
        return Damaged("The file cannot be read: something in it is not as its format has it. Write it anew and send that.")
    if "unwritten" in answer:
        return WriteFailed(os.strerror(answer["unwritten"]), answer["unwritten"])
    return WorkerFailed(answer["crashed"])


def _open(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "the process was started with pipes"
    return pipe
