"""The process that opens an upload: started by the supervisor, with the request on its standard input.

It imports this program first, then gives up what it does not need, and only then reads a byte of the upload.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import orjson

import geopera_server
from geopera_server.raster.errors import WriteFailed
from geopera_server.raster.ingest.bundle import Bundle, unpacked
from geopera_server.raster.ingest.confine import confine, limit
from geopera_server.raster.ingest.limits import Limits
from geopera_server.raster.ingest.reading import inspected
from geopera_server.raster.ingest.refusals import IngestRefused, TooDemanding

# Of the system: what a library loaded late, or GDAL's count of processors, needs.
_SYSTEM = ("/usr/lib", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/null", "/dev/urandom", "/sys/devices/system/cpu")

_UNWRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

Report = Callable[[float], None]


def main() -> None:
    """Carries out the request and writes the answer to what was the standard output."""
    request = json.load(sys.stdin.buffer)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    # Libraries print now and then, and the pipe is for answers alone.
    os.dup2(2, 1)
    _say(answers, _answer(request, lambda share: _say(answers, {"progress": share})))
    # Handles of broken files may crash in their destructors, after all is said.
    os._exit(0)


def _say(answers: IO[bytes], answer: dict[str, Any]) -> None:
    line = memoryview(orjson.dumps(answer, default=str) + b"\n")
    while line:
        line = line[answers.write(line) :]


def _answer(request: dict[str, Any], report: Report) -> dict[str, Any]:
    try:
        _give_up(request)
    except Exception:  # noqa: BLE001
        return {"crashed": traceback.format_exc()}
    return _answer_read(request, report)


def _answer_read(request: dict[str, Any], report: Report) -> dict[str, Any]:
    try:
        return {"result": _result(request, report)}
    except IngestRefused as refused:
        return {"refused": refused.code, "reason": refused.reason}
    except WriteFailed as failed:
        return {"unwritten": failed.errno}
    except MemoryError:
        return {"refused": TooDemanding.code, "reason": "The file needs more memory to read than is allowed."}
    except Exception as error:  # noqa: BLE001
        if isinstance(error, OSError) and error.errno in _UNWRITTEN:
            return {"unwritten": error.errno}
        return {"broken_off": traceback.format_exc()}


def _give_up(request: dict[str, Any]) -> None:
    limits = request["limits"]
    limit(
        parent=request["parent"],
        memory_bytes=limits["memory_bytes"],
        file_bytes=max(3 * limits["max_raw_bytes"], limits["max_unpacked_bytes"]),
        seconds=request["seconds"],
    )
    program = Path(geopera_server.__file__).parent
    files = [Path(path) for path in request["files"]]
    readable = [program, *files, *(Path(path) for path in (*sys.path, *_SYSTEM))]
    confine(readable=readable, writable=Path(request["work"]))


def _result(request: dict[str, Any], report: Report) -> Any:
    limits = Limits(**request["limits"])
    bundle = Bundle.of(request)
    with unpacked(bundle, Path(request["work"]), limits) as parts:
        if request["task"] == "inspect":
            return inspected(bundle, parts, limits)
        from geopera_server.raster.ingest.conversion import converted  # noqa: PLC0415

        return converted(bundle, parts, limits, Path(request["work"]) / "result.tif", report)


if __name__ == "__main__":
    main()
