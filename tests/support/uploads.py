"""Uploads in tests: sending files as browsers and resumable clients do, and looking at what is left of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx

from support.serving import Actor, Serving

TIFF = "image/tiff"


async def begun(actor: Actor, project_id: str, **more: Any) -> str:
    """Begins an upload and returns its id."""
    return str((await actor.op("uploads.initiate", {"project_id": project_id, **more}))["id"])


async def address_of(actor: Actor, upload_id: str, file_name: str, content_type: str = TIFF) -> str:
    """Returns a fresh address for a file of an upload."""
    given = {"upload_id": upload_id, "file_name": file_name, "content_type": content_type}
    return str((await actor.op("uploads.signed_url", given))["upload_url"])


async def put(http: httpx.AsyncClient, url: str, content: Any, content_type: str = TIFF, **headers: str) -> httpx.Response:
    """PUTs bytes, without any credential but the address."""
    sent = {"Content-Type": content_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return await http.put(url, content=content, headers=sent)


async def sent(server: Serving, upload_id: str, files: dict[str, bytes | Path], actor: Actor | None = None) -> None:
    """Sends files whole, each to an address of its own."""
    for name, content in files.items():
        url = await address_of(actor or server.home, upload_id, name)
        data = content if isinstance(content, bytes) else content.read_bytes()
        response = await put(server.http, url, data)
        assert response.status_code == 200, response.text


async def until_processed(server: Serving, upload_id: str, *, within_s: float = 60.0) -> dict[str, Any]:
    """Waits for the work on a completed upload's item to end, and returns the upload."""
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        upload: dict[str, Any] = (await server.home.op("uploads.get", {"upload_id": upload_id}))["upload"]
        state = (upload["detected_metadata"] or {}).get("processing")
        if state in {"done", "failed"}:
            return upload
        assert asyncio.get_running_loop().time() < deadline, f"the upload is {upload['status']}, its item {state}"
        await asyncio.sleep(0.05)


def objects_below(data_dir: Path, folder: str = "") -> set[str]:
    """Returns every file below a folder of the local object store, unfinished ones included."""
    root = data_dir / "objects"
    return {str(path.relative_to(root)) for path in (root / folder).rglob("*") if path.is_file()}


async def reserved(sql: Any, organization_id: str) -> tuple[int, int]:
    """Returns what an organization has reserved by its total, and by the sum of its uploads."""
    [row] = await sql(
        "SELECT coalesce((SELECT reserved_bytes FROM storage_total WHERE organization_id = %s), 0)::bigint AS total,"
        " coalesce((SELECT sum(reserved_bytes) FROM upload WHERE organization_id = %s), 0)::bigint AS uploads",
        organization_id,
        organization_id,
    )
    return row["total"], row["uploads"]
