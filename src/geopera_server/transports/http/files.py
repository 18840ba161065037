"""Serves stored objects to whoever holds a signed address: plain GET and HEAD, ranges honoured."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from geopera_server.kernel.errors import Gone, NotFound, OperationError
from geopera_server.ports.meter import Meter
from geopera_server.ports.store import ObjectMissing, ObjectStore
from geopera_server.transports.http.links import SignedLinks
from geopera_server.transports.http.problems import problem_response
from geopera_server.values.clock import now

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_PROJECT = re.compile(r"projects/([0-9a-f-]{36})/")


class Files:
    """Answers signed download addresses from an object store."""

    def __init__(self, store: ObjectStore, links: SignedLinks, meter: Meter) -> None:
        self._store = store
        self._links = links
        self._meter = meter

    def routes(self) -> list[Route]:
        """Returns the routes to mount."""
        return [Route("/files/{path:path}", self.serve, methods=["GET", "HEAD"])]

    async def serve(self, request: Request) -> Response:
        """Serves one object or one range of it."""
        path, query = request.path_params["path"], request.query_params
        try:
            self._check(
                path, query.get("expires", ""), query.get("name", ""), query.get("type", ""), query.get("signature", "")
            )
        except OperationError as error:
            return problem_response(error, request.state.invocation_id)
        return await self.sent(request, path, file_name=query["name"], media_type=query["type"])

    async def sent(self, request: Request, path: str, *, file_name: str, media_type: str) -> Response:
        """Returns one object, or the range of it that is asked for, to whoever has been let in already."""
        try:
            size = await self._store.size(path)
        except ObjectMissing:
            return problem_response(NotFound("file"), request.state.invocation_id)
        headers = {
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, max-age=300",
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file_name)}",
            "ETag": f'"{path.rsplit("/", 1)[-1]}-{size}"',
            "X-Content-Type-Options": "nosniff",
        }
        try:
            start, end = wanted_range(request.headers.get("range"), size)
        except ValueError:
            refusal = OperationError(f"The file has {size:,} bytes and ends before that range.", code="range_not_satisfiable")
            return problem_response(refusal, request.state.invocation_id, headers={"Content-Range": f"bytes */{size}"})
        partial = (start, end) != (0, size)
        if partial:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        headers["Content-Length"] = str(end - start)
        if request.method == "HEAD":
            return Response(status_code=206 if partial else 200, headers=headers, media_type=media_type)
        body = self._metered(path, self._store.read(path, start, end))
        return StreamingResponse(body, 206 if partial else 200, headers=headers, media_type=media_type)

    async def _metered(self, path: str, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yields the body and counts for its project what was sent, also of a download that is broken off."""
        owner = _PROJECT.match(path)
        async for chunk in body:
            yield chunk
            if owner is not None:
                self._meter.count(None, "sent_bytes", len(chunk), project_id=owner.group(1))

    def _check(self, path: str, expires: str, file_name: str, media_type: str, signature: str) -> None:
        if not self._links.permits_download(
            path, expires=expires, file_name=file_name, media_type=media_type, signature=signature
        ):
            raise NotFound("file")
        if int(expires) < now().timestamp():
            raise Gone("This download address has expired. Ask items.asset.download for a new one.")


def wanted_range(header: str | None, size: int) -> tuple[int, int]:
    """Returns start and end (exclusive) of a Range header; the whole for none and for forms we do not serve (RFC 9110, 14.2).

    Raises ValueError for a range that lies outside.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or found.group(0) == "bytes=-":
        return 0, size
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
    if start >= end:
        raise ValueError(header)
    return start, end
