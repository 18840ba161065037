"""`kill -9` at every named point between the beginning of an upload and the end of the work on its item.

Afterwards the client goes on where it was, as it would after any broken connection: there is one item, nothing is reserved,
and no object lies about that no asset names.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import httpx
import psycopg
import pytest
import rasterio
from affine import Affine
from psycopg.rows import dict_row

from geopera_server.kernel.crashing import UPLOAD_POINTS
from support.processes import up
from support.uploads import objects_below

FIRST = 40_000


@pytest.fixture(scope="module")
def tiff(tmp_path_factory, shared_data) -> bytes:
    """A cut of a real scene, in strips as cameras write them."""
    path = tmp_path_factory.mktemp("made") / "cut.tif"
    with rasterio.open(shared_data / "imagery" / "S2_L2A_bolzano_20220612_B04-B03-B02-B08-SCL.tif") as scene:
        pixels = scene.read((1, 2, 3), window=((100, 300), (100, 300)))
        a, b, c, d, e, f = scene.transform[:6]
        place = Affine(a, b, c + 100 * a, d, e, f + 100 * e)
        with rasterio.open(
            path, "w", driver="GTiff", width=200, height=200, count=3, dtype="uint16", crs=scene.crs, transform=place
        ) as made:
            made.write(pixels)
    return path.read_bytes()


class Client:
    """Somebody who uploads one file in two parts, and goes on after whatever happens."""

    def __init__(self, http: httpx.Client, data: bytes) -> None:
        self.http, self.data = http, data

    def op(self, operation: str, body: dict, **headers: str) -> dict:
        response = self.http.post(f"/v1/op/{operation}", json=body, headers=headers)
        assert response.is_success, response.text
        return response.json()

    def begin(self, project_id: str) -> str:
        given = {"project_id": project_id, "total_bytes": len(self.data)}
        return self.op("uploads.initiate", given, **{"Idempotency-Key": "begin"})["id"]

    def send(self, upload_id: str) -> None:
        """Asks how much has come, and sends the rest in parts."""
        asked = {"upload_id": upload_id, "file_name": "cut.tif", "content_type": "image/tiff"}
        url = self.op("uploads.signed_url", asked)["upload_url"]
        url = str(self.http.base_url.join(httpx.URL(url).raw_path.decode()))
        while (has := self.http.head(url)).status_code == 308:
            start = int(has.headers["range"].rpartition("-")[2]) + 1 if "range" in has.headers else 0
            end = FIRST if start < FIRST else len(self.data)
            part = f"bytes {start}-{end - 1}/{len(self.data)}"
            self.http.put(url, content=self.data[start:end], headers={"Content-Type": "image/tiff", "Content-Range": part})
        assert has.status_code == 200, has.text

    def complete(self, upload_id: str) -> dict:
        return self.op("uploads.complete", {"upload_id": upload_id, "name": "Cut"}, **{"Idempotency-Key": "complete"})

    def upload(self, project_id: str) -> tuple[str, str]:
        """Does whatever is not done yet, and returns the ids of upload and item."""
        upload_id = self.begin(project_id)
        if self.op("uploads.get", {"upload_id": upload_id})["upload"]["status"] != "completed":
            self.send(upload_id)
        return upload_id, self.complete(upload_id)["item_id"]

    def until_processed(self, upload_id: str, *, within_s: float = 60) -> dict:
        deadline = time.monotonic() + within_s
        while True:
            upload = self.op("uploads.get", {"upload_id": upload_id})["upload"]
            if (upload["detected_metadata"] or {}).get("processing") in {"done", "failed"}:
                return upload
            assert time.monotonic() < deadline, upload
            time.sleep(0.1)


def client(url: str, place, data: bytes) -> Client:
    http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {place.home.api_key}"}, timeout=30)
    return Client(http, data)


@pytest.mark.timeout(300)
def test_killed_at_every_point(database, place, tmp_path, shared_data, tiff):
    """One upload, whose server is killed at each point in turn and started again; the client goes on each time."""
    project_id = place.home.project_id
    for point in ("call-committed", *UPLOAD_POINTS):
        with up(tmp_path, database, shared_data, GEOPERA_CRASH_AT=point, GEOPERA_JOB_ATTEMPTS="9") as server:
            sender = client(server.ready_url(), place, tiff)
            with contextlib.suppress(httpx.TransportError):
                sender.upload(project_id)
            assert server.was_killed(), f"the point {point} was not reached"
            sender.http.close()
    with up(tmp_path, database, shared_data) as server:
        sender = client(server.ready_url(), place, tiff)
        upload_id, item_id = sender.upload(project_id)
        upload = sender.until_processed(upload_id)
        assert (upload["detected_metadata"]["processing"], upload["error_message"]) == ("done", None)
        sender.http.close()
        assert server.terminate() == 0
    check_once_and_only_once(database, tmp_path, item_id, tiff)


def check_once_and_only_once(database: str, data_dir: Path, item_id: str, data: bytes) -> None:
    """Asserts that there is one item with one COG, nothing reserved, and no object but the COG."""
    with psycopg.connect(database, row_factory=dict_row) as conn:
        counts = conn.execute(
            "SELECT (SELECT count(*) FROM upload) AS uploads, (SELECT count(*) FROM item) AS items,"
            " (SELECT count(*) FROM collection) AS collections, (SELECT count(*) FROM job WHERE state <> 'done') AS open_jobs,"
            " (SELECT count(*) FROM outbox_event WHERE type = 'upload.completed') AS told,"
            " (SELECT coalesce(sum(reserved_bytes), 0)::int FROM upload) AS held,"
            " (SELECT sum(reserved_bytes)::int FROM storage_total) AS reserved, (SELECT count(*) FROM upload_part) AS parts"
        ).fetchone()
        [asset] = conn.execute("SELECT * FROM asset").fetchall()
        stored = conn.execute("SELECT sum(bytes)::int AS bytes FROM storage_total").fetchone()["bytes"]
    assert counts == {
        "uploads": 1, "items": 1, "collections": 1, "open_jobs": 0, "told": 1, "held": 0, "reserved": 0, "parts": 0,
    }  # fmt: skip
    assert (asset["item_id"], asset["is_cog"]) == (item_id, True)
    assert objects_below(data_dir) == {asset["href"]}
    assert stored == asset["file_size_bytes"] == (data_dir / "objects" / asset["href"]).stat().st_size
    assert list((data_dir / "scratch").iterdir()) == []
    came = data_dir / "came.tif"
    came.write_bytes(data)
    with rasterio.open(came) as original, rasterio.open(data_dir / "objects" / asset["href"]) as made:
        assert (original.read() == made.read()).all()


def test_killed_in_a_put_and_given_up(database, place, tmp_path, shared_data, tiff):
    """Nobody comes back: giving up frees the room and removes what had come, also what was never finished."""
    with up(tmp_path, database, shared_data, GEOPERA_CRASH_AT="upload-put-stored") as first:
        sender = client(first.ready_url(), place, tiff)
        upload_id = sender.begin(place.home.project_id)
        with pytest.raises(httpx.TransportError):
            sender.send(upload_id)
        assert first.was_killed()
        sender.http.close()
    unfinished = tmp_path / "objects" / f"projects/{place.home.project_id}/uploads/{upload_id}/raw/x/cut.tif#1"
    unfinished.parent.mkdir(parents=True)
    unfinished.write_bytes(tiff[:100])
    with up(tmp_path, database, shared_data) as second:
        sender = client(second.ready_url(), place, tiff)
        failed = sender.op("uploads.fail", {"upload_id": upload_id, "error_message": "gone home"})
        assert failed["reserved_bytes"] == 0
        deadline = time.monotonic() + 20
        while objects_below(tmp_path):
            assert time.monotonic() < deadline, objects_below(tmp_path)
            time.sleep(0.05)
        sender.http.close()
        assert second.terminate() == 0
    with psycopg.connect(database) as conn:
        assert conn.execute("SELECT sum(reserved_bytes)::int FROM storage_total").fetchone() == (0,)
