"""Takes files at signed addresses: PUT whole, or in parts with Content-Range as Google's resumable uploads do (RFC 9110, 14.4).

A part that is not the last is answered 308 with `Range: bytes=0-n`, n being the last byte that has come. `Content-Range: bytes
*/N` with an empty body, or HEAD, asks how far it got: 308 again, without Range when nothing has come, or 200 for a file that
is complete. After a broken connection ask, and go on behind the answer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from geopera_server.domains.uploads import rules
from geopera_server.domains.uploads.granting import PATH, opened
from geopera_server.domains.uploads.operations.receiving import Transfer
from geopera_server.domains.uploads.receiving import Part, Partial, Receiver, Whole
from geopera_server.kernel.errors import InvalidInput, OperationError, TimedOut, Unavailable
from geopera_server.kernel.pipeline import Kernel
from geopera_server.ports.store import StoreFull
from geopera_server.transports.http.calls import DISCARDED_BYTES
from geopera_server.transports.http.problems import problem_response
from geopera_server.values.clock import now
from geopera_server.values.encoding import dumps

RESUME = 308
UPLOAD_HEADERS = ("Range", "ETag", "X-Checksum-CRC32C", "X-Checksum-SHA256")
# A sender that is silent for longer has gone, or means to hold the connection.
IDLE_S = 60.0
DISCARDING_S = 30.0
_PART = re.compile(r"bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_ASKED = re.compile(r"bytes\s+\*/(\d{1,18}|\*)")


class Uploads:
    """Answers the addresses that uploads.signed_url gives out."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def routes(self) -> list[Route]:
        """Returns the routes to mount."""
        return [Route(PATH + "/{token}/{name:path}", self.serve, methods=["PUT", "HEAD"])]

    async def serve(self, request: Request) -> Response:
        """Takes a file or a part of one, or says how far it has come."""
        try:
            return await self._answer(request)
        except ClientDisconnect:
            # Nobody is there to read it.
            return Response(status_code=400)
        except StoreFull:
            refusal: OperationError = Unavailable(
                "The server has no room to store this file now. Send it again later.",
                code="worker_unavailable",
                retry_after_s=300,
            )
        except OperationError as error:
            refusal = error
        response = problem_response(refusal, request.state.invocation_id)
        if isinstance(refusal, TimedOut) or not await _all_read(request):
            response.headers["Connection"] = "close"
        return response

    async def _answer(self, request: Request) -> Response:
        grant = opened(self._kernel.links, request.path_params["token"], now())
        receiver = Receiver(self._kernel, grant)
        header = request.headers.get("content-range")
        if request.method == "HEAD" or (header is not None and _ASKED.fullmatch(header.strip())):
            return await _how_far(receiver, await receiver.opened())
        if not rules.same_media_type(grant.content_type, request.headers.get("content-type")):
            raise InvalidInput(
                f"The address was signed for Content-Type {grant.content_type}. Send that, or ask uploads.signed_url for"
                " another address.",
                loc=("Content-Type",),
            )
        coding = request.headers.get("content-encoding", "identity")
        if coding.strip().lower() != "identity":
            raise InvalidInput(
                "Files are stored as they come. Send this one without Content-Encoding, or zipped.", loc=("Content-Encoding",)
            )
        if header is None:
            expected = _content_length(request)
            transfer = await receiver.opened(expected_bytes=expected)
            return _taken(await receiver.whole(transfer, _chunks(request), expected_bytes=expected))
        part = _part(header)
        transfer = await receiver.opened(expected_bytes=part.end if part.total is None else part.total)
        return _taken(await receiver.part(transfer, part, _chunks(request)))


async def _how_far(receiver: Receiver, transfer: Transfer) -> Response:
    if transfer["transfer_id"] is not None:
        if transfer["received_bytes"] == transfer["transfer_bytes"]:
            # All parts had come when the connection or the process ended.
            return _taken(await receiver.joined(transfer))
        return _taken(Partial(received_bytes=transfer["received_bytes"]))
    if transfer["size_bytes"] is None:
        return _taken(Partial(received_bytes=0))
    return Response(status_code=200, headers=_sums(transfer["sha256"], transfer["crc32c"]))


def _taken(taken: Whole | Partial) -> Response:
    if isinstance(taken, Partial):
        last = taken.received_bytes - 1
        return Response(status_code=RESUME, headers={} if last < 0 else {"Range": f"bytes=0-{last}"})
    body = {
        "file_name": taken.file_name,
        "object_path": taken.object_path,
        "size_bytes": taken.size_bytes,
        "checksum_sha256": taken.sha256,
        "checksum_crc32c": taken.crc32c,
    }
    return Response(dumps(body), 200, media_type="application/json", headers=_sums(taken.sha256, taken.crc32c))


def _sums(sha256: str | None, crc32c: str | None) -> dict[str, str]:
    return {"ETag": f'"{sha256}"', "X-Checksum-CRC32C": str(crc32c), "X-Checksum-SHA256": str(sha256)}


def _part(header: str) -> Part:
    found = _PART.fullmatch(header.strip())
    if found is None:
        raise InvalidInput("Content-Range must be like bytes 0-1048575/4194304 or bytes */4194304.", loc=("Content-Range",))
    first, last, total = found.groups()
    part = Part(start=int(first), end=int(last) + 1, total=None if total == "*" else int(total))
    if part.start >= part.end or (part.total is not None and part.end > part.total):
        raise InvalidInput("Content-Range names bytes that a file of that size does not have.", loc=("Content-Range",))
    return part


def _content_length(request: Request) -> int | None:
    declared = request.headers.get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdigit() and len(declared) < 19 else None


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """Yields the body; raises TimedOut for a sender that falls silent."""
    coming = request.stream()
    while True:
        try:
            async with asyncio.timeout(IDLE_S):
                chunk = await anext(coming, None)
        except TimeoutError:
            raise TimedOut(f"Nothing came for {IDLE_S:.0f} seconds. Send it again, or go on where it broke off.") from None
        if chunk is None:
            return
        if chunk:
            yield chunk


async def _all_read(request: Request) -> bool:
    """Reads on what is still coming, if it is not too much: many clients read no answer before they have sent everything."""
    left = DISCARDED_BYTES
    if (_content_length(request) or 0) > left:
        return False
    try:
        async with asyncio.timeout(DISCARDING_S):
            async for chunk in request.stream():
                left -= len(chunk)
                if left < 0:
                    return False
    except (ClientDisconnect, TimeoutError):
        return False
    except RuntimeError:
        # It has been read to its end before.
        return True
    return True
