"""Uploads a file as the Python SDK's users do: a session, an address, a plain PUT, and the item that comes of it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import httpx
from geopera import AuthenticatedClient
from geopera.api.operations import (
    items_get,
    uploads_complete,
    uploads_initiate,
    uploads_progress,
    uploads_signed_url,
)
from geopera.models import (
    ItemGetInput,
    SignedUrlInput,
    UploadInitiate,
    UploadProgressInput,
    UploadsCompleteBodyType0,
)

given = json.load(sys.stdin)
client = AuthenticatedClient(base_url=given["base_url"], token=given["api_key"])
file = Path(given["file"])
told = {}


def noted(step, response):
    parsed = response.parsed
    content = parsed.to_dict() if hasattr(parsed, "to_dict") else parsed
    told[step] = {"status": int(response.status_code), "model": type(parsed).__name__, "content": content}
    return content


session = noted(
    "initiate",
    uploads_initiate.sync_detailed(
        client=client, body=UploadInitiate(project_id=given["project_id"], total_bytes=file.stat().st_size)
    ),
)
address = noted(
    "signed_url",
    uploads_signed_url.sync_detailed(
        client=client, body=SignedUrlInput(upload_id=session["id"], file_name=file.name, content_type="image/tiff")
    ),
)
with file.open("rb") as content:
    put = httpx.put(address["upload_url"], content=content, headers={"Content-Type": "image/tiff"}, timeout=60)
told["put"] = {"status": put.status_code, "content": put.json()}
noted(
    "progress",
    uploads_progress.sync_detailed(
        client=client, body=UploadProgressInput(upload_id=session["id"], bytes_uploaded=file.stat().st_size)
    ),
)
body = UploadsCompleteBodyType0.from_dict({"upload_id": session["id"], "name": "From Python"})
item_id = noted("complete", uploads_complete.sync_detailed(client=client, body=body))["item_id"]
deadline = time.monotonic() + 60
while True:
    item = noted("item", items_get.sync_detailed(client=client, body=ItemGetInput(item_id=item_id)))
    if item["item"]["assets"][0]["is_cog"] or time.monotonic() > deadline:
        break
    time.sleep(0.1)
json.dump(told, sys.stdout, default=str)
