"""A bucket that speaks as much of S3's protocol as object stores need, on loopback, and remembers what was left unfinished."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from geopera_server.transports.cli.listening import take_port

BUCKET = "bucket"
_THEN = "2024-01-01T00:00:00.000Z"


@dataclass
class Bucket:
    """Objects, and multipart uploads that were neither completed nor aborted."""

    objects: dict[str, bytes] = field(default_factory=dict)
    unfinished: dict[str, dict[int, bytes]] = field(default_factory=dict)
    parts_taken: int = 0

    def routes(self) -> list[Route]:
        methods = ["GET", "HEAD", "PUT", "POST", "DELETE"]
        return [
            Route(f"/{BUCKET}", self.of_bucket, methods=methods),
            Route(f"/{BUCKET}/{{key:path}}", self.of_object, methods=methods),
        ]

    async def of_bucket(self, request: Request) -> Response:
        if request.method == "POST" and "delete" in request.query_params:
            keys = re.findall(r"<Key>(.*?)</Key>", (await request.body()).decode())
            for key in keys:
                self.objects.pop(key, None)
            return _xml("DeleteResult", *(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys))
        prefix, delimiter = request.query_params.get("prefix", ""), request.query_params.get("delimiter")
        keys = sorted(key for key in self.objects if key.startswith(prefix))
        folders: list[str] = []
        if delimiter:
            below = {key: key[len(prefix) :] for key in keys}
            folders = sorted(
                {prefix + rest.partition(delimiter)[0] + delimiter for rest in below.values() if delimiter in rest}
            )
            keys = [key for key in keys if delimiter not in below[key]]
        contents = [
            f"<Contents><Key>{key}</Key><Size>{len(self.objects[key])}</Size><LastModified>{_THEN}</LastModified>"
            f"<ETag>{_tag(self.objects[key])}</ETag></Contents>"
            for key in keys
        ]
        shared = [f"<CommonPrefixes><Prefix>{each}</Prefix></CommonPrefixes>" for each in folders]
        return _xml("ListBucketResult", f"<KeyCount>{len(keys)}</KeyCount><IsTruncated>false</IsTruncated>", *contents, *shared)

    async def of_object(self, request: Request) -> Response:
        key, query = request.path_params["key"], request.query_params
        if request.method == "POST":
            return await self._post(request, key)
        if request.method == "PUT":
            data = await request.body()
            if "uploadId" in query:
                self.unfinished[query["uploadId"]][int(query["partNumber"])] = data
                self.parts_taken += 1
            elif "x-amz-copy-source" in request.headers:
                self.objects[key] = self.objects[request.headers["x-amz-copy-source"].lstrip("/").removeprefix(f"{BUCKET}/")]
                return _xml("CopyObjectResult", f"<ETag>{_tag(self.objects[key])}</ETag>")
            else:
                self.objects[key] = data
            return Response(headers={"ETag": _tag(data)})
        if request.method == "DELETE":
            if "uploadId" in query:
                self.unfinished.pop(query["uploadId"], None)
            else:
                self.objects.pop(key, None)
            return Response(status_code=204)
        return self._get(request, key)

    async def _post(self, request: Request, key: str) -> Response:
        if "uploads" in request.query_params:
            upload_id = f"upload-{len(self.unfinished)}-{self.parts_taken}"
            self.unfinished[upload_id] = {}
            return _xml("InitiateMultipartUploadResult", f"<UploadId>{upload_id}</UploadId>")
        parts = self.unfinished.pop(request.query_params["uploadId"])
        self.objects[key] = b"".join(data for _, data in sorted(parts.items()))
        return _xml("CompleteMultipartUploadResult", f"<ETag>{_tag(self.objects[key])}</ETag>")

    def _get(self, request: Request, key: str) -> Response:
        if key not in self.objects:
            return Response("<Error><Code>NoSuchKey</Code></Error>", 404, media_type="application/xml")
        data = self.objects[key]
        headers = {"ETag": _tag(data), "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "Accept-Ranges": "bytes"}
        if found := re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", "")):
            start, end = int(found[1]), min(int(found[2]) + 1, len(data))
            return Response(data[start:end], 206, headers={**headers, "Content-Range": f"bytes {start}-{end - 1}/{len(data)}"})
        if request.method == "HEAD":
            return Response(headers={**headers, "Content-Length": str(len(data))})
        return Response(data, headers=headers)


def _tag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _xml(root: str, *inner: str) -> Response:
    body = f"<{root}>{''.join(inner)}</{root}>"
    ET.fromstring(body)
    return Response(body, media_type="application/xml")


@contextlib.asynccontextmanager
async def served_bucket() -> AsyncIterator[tuple[Bucket, str]]:
    """Serves an empty bucket until the block ends; yields it and the address of the service."""
    bucket = Bucket()
    with take_port("127.0.0.1", 0) as listening:
        config = uvicorn.Config(Starlette(routes=bucket.routes()), log_level="warning", lifespan="off", access_log=False)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            assert not task.done(), "the bucket did not start"
            await asyncio.sleep(0.005)
        try:
            yield bucket, f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
